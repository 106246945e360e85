"""The Python of docs/diarization.md runs as it stands."""

import re
from pathlib import Path

import soundfile


def test_the_example_of_the_page(talk, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs/diarization.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    soundfile.write(tmp_path / "meeting.wav", talk[0][: 8 * 16000], 16000)
    monkeypatch.chdir(tmp_path)
    exec(code[1], {})
    assert "-->" in capsys.readouterr().out
