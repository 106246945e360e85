"""What the documents say of Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs/embedding.md"


def run_block(path, heading, folder, make_speech, monkeypatch):
    """The names after the first Python block below a heading, beside a.wav and b.wav."""
    code = re.search(r"```python\n(.*?)```", path.read_text().split(heading)[1], re.DOTALL)
    assert code
    monkeypatch.chdir(folder)
    for seed, name in enumerate(("a", "b")):
        make_speech(folder / f"{name}.wav", 2.5, seed)
    names: dict = {}
    exec(code[1], names)
    return names


def test_the_readme_in_python(make_speech, tmp_path, monkeypatch):
    readme = PAGE.parents[1] / "README.md"
    names = run_block(readme, "## From Python", tmp_path, make_speech, monkeypatch)
    assert names["vectors"].shape == (2, names["encoder"].dim)
    assert names["answer"].score == pytest.approx(names["score"], abs=1e-5)
    assert names["answer"].same == (names["answer"].probability >= 0.5)
    assert names["cosine"] > names["encoder"].threshold()


def test_what_verify_decides(make_speech, tmp_path, monkeypatch):
    names = run_block(PAGE, "## What `verify` decides", tmp_path, make_speech, monkeypatch)
    assert names["answer"].threshold == names["encoder"].threshold(far=0.001)
    assert names["rule"].judge(0.7) == names["answer"]


def test_long_audio_windows_enrolment(make_wav, tmp_path, monkeypatch):
    section = PAGE.read_text().split("## Long audio, windows, enrolment")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    for seed, (name, seconds) in enumerate((("hours", 4.0), ("a", 2.0), ("b", 1.0))):
        make_wav(tmp_path / f"{name}.wav", seconds, seed)
    names: dict = {}
    exec(code[1], names)
    assert len(names["vectors"]) == len(names["spans"]) == 5
    np.testing.assert_array_equal(names["speaker"], names["encoder"].enrol(["a.wav", "b.wav"]))
