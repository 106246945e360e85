"""Conversations on the page: lines of progress, then the turns that ``diarize`` finds."""

import io
import json
import threading
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import numpy as np
import pytest
import soundfile

pytest.importorskip("scipy", reason="needs the extra diarization")

from speakervlad.diarization.diarize import diarize
from speakervlad.diarization.turns import Turns, load_turns
from speakervlad.page import conversation
from speakervlad.page.conversation import Cancelled, Conversations, Progress
from speakervlad.page.pictures import peaks
from speakervlad.page.uploads import OPEN_FILES
from speakervlad.page.work import Threads
from speakervlad.progress import track

from .conftest import running
from .test_people import spoken


@pytest.fixture(scope="module")
def meeting():
    parts = [spoken(13, 0), np.zeros(8000, np.float32), spoken(20, 0), spoken(13, 1)]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate(parts), 16000, "FLOAT", format="WAV")
    return buffer.getvalue()


def ask(client, content, **fields):
    answer = client.post(
        "/api/conversation", files={"recording": ("call.wav", content)}, data=fields
    )
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_turns_equal_diarize(client, embedder, meeting):
    *before, last = ask(client, meeting, speakers="2")
    assert all(0 <= line["fraction"] <= 1 for line in before)
    expected = diarize(meeting, encoder=embedder, speakers=2)
    assert [tuple(turn) for turn in last["turns"]] == list(expected.turns)
    assert last["seconds"] == pytest.approx(12.5, abs=0.01)
    assert last["recording"] == "call"
    assert len(last["waveform"]) == 8000


def test_enrolled_people_get_their_names(client, desk, meeting):
    desk.people.add("Ada", [spoken(13, 0), spoken(13, 1)])
    last = ask(client, meeting, speakers="2", names="1")[-1]
    assert "Ada" in last["known"]
    assert "Ada" in {speaker for _, _, speaker in last["turns"]}


def test_what_is_no_conversation_is_told(client, meeting):
    assert "call.wav" in ask(client, b"no sound")[-1]["error"]
    assert "number" in ask(client, meeting, speakers="many")[-1]["error"]
    silence = io.BytesIO()
    soundfile.write(
        silence, 1e-3 * np.random.default_rng(0).normal(size=32000), 16000, format="WAV"
    )
    assert ask(client, silence.getvalue())[-1]["turns"] == []
    assert client.post("/api/conversation", data={"names": "1"}).status_code == 422


def test_a_failure_of_the_server_is_told_and_logged(client, meeting, monkeypatch, caplog):
    monkeypatch.setattr(conversation, "diarize", lambda *_, **__: 1 / 0)
    assert "ZeroDivisionError" in ask(client, meeting)[-1]["error"]
    assert "could not be answered" in caplog.text


def test_who_goes_away_stops_the_work(desk, meeting, temporary, monkeypatch):
    begun, stopped = threading.Event(), threading.Event()

    def endless(*_, **__):
        begun.set()
        try:
            for _ in track(iter(int, 1), "listening"):
                pass
        except Cancelled:
            stopped.set()
            raise

    monkeypatch.setattr(conversation, "diarize", endless)
    heading = b'--x\r\ncontent-disposition: form-data; name="recording"; filename="a"\r\n\r\n'
    body = heading + meeting + b"\r\n--x--\r\n"
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        while not begun.is_set():
            await anyio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(_):
        pass

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    anyio.run(Conversations(desk, Threads(1)), scope, receive, send)
    assert stopped.is_set()


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="open files have no path here")
def test_a_killed_server_leaves_nothing_of_an_upload(tmp_path):
    recording, rate = io.BytesIO(), 16000
    samples = np.tile(spoken(13, 0), 20)
    soundfile.write(recording, samples, rate, format="WAV")
    with running(tmp_path) as (process, address):
        base, _, token = address.partition("/#token=")
        with httpx.stream(
            "POST",
            f"{base}/api/conversation",
            headers={"authorization": f"Bearer {token}"},
            files={"recording": ("call.wav", recording.getvalue())},
            timeout=60,
        ) as answer:
            for line in answer.iter_lines():
                if json.loads(line)["step"] == "listening":
                    break
            held = []
            for path in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    held.append(str(path.readlink()))
            process.kill()
            process.wait(20)
    # The upload and its samples were on the disk, without a name.
    assert sum(path.startswith(f"{tmp_path}/temporary/") for path in held) >= 2
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("form", "suffix"), [("rttm", ".rttm"), ("srt", ".srt"), ("json", ".json")]
)
def test_exported_turns_are_read_again(client, tmp_path, form, suffix):
    turns = [[0.0, 1.5, "Ada"], [1.0, 2.25, "speaker_2"]]
    fields = {"form": form, "recording": "call", "seconds": "3", "turns": json.dumps(turns)}
    answer = client.post("/api/turns", data=fields)
    assert answer.headers["content-type"].startswith("text/plain")
    (tmp_path / f"call{suffix}").write_text(answer.text)
    (found,) = load_turns(tmp_path / f"call{suffix}").values()
    assert found.turns == Turns("call", tuple(turns)).turns


@pytest.mark.parametrize(
    "change",
    [
        {"form": "doc"},
        {"turns": "[[1]]"},
        {"turns": "x"},
        {"turns": '[[2, 1, "a"]]'},
        {"seconds": ""},
    ],
)
def test_what_are_no_turns_is_one_line(client, change):
    fields = {"form": "rttm", "recording": "call", "seconds": "3", "turns": "[]"} | change
    answer = client.post("/api/turns", data=fields)
    assert answer.status_code == 422
    assert len(answer.json()["error"]) < 300


def test_progress_is_a_fraction_of_each_step():
    progress = Progress()
    seen = [progress.fraction for _ in progress.track("abcd", "listening", 4)]
    assert seen == [0, 0.25, 0.5, 0.75]
    progress.cancelled.set()
    with pytest.raises(Cancelled):
        progress.begin("drawing")


def test_peaks_are_the_largest_of_each_part():
    samples = np.array([0.1, -0.5, 0.2, 0.3, -0.1, 0.0], np.float32)
    assert peaks(iter([samples[:4], samples[4:]]), 6, 3) == pytest.approx([0.5, 0.3, 0.1])
