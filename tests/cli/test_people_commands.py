"""Enrolling and identifying at the command line, with the recordings of the package."""

import json
import logging
import sqlite3

import pytest
import soundfile

from speakervlad.audio.examples import copy_examples
from speakervlad.cli.console import set_up_logging


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    copy_examples(folder)
    return folder


@pytest.fixture
def people(run, clips, tmp_path):
    """The command line with a store in which Alex and Kim are."""
    store = ("--store", tmp_path / "people.db")
    for name in ("alex", "kim"):
        files = (clips / f"{name}-1.opus", clips / f"{name}-2.opus")
        assert run("people", "add", name.title(), *files, *store) == 0
    return lambda *words: run(*words, *store)


def test_newcomer_enrols_two_and_a_third_is_unknown(people, clips, capsys):
    capsys.readouterr()
    assert people("identify", clips / "kim-3.opus") == 0
    assert "kim-3.opus  Kim  [Kim " in capsys.readouterr().out
    assert people("identify", clips / "kim-3.opus", clips / "sam-1.opus", "--json") == 1
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["name"] for answer in answers] == ["Kim", None]
    assert [each["name"] for each in answers[0]["candidates"]] == ["Kim", "Alex"]


def test_bad_recording_in_a_batch_is_told_and_the_others_are_answered(
    people, clips, tmp_path, make_waveform, capsys
):
    noise = tmp_path / "noise.wav"
    soundfile.write(noise, 0.01 * make_waveform(2.0), 16000)
    capsys.readouterr()
    assert people("identify", noise, clips / "alex-3.opus") == 2
    said = capsys.readouterr()
    assert "alex-3.opus  Alex" in said.out
    assert f"{noise}: 0.00 s of speech found in 2.00 s" in " ".join(said.err.split())


def test_list_show_rename_forget(people, capsys):
    assert people("people", "rename", "Alex", "Alexandra") == 0
    assert people("people", "forget", "Kim") == 0
    capsys.readouterr()
    assert people("people", "list", "--json") == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["name"], line["num_recordings"]) == ("Alexandra", 2)
    assert people("people", "show", "Alexandra") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert people("people", "show", "Kim") == 2
    assert people("people", "forget", "Alexandra") == 0
    assert people("people", "list") == 2
    assert "the store is empty" in capsys.readouterr().err


def test_control_characters_of_a_tampered_store_never_reach_the_terminal(people, tmp_path, capsys):
    name = "Kim\x1b[2J\x9b31m\u202e\nKim"
    with sqlite3.connect(tmp_path / "people.db") as database:
        database.execute("UPDATE people SET name = ? WHERE name = 'Kim'", (name,))
        database.execute("UPDATE recordings SET note = ?", (name,))
    database.close()
    capsys.readouterr()
    for words in (
        ("people", "list"),
        ("people", "list", "--json"),
        ("people", "show", "Alex"),
        ("people", "show", "Alex", "--json"),
        ("people", "forget", "nobody"),
        ("people", "rename", name, "Alex"),
    ):
        people(*words)
        said = "".join(capsys.readouterr())
        assert not set("\x1b\x9b\u202e") & set(said)
        assert words[-1] == "--json" or len(said.splitlines()) <= 2
        if words[-1] == "--json":
            json.loads(said)
    assert people("people", "list") == 0
    assert r"Kim\x1b[2J\x9b31m\u202e\nKim" in capsys.readouterr().out


def test_log_lines_show_control_characters(capsys):
    set_up_logging()
    logging.getLogger("speakervlad").warning("%s: is short", "a\x1b[2J.wav")
    assert r"a\x1b[2J.wav: is short" in capsys.readouterr().err
