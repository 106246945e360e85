"""``speech``: its forms of output, and files that it cannot read."""

import json

import numpy as np
import pytest
import soundfile

from speakervlad import speech
from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.diarization.turns import load_turns


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A recording in which somebody speaks, and one of noise."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    said = synthesise(Voice.draw(rng), rng, 2.0)
    quiet = 1e-4 * rng.standard_normal(16000)
    soundfile.write(folder / "a.wav", np.concatenate([quiet, 0.3 * said, quiet]), 16000)
    soundfile.write(folder / "noise.wav", 0.05 * rng.standard_normal(32000), 16000)
    return folder / "a.wav", folder / "noise.wav"


def test_segments_are_printed_file_by_file(run, capsys, files):
    assert run("speech", *files) == 0
    first, *segments, last = capsys.readouterr().out.splitlines()
    found = speech(files[0])
    assert first.startswith(f"{files[0]}: {np.diff(found).sum():.2f} s of speech in ")
    assert [float(word) for word in " ".join(segments).split()] == found.ravel().round(3).tolist()
    assert last == f"{files[1]}: 0.00 s of speech in 2.00 s"


def test_json_is_an_object_a_line(run, capsys, files):
    assert run("speech", "--json", *files) == 0
    one, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert one["file"] == str(files[0])
    np.testing.assert_array_equal(one["segments"], speech(files[0]))
    assert other == {"file": str(files[1]), "seconds": 2.0, "speech": 0.0, "segments": []}


def test_turns_are_read_as_they_are_written(run, capsys, files, tmp_path):
    forms = {"--rttm": ("a.rttm", files), "--labels": ("a.txt", files[:1])}
    for option, (name, recordings) in forms.items():
        assert run("speech", option, *recordings) == 0
        (tmp_path / name).write_text(capsys.readouterr().out)
        (turns,) = load_turns(tmp_path / name).values()
        assert turns.recording == "a"
        np.testing.assert_allclose([turn[:2] for turn in turns.turns], speech(files[0]), atol=1e-3)


def test_one_form_at_a_time(run, capsys, files):
    assert run("speech", "--rttm", "--json", files[0]) == 2
    assert run("speech", "--labels", *files) == 2
    assert "Take --rttm" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_does_not_stop_the_others(run, capsys, files, tmp_path):
    (tmp_path / "x.wav").write_text("none")
    assert run("speech", tmp_path / "none.wav", tmp_path / "x.wav", *files) == 2
    shown = capsys.readouterr()
    assert "of speech in" in shown.out
    assert shown.err.count("error: ") == shown.err.count("\n") == 2
