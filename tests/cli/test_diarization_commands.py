"""``der``: the command line of who speaks when."""

import json

import pytest

from speakervlad.evaluation.turns import Turn, Turns, write_turns


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talks = {name: Turns(name, (Turn(0, 8, "x"), Turn(8, 10, "y"))) for name in ("a", "b")}
    write_turns("reference.rttm", talks.values())
    for talk in talks.values():
        write_turns(f"found/{talk.recording}.json", talk.rename({"y": "x"}), "json")
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


def test_der_without_scipy_names_the_extra(run, folder, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("der", "reference.rttm", "found") == 2
    assert "pip install 'speakervlad[diarization]'" in capsys.readouterr().err
