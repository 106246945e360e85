"""Enrolling and identifying at the command line, with the recordings of the package."""

import json
import logging
import os
import re
import shutil
import sqlite3
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from speakervlad import PeopleStore, load_encoder
from speakervlad.audio.examples import copy_examples
from speakervlad.cli.console import set_up_logging


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    copy_examples(folder)
    return folder


@pytest.fixture(scope="module")
def enrolled(clips, tmp_path_factory):
    """``enrolled(name, Alex=["alex-1"], ...)``: a store in which they are, made once."""
    folder = tmp_path_factory.mktemp("stores")

    def make(name, **recordings):
        store = folder / name
        if not store.exists():
            with PeopleStore(store) as people:
                for person, files in recordings.items():
                    people.add(person, [clips / f"{file}.opus" for file in files])
        return store

    return make


@pytest.fixture
def people(run, enrolled, tmp_path):
    """The command line with a store in which Alex and Kim are."""
    kept = enrolled("people.db", Alex=["alex-1", "alex-2"], Kim=["kim-1", "kim-2"])
    store = ("--store", shutil.copy(kept, tmp_path))
    return lambda *words: run(*words, *store)


def test_people_are_enrolled_and_listed_in_columns(run, clips, tmp_path, capsys):
    store = ("--store", tmp_path / "people.db")
    assert run("people", "add", "Alexandra", clips / "alex-1.opus", *store) == 0
    files = (clips / "kim-1.opus", clips / "kim-2.opus")
    assert run("people", "add", "Kim", *files, *store) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Alexandra: 1 recording added, 1 in all, 7.6 s",
        "Kim: 2 recordings added, 2 in all, 13.8 s",
    ]
    assert run("people", "list", *store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:-12] for line in lines] == [
        "Alexandra  1 recording      1 voice         7.6 s",
        "Kim        2 recordings     1 voice        13.8 s",
    ]


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


@pytest.fixture
def five(run, enrolled, tmp_path):
    """The command line with a store of five people, each with one recording."""
    names = ("alex", "jo", "kim", "robin", "sam")
    kept = enrolled("five.db", **{name: [f"{name}-1"] for name in names})
    store = ("--store", shutil.copy(kept, tmp_path))
    return lambda *words: run(*words, *store)


def test_one_voice_under_two_names_is_asked_about_and_harms_nobody(five, clips, capsys):
    capsys.readouterr()
    assert five("people", "add", "alexx", clips / "alex-2.opus") == 2
    said = capsys.readouterr().err
    assert f"alexx: not enrolled: {clips / 'alex-2.opus'}: sounds like alex (0." in said
    assert "--yes enrols all the same" in said
    assert five("people", "show", "alexx") == 2
    assert five("people", "add", "alexx", clips / "alex-2.opus", "--yes") == 0
    assert "sounds like alex (0." in capsys.readouterr().err
    others = ("jo-2", "kim-2", "kim-3", "robin-2", "sam-2")
    assert five("identify", *(clips / f"{name}.opus" for name in others), "--json") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["name"] for answer in answers] == [name[:-2] for name in others]
    assert all(answer["threshold"] < 0.7 for answer in answers)
    assert all(answer["mixture"] is None for answer in answers)


def test_a_recording_unlike_the_others_is_told_listed_and_removed(five, clips, tmp_path, capsys):
    assert five("people", "add", "kim", clips / "sam-2.opus") == 2
    said = capsys.readouterr().err
    assert "sam-2.opus: sounds like sam (0." in said
    assert "sam-2.opus: is unlike the other recordings of kim (cosine -0." in said
    assert five("people", "add", "kim", clips / "kim-2.opus", "--note", "own") == 0
    assert five("people", "add", "kim", clips / "sam-2.opus", "-y", "--note", "not hers") == 0
    assert "2 voices far apart" in capsys.readouterr().out
    assert five("people", "recordings", "kim", "--json") == 0
    kept = json.loads(capsys.readouterr().out)
    assert [each["note"] for each in kept] == ["", "own", "not hers"]
    assert [each["likeness"] > 0.5 for each in kept] == [True, True, False]
    assert five("people", "recordings", "kim") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert five("people", "forget", "kim", "sam", "--recording", kept[2]["id"]) == 2
    assert five("people", "forget", "kim", "--recording", "ffff") == 2
    assert "kim: 'ffff': no such recording" in capsys.readouterr().err
    assert five("people", "forget", "kim", "--recording", kept[2]["id"]) == 0
    assert "2 recordings left" in capsys.readouterr().err
    content = b"".join(each.read_bytes() for each in tmp_path.glob("five.db*"))
    assert b"not hers" not in content
    assert kept[2]["id"].encode() not in content
    assert kept[1]["id"].encode() in content
    assert five("identify", clips / "kim-3.opus", "--json") == 0
    (answer,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert answer["name"] == "kim"


def test_two_people_in_one_recording_are_told(five, clips, tmp_path, capsys):
    parts = [
        soundfile.read(clips / f"{name}.opus", dtype="float32")[0] for name in ("jo-2", "sam-2")
    ]
    both = tmp_path / "both.wav"
    soundfile.write(both, np.concatenate(parts), 16000)
    assert five("people", "add", "Pat", both) == 2
    said = capsys.readouterr().err
    assert re.search(r"both\.wav: two voices, one at [\d.]+-[\d., -]+ s, another at [\d.]+-", said)
    assert five("people", "show", "Pat") == 2
    capsys.readouterr()
    assert five("identify", both, "--json") in (0, 1)
    (answer,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    first, second = answer["mixture"]["spans"]
    assert first[0][0] < second[0][0]
    five("identify", both)
    assert "both.wav: two voices" in capsys.readouterr().err
    assert five("people", "add", "Pat", both, "--yes") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("\x04", 2)])
def test_doubts_are_asked_about_on_a_terminal(five, clips, monkeypatch, answer, code):
    main, terminal = os.openpty()
    os.write(main, answer.encode())
    said = []
    reader = threading.Thread(target=read_all, args=(main, said))
    reader.start()
    with (
        os.fdopen(terminal) as typed,
        os.fdopen(os.dup(terminal), "w") as seen,
        monkeypatch.context() as patch,
    ):
        patch.setattr("sys.stdin", typed)
        patch.setattr("sys.stderr", seen)
        assert five("people", "add", "alexx", clips / "alex-2.opus") == code
    reader.join(60)
    os.close(main)
    assert b"sounds like alex" in b"".join(said)
    assert b"[y/N]" in b"".join(said)
    assert five("people", "show", "alexx") == code


def read_all(terminal, said):
    """Whatever is written to a terminal, until nobody has it any more."""
    with suppress(OSError):
        while True:
            said.append(os.read(terminal, 1000))


def test_a_store_of_an_earlier_default_is_read_with_its_encoder(run, tmp_path, monkeypatch, capsys):
    """0.2.0's default is `small` now: such a store goes on, and one line says how to move on."""
    monkeypatch.chdir(tmp_path)
    copy_examples(tmp_path)
    assert run("people", "add", "Jo", "jo-1.opus", "--store", "old.db", "--encoder", "small") == 0
    capsys.readouterr()
    assert run("identify", "jo-2.opus", "--store", "old.db") == 0
    shown = capsys.readouterr()
    assert "Jo  [Jo" in shown.out
    assert "old.db: was made by the encoder small" in shown.err
    assert run("people", "add", "Jo", "jo-2.opus", "--store", "old.db") == 0
    with PeopleStore("old.db") as store:
        assert store.encoder.fingerprint == load_encoder("small").fingerprint
