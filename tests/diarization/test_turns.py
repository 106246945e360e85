"""Turns of speakers: their files and what is done with them."""

import json
from pathlib import Path

import pytest

from speakervlad.diarization.turns import FORMS, Turn, Turns, load_turns, save_turns
from speakervlad.errors import InputError

TALK = Turns(
    "talk", (Turn(3723.5, 3725.25, "Bo"), Turn(0.25, 2, "Ann"), Turn(1.5, 4, "Bo")), 3800.0
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_it_was_written(form, tmp_path):
    path = tmp_path / f"talk{FORMS[form].suffix}"
    save_turns(path, TALK, form)
    assert load_turns(path)["talk"].turns == TALK.turns
    assert TALK.turns[0].speaker == "Ann"


def test_forms_as_others_read_them():
    assert TALK.to_rttm().splitlines()[0] == "SPEAKER talk 1 0.250 1.750 <NA> <NA> Ann <NA> <NA>"
    assert TALK.to_labels().splitlines()[1] == "1.500\t4.000\tBo"
    assert TALK.to_srt().splitlines()[-3:-1] == ["01:02:03,500 --> 01:02:05,250", "Bo"]
    assert json.loads(TALK.to_json())["speakers"][1] == {"name": "Bo", "seconds": 4.25}


def test_rttm_of_others_is_read(tmp_path):
    path = tmp_path / "all.rttm"
    path.write_text(
        ";; a comment\nSPKR-INFO a 1 <NA> <NA> <NA> unknown x <NA> <NA>\n\n"
        "SPEAKER a 1 0 1.5 <NA> <NA> x <NA> <NA>\nSPEAKER b 1 2 1 <NA> <NA> y\n"
        "SPEAKER b 1 9 0 <NA> <NA> y <NA> <NA>\n"
    )
    turns = load_turns(path)
    assert turns["a"].turns == ((0, 1.5, "x"),)
    assert turns["b"].turns == ((2, 3, "y"),)


@pytest.mark.parametrize(
    "line",
    [
        "SPEAKER a 1 0 1.5 <NA>",
        "SPEAKER a 1 zero 1.5 <NA> <NA> x <NA> <NA>",
        "SPEAKER a 1 0 -1.5 <NA> <NA> x <NA> <NA>",
        "SPEAKER a 1 0 1.5 <NA> <NA> Ada Lovelace <NA> <NA>",
        "SPEAKER a 1 0 1.5 <NA> <NA> Ada Lovelace <NA>",
        "SPEAKER a 1 0 1.5 <NA> <NA> Ada Lovelace",
        "SPEAKER my talk 1 0 1.5 <NA> <NA> x <NA> <NA>",
        "SPEAKER my talk 1 0 1.5 <NA> <NA> x <NA>",
        "SPEAKER my talk 1 0 1.5 <NA> <NA> x",
        "SPEAKER my own talk 1 0 1.5 <NA> <NA> x",
        "SPEAKER talk 7 1 0 1.5 <NA> <NA> x",
        "SPKR-INFO my talk 1 <NA> <NA> <NA> unknown Ada Lovelace <NA> <NA>",
        "SPEAKER a 1 nan 1.5 <NA> <NA> x <NA> <NA>",
        "SPEAKER a 1 1_0 1.5 <NA> <NA> x <NA> <NA>",
        "SPEAKER a 1 0 inf <NA> <NA> x <NA> <NA>",
        "SPEKER a 1 0 1 <NA> <NA> x <NA> <NA>",
        "0.0 1.0 x",
    ],
)
def test_a_damaged_line_of_rttm_is_named(line, tmp_path):
    path = tmp_path / "bad.rttm"
    path.write_text("SPEAKER a 1 0 1.5 <NA> <NA> x <NA> <NA>\n" + line + "\n")
    with pytest.raises(InputError, match=r"bad\.rttm, line 2: .*The line reads"):
        load_turns(path)


@pytest.mark.parametrize("rest", ["", " <NA>", " <NA> <NA>"])
def test_numbered_speakers_with_a_space_are_not_taken_for_one(rest, tmp_path):
    path = tmp_path / "bad.rttm"
    line = "SPEAKER a 1 {} 1.5 <NA> <NA> speaker {}{}\n"
    path.write_text(line.format(0, 0, rest) + line.format(2, 1, rest))
    with pytest.raises(InputError, match=r"bad\.rttm, line (1|2): .*white space in"):
        load_turns(path)
    path.write_text(
        "SPEAKER a 1 0 1 <NA> <NA> x 0.5 <NA>\nSPEAKER a 1 2 1 <NA> <NA> x 1.0\n"
        "SPEAKER a 1 4 1 <NA> <NA> y 1 <NA>\nSPEAKER a 1 6 1 <NA> <NA> y 1 <NA>\n"
    )
    assert list(load_turns(path)["a"].speakers) == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"turns": [{"start": 0, "end": 1, "speaker": null}]}'),
        ("a.txt", "0.0\t1.0\tx\n1.0\tx\n"),
        ("a.txt", "0.0\t1.0\tx\n2.0\t1.0\tx\n"),
        ("a.txt", "0.0\t1_0\tx\n"),
        ("a.srt", "00:00:00,000 --> 00:00:soon\nx\n"),
        ("a.json", "[1]"),
        ("a.json", '{"turns": [{"start": 2, "end": 1, "speaker": "x"}]}'),
        ("a.json", "[" * 100_000),
        ("a.rttm", b"\xff\xfe\x00"),
    ],
)
def test_other_damaged_files_are_named(name, text, tmp_path):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=name):
        load_turns(tmp_path / name)


