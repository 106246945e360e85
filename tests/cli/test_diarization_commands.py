"""``diarize`` and ``der``: the command line of who speaks when."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.diarization.turns import Turn, Turns, load_turns, save_turns


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talks = {name: Turns(name, (Turn(0, 8, "x"), Turn(8, 10, "y"))) for name in ("a", "b")}
    save_turns("reference.rttm", talks.values())
    for talk in talks.values():
        save_turns(f"found/{talk.recording}.json", talk.rename({"y": "x"}), "json")
    return tmp_path


def test_der_by_recording_and_in_all(run, folder, capsys):
    assert run("der", "reference.rttm", "found") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["recording", "a", "b", "all"]
    assert lines[1][1:] == ["20.00%", "0.00%", "0.00%", "20.00%", "60.00%", "2", "1"]
    assert run("der", "reference.rttm", "found", "--json") == 0
    assert json.loads(capsys.readouterr().out)["all"]["confusion"] == 4


def test_a_damaged_reference_is_named_in_one_line(run, folder, capsys):
    (folder / "reference.rttm").write_text("SPEAKER a 1 0 8 <NA> <NA> x\nSPEAKER a 1 8\n")
    assert run("der", "reference.rttm", "found") == 2
    assert capsys.readouterr().err.startswith("error: reference.rttm, line 2: 4 fields. Expected")
    assert run("der", "nowhere.rttm", "found") == 2
    assert "nowhere.rttm" in capsys.readouterr().err


def test_one_recording_is_not_judged_by_the_reference_of_another(run, folder, capsys):
    for name in ("x", "y"):
        save_turns(f"{name}.rttm", Turns(name, (Turn(0, 1, "a"),)))
    save_turns("z.srt", Turns("z", (Turn(0, 1, "a"),)), "srt")
    assert run("der", "x.rttm", "y.rttm") == 2
    assert "of the recording 'x', the hypothesis of 'y'. --any-name" in capsys.readouterr().err
    assert run("der", "x.rttm", "y.rttm", "--any-name") == 0
    assert run("der", "x.rttm", "z.srt") == 0
    assert "WARNING" not in capsys.readouterr().err


def test_a_rate_of_nothing_is_undefined(run, folder, capsys):
    Path("empty.rttm").write_text("")
    assert run("der", "empty.rttm", "found") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1][:2] == ["a", "undefined"]
    assert lines[3][:4] == ["all", "undefined", "0.00", "s"]
    assert run("der", "empty.rttm", "found", "--json") == 0
    assert json.loads(capsys.readouterr().out)["all"]["der"] is None
    assert run("der", "reference.rttm", "found", "--collar", "40") == 0
    shown = capsys.readouterr()
    assert "undefined" in shown.out
    assert "nothing of its reference is left" in shown.err


def test_a_uem_names_what_is_judged(run, folder, capsys):
    Path("a.uem").write_text("a 1 0 4\na 1 8 10\n")
    assert run("der", "reference.rttm", "found", "--uem", "a.uem") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[1:]] == [["a", "33.33%"]]
    Path("a.uem").write_text("a 1 0 4\na 1 8\n")
    assert run("der", "reference.rttm", "found", "--uem", "a.uem") == 2
    assert "a.uem, line 2" in capsys.readouterr().err


def test_der_without_scipy_names_the_extra(run, folder, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("der", "reference.rttm", "found") == 2
    assert "pip install 'speakervlad[diarization]'" in capsys.readouterr().err


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """One voice for 3 s, and silence."""
    monkeypatch.chdir(tmp_path)
    said = synthesise(Voice.draw(np.random.default_rng(1)), np.random.default_rng(0), 3.0)
    soundfile.write("a.wav", np.pad(0.5 * said / np.abs(said).max(), 8000), 16000)
    soundfile.write("silence.wav", np.zeros(32000), 16000)
    return tmp_path


def test_diarize_writes_every_form_that_is_asked_for(run, recordings, capsys):
    forms = ("--rttm", "--json", "--srt", "--labels")
    assert run("diarize", "a.wav", "silence.wav", "--out", "turns", *forms) == 0
    said = capsys.readouterr().out
    assert "a.wav: 1 turn in 4.0 s: speaker_1" in said
    assert "silence.wav: nobody speaks in 2.0 s" in said
    names = {
        f"{name}.{suffix}" for name in ("a", "silence") for suffix in ("rttm", "json", "srt", "txt")
    }
    assert {path.name for path in (recordings / "turns").iterdir()} == names
    assert list(load_turns("turns/a.json")["a"].speakers) == ["speaker_1"]
    assert load_turns("turns/silence.rttm") == {}


def test_diarize_names_what_it_cannot_write(run, recordings, capsys):
    Path("turns").write_text("a file")
    assert run("diarize", "a.wav", "--out", "turns", "--srt") == 2
    assert "turns/a.srt: cannot be written" in capsys.readouterr().err


def test_diarize_goes_on_after_a_bad_file(run, recordings, capsys):
    (recordings / "bad.wav").write_bytes(b"no audio")
    assert run("diarize", "bad.wav", "a.wav", "--out", "turns") == 2
    assert "bad.wav" in capsys.readouterr().err
    assert (recordings / "turns/a.rttm").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.wav", "b/a.wav"], "a.wav, b/a.wav: all would be a in --out"),
        (["a.wav", "--speakers", 2, "--max-speakers", 3], "--speakers says how many"),
        (["a.wav", "--speakers", 4], "a: 3.1 s of speech are too little for 4 speakers"),
        (["a.wav", "--store", "nowhere.db"], "nowhere.db"),
        (["a.wav", "--channels", "separate", "--channel", 0], "it leaves nothing to --channel."),
        (["a.wav", "--channels", "separate", "--speakers", 2], "it leaves nothing to --speakers"),
        (["a.wav", "--min-seconds", 0], "min_seconds=0.0: must be at least 0.2"),
    ],
)
def test_diarize_refuses_in_one_line(run, recordings, capsys, arguments, words):
    assert run("diarize", *arguments, "--out", "turns") == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert said.count("error:") == 1


def test_whatever_stops_one_recording_stops_no_other(run, recordings, capsys, monkeypatch):
    from speakervlad.diarization import speakers as module

    whole = module.cluster
    monkeypatch.setattr(module, "cluster", lambda *_: np.linalg.inv(np.zeros((2, 2))))
    (recordings / "bad.wav").write_bytes(b"no audio")
    files = ("a.wav", "bad.wav", "silence.wav")
    assert run("diarize", *files, "--out", "turns", "--bad-list", "bad.csv") == 2
    said = capsys.readouterr()
    assert "silence.wav: nobody speaks" in said.out
    assert "error: a.wav: Singular matrix (LinAlgError; --debug" in said.err
    assert said.err.count("error: ") == 2
    assert [row.partition(",")[0] for row in Path("bad.csv").read_text().splitlines()] == [
        "file", "a.wav", "bad.wav"
    ]  # fmt: skip
    monkeypatch.setattr(module, "cluster", whole)
    assert run("diarize", *files, "--out", "turns", "--max-bad", "40%") == 0
    assert "left out: bad.wav: not an audio file" in capsys.readouterr().err
    assert run("speech", *files, "--max-bad", "0.4") == 0
    assert run("speech", *files, "--max-bad", "30%") == 2
    assert run("speech", "bad.wav", "--max-bad", "100%") == 2


@pytest.mark.parametrize("command", [["speech"], ["diarize", "--out", "turns"]])
def test_where_nobody_speaks_for_a_reason_it_is_told(
    run, recordings, shared_cases, capsys, command
):
    assert run(*command, shared_cases / "antiphase.flac", shared_cases / "q60.wav") == 0
    told = capsys.readouterr().err
    assert "antiphase.flac: its channels cancel each other (one is inverted?)" in told
    assert "q60.wav: very quiet (-81 dB): little of the voice is left in it" in told
    assert told.count("WARNING") == 2


def test_fewer_speakers_than_were_asked_for_are_told(run, recordings, capsys, monkeypatch):
    from speakervlad.diarization import diarize as module

    monkeypatch.setattr(module, "speakers_of_cells", lambda cells, *_: np.zeros(len(cells), int))
    assert run("diarize", "a.wav", "--out", "turns", "--min-speakers", 3, "--min-seconds", 1) == 0
    shown = capsys.readouterr()
    assert "a.wav: 1 speakers found, fewer than the 3 that were asked for" in shown.err
    assert "speaker_1" in shown.out


def test_turns_are_printed_where_no_output_is_named(run, recordings, capsys, monkeypatch):
    assert run("diarize", "a.wav") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("SPEAKER a 1 0.")
    for arguments in (["--out", "-"], ["--rttm"]):
        assert run("diarize", "a.wav", *arguments) == 0
        assert capsys.readouterr().out == printed
    assert run("diarize", "a.wav", "silence.wav", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["recording"] for each in found] == ["a", "silence"]
    assert [each["speaker"] for each in found[0]["turns"]] == ["speaker_1"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run("diarize", "a.wav", "silence.wav") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("a.wav: 1 turn in 4.0 s")
    assert table[1].split()[-1] == "speaker_1"
    assert table[2] == "silence.wav: nobody speaks in 2.0 s"
    assert not Path("-").exists()


def test_the_suffix_of_the_output_says_the_form(run, recordings, capsys):
    forms = ("rttm", "srt", "vtt", "csv", "json", "txt")
    for form in forms:
        assert run("diarize", "a.wav", "--out", f"found/a.{form}") == 0
    read = [load_turns(f"found/a.{form}")["a"].turns for form in forms]
    first = read[0][0]
    assert first.speaker == "speaker_1"
    for (turn,) in read:
        assert turn.speaker == first.speaker
        assert turn[:2] == pytest.approx(first[:2], abs=1e-6)
    assert "WEBVTT" in Path("found/a.vtt").read_text()
    assert run("diarize", "a.wav", "silence.wav", "--out", "both.rttm") == 0
    assert list(load_turns("both.rttm")) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.wav", "silence.wav", "--out", "x.srt"], "x.srt: srt holds one recording, not 2"),
        (["a.wav", "--out", "x.srt", "--rttm"], "x.srt: is srt by its suffix. Leave --rttm"),
        (["a.wav", "--srt", "--json"], "standard output: holds one form, not json and srt"),
        (["a.wav", "silence.wav", "--vtt"], "standard output: vtt holds one recording, not 2"),
    ],
)
def test_outputs_that_contradict_themselves_are_refused(run, recordings, capsys, arguments, words):
    assert run("diarize", *arguments) == 2
    assert words in capsys.readouterr().err


def test_the_users_own_store_names_speakers(run, examples_folder, capsys):
    assert run("people", "add", "Kim", "kim-1.opus", "kim-2.opus") == 0
    capsys.readouterr()
    assert run("diarize", "kim-3.opus") == 0
    assert " Kim " in capsys.readouterr().out
    assert run("diarize", "kim-3.opus", "--no-names") == 0
    assert " speaker_1 " in capsys.readouterr().out
    assert run("diarize", "kim-3.opus", "--encoder", "small") == 0
    shown = capsys.readouterr()
    assert " speaker_1 " in shown.out
    assert "made by another encoder: nobody gets a name" in shown.err


@pytest.fixture
def examples_folder(tmp_path, monkeypatch):
    from speakervlad.audio.examples import copy_examples

    monkeypatch.chdir(tmp_path)
    copy_examples(tmp_path)
    return tmp_path


def test_diarize_says_that_nobody_speaks_where_it_prints_no_turns(run, recordings, capsys):
    assert run("diarize", "silence.wav", "--rttm") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "silence.wav: nobody speaks in 2.0 s" in said.err
