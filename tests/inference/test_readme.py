"""What README says of long audio runs as it stands."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parents[2] / "README.md"


def test_long_audio_windows_enrolment(make_wav, tmp_path, monkeypatch):
    section = README.read_text().split("## Long audio, windows, enrolment")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    for seed, (name, seconds) in enumerate((("hours", 4.0), ("a", 2.0), ("b", 1.0))):
        make_wav(tmp_path / f"{name}.wav", seconds, seed)
    names: dict = {}
    exec(code[1], names)
    assert len(names["vectors"]) == len(names["spans"]) == 5
    np.testing.assert_array_equal(names["speaker"], names["encoder"].enrol(["a.wav", "b.wav"]))
