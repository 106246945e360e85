"""``verify``: where it decides, what it warns of, and what it refuses before it says anything."""

import json
import shutil

import pytest

from speakervlad import __version__
from speakervlad.inference.card import find_encoder


@pytest.fixture
def pair(make_wav, tmp_path):
    return make_wav(tmp_path / "a.wav", 2.5), make_wav(tmp_path / "b.wav", 2.5, seed=1)


@pytest.fixture
def encoder(tmp_path):
    """The exported encoder that ships, with its thresholds and its calibration beside it."""
    for name in ("model.onnx", "thresholds.json", "calibration.json"):
        shutil.copy(find_encoder("small") / name, tmp_path)
    return tmp_path / "model.onnx"


def refusal(run, capsys, *arguments):
    """The line on stderr with which ``verify`` ends before it prints anything."""
    assert run("verify", *arguments) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.count("\n") == 1
    return shown.err


def test_a_false_acceptance_rate_chooses_the_threshold(run, capsys, pair, encoder):
    known = json.loads((encoder.parent / "thresholds.json").read_text())
    run("verify", *pair, "--encoder", encoder, "--far", "0.001")
    shown = capsys.readouterr()
    assert f"threshold  {known['false_accept_rate']['0.001']:.4f}" in shown.out
    assert "probability" in shown.out
    assert not shown.err


def test_an_unknown_rate_names_those_there_are(run, capsys, pair, encoder):
    line = refusal(run, capsys, *pair, "--encoder", encoder, "--far", "0.5")
    assert "Choose 0.01, 0.001, 0.0001, or pass --threshold" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "nan"], "--threshold nan: is not finite"),
        (["--threshold=-inf"], "--threshold -inf: is not finite"),
        (["--threshold", "0.5", "--far", "0.01"], "Give one of them"),
        (["--p-target", "2"], "operating point 2: p_target must lie between 0 and 1"),
    ],
)
def test_impossible_options_are_refused(run, capsys, pair, options, words):
    assert words in refusal(run, capsys, *pair, *options)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"weights": [1, 2], "bias": 0, "quality": [], "p_target": 0.5, '
        '"num_target": 1, "num_nontarget": 1}',
    ],
)
def test_a_useless_calibration_is_refused(run, capsys, pair, encoder, text):
    (encoder.parent / "calibration.json").write_text(text)
    assert "calibration" in refusal(run, capsys, *pair, "--encoder", encoder)


def test_short_recordings_are_warned_of(run, capsys, make_wav, pair, tmp_path):
    short = make_wav(tmp_path / "short.wav", 1.25)
    run("verify", short, pair[0])
    shown = capsys.readouterr()
    assert shown.err.startswith(f"WARNING  {short}: 1.25 s of audio: below 2 s")
    assert shown.err.count("\n") == 1
    assert "probability" in shown.out


def test_version(run, capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"speakervlad {__version__}\n"
