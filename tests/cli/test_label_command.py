"""``label``: the command line of words with their speakers."""

import json

from speakervlad.audio.examples import copy_examples
from speakervlad.diarization.turns import Turn, Turns, save_turns

TURNS = Turns("talk", (Turn(0, 3, "Ada"), Turn(3, 6, "Kim")))
WORDS = [
    {"word": " Good", "start": 0.2, "end": 0.6},
    {"word": " morning.", "start": 0.6, "end": 1.4},
    {"word": " Hello", "start": 3.2, "end": 3.6},
    {"word": " Ada.", "start": 3.6, "end": 4.2},
]
WHISPER = {"segments": [{"start": 0.0, "end": 6.0, "text": " Good ...", "words": WORDS}]}


def test_the_command_prints_text_and_writes_by_the_suffix(run, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.json").write_text(json.dumps(WHISPER))
    save_turns("talk.rttm", TURNS)
    assert run("label", "talk.json", "--turns", "talk.rttm") == 0
    assert capfd.readouterr().out.startswith("[0:00:00] Ada: Good morning.")
    assert run("label", "talk.json", "--turns", "talk.rttm", "--out", "out.srt") == 0
    assert "[Kim]: Hello Ada." in (tmp_path / "out.srt").read_text()
    assert capfd.readouterr().err == "2 segments of 2 speakers: out.srt\n"
    assert run("label", "talk.json") == 2
    assert "give the recording, or --turns" in capfd.readouterr().err
    assert run("label", "missing.json", "--turns", "talk.rttm") == 2
    assert "missing.json" in capfd.readouterr().err


def test_the_command_finds_the_turns_of_a_recording(run, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_examples(tmp_path)
    words = [{"word": " Hello", "start": 1.0, "end": 1.5}]
    segment = {"start": 0.0, "end": 3.0, "text": " Hello", "words": words}
    (tmp_path / "kim.json").write_text(json.dumps({"segments": [segment]}))
    assert run("label", "kim.json", "kim-1.opus") == 0
    assert capfd.readouterr().out == "[0:00:00] speaker_1: Hello\n"