def test_turns_without_a_recording_are_of_their_files(tmp_path):
    (tmp_path / "call.json").write_text('{"recording": null, "turns": []}')
    assert list(load_turns(tmp_path / "call.json")) == ["call"]


def test_a_folder_is_all_files_of_its_first_form(tmp_path):
    for name in ("a", "b"):
        save_turns(tmp_path / f"{name}.rttm", Turns(name, (Turn(0, 1, "x"),)))
        save_turns(tmp_path / f"{name}.json", Turns(name, (Turn(0, 1, "x"),)), "json")
    assert list(load_turns(tmp_path)) == ["a", "b"]
    save_turns(tmp_path / "c.rttm", Turns("a", (Turn(0, 1, "x"),)))
    with pytest.raises(InputError, match=r"c\.rttm: 'a' stands in another file"):
        load_turns(tmp_path)
    (tmp_path / "c.rttm").write_text("")
    assert load_turns(tmp_path)["c"] == Turns("c")


def test_recordings_in_which_nobody_speaks_may_be_named_in_other_lines(tmp_path):
    path = tmp_path / "all.rttm"
    path.write_text("SPKR-INFO a 1 <NA> <NA> <NA> unknown x <NA> <NA>\n")
    assert load_turns(path) == {"a": Turns("a")}
    assert Turns("", (Turn(0, 1, "x"),)).to_rttm().startswith("SPEAKER _ 1 0.000")


def test_white_space_in_names_is_no_field_of_rttm():
    turns = Turns("my talk", (Turn(0, 1, "Ann  Lee"), Turn(1, 2, "Bo")))
    assert turns.to_rttm().splitlines()[0].split()[1::6] == ["my_talk", "Ann_Lee"]
    with pytest.raises(InputError, match="Rename one of them"):
        turns.rename({"Bo": "Ann_Lee"}).to_rttm()


def test_renaming_to_a_name_that_is_taken_joins_both():
    assert TALK.rename({"Bo": "Ann"}).turns == ((0.25, 4, "Ann"), (3723.5, 3725.25, "Ann"))
    assert TALK.rename({"Bo": "Cy"}).speakers == {"Ann": 1.75, "Cy": 4.25}


def test_turns_end_after_they_start():
    with pytest.raises(InputError, match="talk: a turn from 2"):
        Turns("talk", (Turn(2, 2, "x"),))


def test_one_recording_a_file_but_in_rttm(tmp_path):
    both = [Turns("a", (Turn(0, 1, "x"),)), Turns("b", (Turn(0, 1, "x"),))]
    save_turns(tmp_path / "all.rttm", both)
    assert list(load_turns(tmp_path / "all.rttm")) == ["a", "b"]
    with pytest.raises(InputError, match="srt holds one recording"):
        save_turns(tmp_path / "all.srt", both, "srt")
    with pytest.raises(InputError, match="Did you mean 'rttm'"):
        save_turns(tmp_path / "all.rttm", both, "rtm")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_devices_are_no_files_of_turns():
    with pytest.raises(InputError, match="is a device or a pipe"):
        load_turns("/dev/zero")
