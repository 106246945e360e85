"""The Python of docs/live.md runs as it stands."""

import json
import re
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from speakervlad import PeopleStore, Recording, examples, load_audio, load_encoder, load_turns

PAGE = Path(__file__).parents[1] / "docs/live.md"
RATE = 16000


def code(heading):
    text = PAGE.read_text("utf-8").split(f"## {heading}\n")[1]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    # The smaller encoder, for the time it takes.
    return found[1].replace("load_encoder()", "load_encoder('small')")


@pytest.fixture(scope="module")
def call():
    """Samples of a call at 8 kHz, 20 ms at a time."""
    samples = np.concatenate([load_audio(examples()[name]) for name in ("alex-1", "jo-1")])
    slow = soxr.resample(samples, RATE, 8000)
    return [slow[start : start + 160] for start in range(0, len(slow), 160)]


def test_a_stream(call, capsys):
    names = {"call": call[::2]}
    exec(code("A stream"), names)
    assert names["stream"].has_ended
    assert capsys.readouterr().out


def test_who_of_a_store_is_speaking(call, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with PeopleStore("people.db", "small") as people:
        people.add("Alex", [examples()["alex-2"]])
    text = code("Who of a store is speaking").replace('"people.db"', '"people.db", "small"')
    exec(text, {"call": call})
    assert "Alex" in capsys.readouterr().out


def test_who_speaks_when(call, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = code("Who speaks when, live").replace(
        "diarize_live(", "diarize_live(load_encoder('small'), "
    )
    exec(text, {"call": call, "load_encoder": load_encoder})
    assert "speaker 1" in capsys.readouterr().out
    assert load_turns(tmp_path / "call.rttm")["call"].turns


def test_a_server_of_ones_own():
    text = code("A server of one's own")
    assert len([line for line in text.splitlines() if line.strip()]) <= 30
    names = {"__name__": "server"}
    exec(text, names)
    server = names["serve"](0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with socket.create_connection(server.server_address) as line:
            samples = np.round(load_audio(examples()["alex-1"]) * 32767).astype("<i2").tobytes()
            line.sendall(samples[:10_001])
            line.sendall(samples[10_001:])
            line.shutdown(socket.SHUT_WR)
            answers = [json.loads(each) for each in line.makefile()]
    finally:
        server.shutdown()
        server.server_close()
    assert {answer["speaker"] for answer in answers} == {"speaker 1"}


def test_a_telephone(call, tmp_path):
    path = tmp_path / "call.wav"
    soundfile.write(path, np.concatenate(call), 8000, "ULAW")
    content = path.read_bytes()
    data = content[content.index(b"data") + 8 :]
    names = {"packets": [data[at : at + 160] for at in range(0, len(data), 160)]}
    exec(code("A telephone"), names)
    expected = names["encoder"].embed(Recording(path, speech_only=True))
    np.testing.assert_allclose(names["stream"].embedding, expected, atol=2e-3)


def test_what_is_not_detected_is_said():
    said = "Nothing here detects synthetic, converted or replayed voices."
    assert said in " ".join(PAGE.read_text("utf-8").split())
