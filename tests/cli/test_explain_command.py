"""The command ``explain``."""

import json
import sys

import numpy as np
import pytest

from speakervlad.encoder.encoder import load_encoder
from speakervlad.schema import Part


@pytest.fixture
def material(tmp_path, save_tiny_encoder, make_wav, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny_encoder(tmp_path / "encoder")
    for seed, name in enumerate("ab"):
        make_wav(tmp_path / f"{name}.wav", 1.5, seed)
    return load_encoder("encoder")


def test_prints_and_draws_one_recording(run, material, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert run("explain", "a.wav", "--encoder", "encoder", "--out", "a.png") == 0
    said = capsys.readouterr().out
    assert "a.wav: 3 clusters, ghosts: 1, " in said
    share = material.assignments("a.wav")[3:].sum(axis=0).mean()
    assert f"ghosts     {share:.1%} of the weight" in said
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_prints_what_two_recordings_have_in_common(run, material, tmp_path, capsys):
    assert run("explain", "a.wav", "b.wav", "--encoder", "encoder", "--json", "e.json") == 0
    numbers = json.loads((tmp_path / "e.json").read_text())
    cosine = float(material.embed("a.wav") @ material.embed("b.wav"))
    assert sum(numbers["contributions"]) == pytest.approx(cosine, abs=1e-5)
    said = capsys.readouterr().out
    assert f"cosine     {cosine:.4f}" in said
    assert said.count("\ncluster ") == 3
    shares = np.array(numbers["recordings"]["b.wav"]["shares"])
    np.testing.assert_allclose(shares, material.assignments("b.wav"), atol=1e-4)


def test_prints_the_ghosts_share_of_noise_that_is_put_in(run, material, capsys):
    options = ("--noise", 0.5, "--noise-at", 1, "--encoder", "encoder")
    assert run("explain", "a.wav", *options) == 0
    said = capsys.readouterr().out
    assert "frames in 2.00 s" in said
    assert "noise      1.00 to 1.50 s: ghosts have " in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.wav", "--encoder", "average"), "no clusters: its pooling is not a VLAD layer"),
        (("a.wav", "--noise-at", 1), "--noise-at goes with --noise"),
        (("a.wav", "--noise", -1), "must be above 0"),
        (("c.wav",), "c.wav"),
        (("a.wav", "--out", "a.mp3"), "unknown picture type"),
        (("a.wav", "--json-out", "."), "is a folder"),
    ],
)
def test_bad_input_is_one_line(run, material, save_tiny_encoder, capsys, arguments, words):
    save_tiny_encoder(material.folder.parent / "average", pooling=Part("average"))
    given = arguments if "--encoder" in arguments else (*arguments, "--encoder", "encoder")
    assert run("explain", *given) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said


def test_without_matplotlib_numbers_are_printed_and_a_picture_is_refused(
    run, material, monkeypatch, capsys
):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    assert run("explain", "a.wav", "--encoder", "encoder") == 0
    assert run("explain", "a.wav", "--encoder", "encoder", "--out", "a.png") == 2
    assert "pip install 'speakervlad[plots]'" in capsys.readouterr().err
