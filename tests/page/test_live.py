"""The page's live route, without a browser."""

import json
from contextlib import ExitStack

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from speakervlad import examples, load_audio
from speakervlad.page.guard import MAX_LIVE, MAX_MESSAGE_BYTES

OWN = {"origin": "http://127.0.0.1:8765"}
TOKEN = "a-token"


def opened(client, headers=OWN):
    return client.websocket_connect("ws://127.0.0.1:8765/api/live", headers=headers)


def begin(socket, **fields):
    socket.send_text(json.dumps({"token": TOKEN, "rate": 16000} | fields))
    return socket.receive_json()


def send(socket, samples):
    """All messages that come back while samples go, a tenth of a second at a time."""
    data = np.round(samples * 32767).astype("<i2")
    found = []
    for start in range(0, len(data), 1600):
        socket.send_bytes(data[start : start + 1600].tobytes())
        found.append(socket.receive_json())
    return found


@pytest.fixture(scope="module")
def talk():
    return np.concatenate([load_audio(examples()[name]) for name in ("alex-1", "jo-1")])


def test_who_speaks_comes_while_samples_go_and_a_voice_is_enrolled(client, desk, talk):
    with opened(client) as socket:
        assert begin(socket, names=True) == {"ready": True}
        messages = send(socket, talk)
        said = [each for message in messages for each in message["said"]]
        assert {each[2] for each in said} - {None} == {"speaker 1", "speaker 2"}
        assert messages[-1]["seconds"] == pytest.approx(len(talk) / 16000, abs=0.11)
        socket.send_json({"enrol": "speaker 1", "name": "Alex"})
        answer = socket.receive_json()
        assert answer["enrolled"] == "Alex"
        assert {name for *_, name in answer["turns"]} == {"Alex", "speaker 2"}
        assert messages[-1]["renamed"] == {}
        assert send(socket, talk[:1600])[0]["renamed"] == {"speaker 1": "Alex"}
        socket.send_json({"enrol": "speaker 9", "name": "Jo"})
        assert "nobody of that name" in socket.receive_json()["error"]
        socket.send_json({"enrol": "speaker 2", "name": " "})
        assert socket.receive_json()["error"]
        socket.send_json({"end": True})
        last = socket.receive_json()
        assert {name for *_, name in last["turns"]} == {"Alex", "speaker 2"}
    (answer,) = desk.people.identify([examples()["alex-2"]])
    assert answer.name == "Alex"
    # A voice that is enrolled already is doubtful under another name.
    with opened(client) as socket:
        begin(socket)
        send(socket, talk[: 6 * 16000])
        socket.send_json({"enrol": "speaker 1", "name": "Somebody else"})
        assert "Alex" in socket.receive_json()["doubts"][0]
    # The next time the name comes by itself.
    with opened(client) as socket:
        begin(socket, names=True)
        messages = send(socket, talk[: 6 * 16000])
        assert "Alex" in {each[2] for message in messages for each in message["said"]}


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"},
     OWN | {"host": "evil.example"}],
)  # fmt: skip
def test_other_pages_get_no_connection(client, headers):
    with pytest.raises(WebSocketDisconnect), opened(client, headers):
        pass


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"token": "wrong"}, "token is missing or wrong"),
        ({"token": None}, "token is missing or wrong"),
        ({"rate": "fast"}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": 10**9}, "rate"),
    ],
)
def test_a_wrong_first_message_ends_it(client, first, words):
    with opened(client) as socket:
        assert words in begin(socket, **first)["error"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


@pytest.mark.parametrize(
    ("send_one", "words"),
    [
        (lambda socket: socket.send_bytes(b"abc"), "half a sample"),
        (lambda socket: socket.send_bytes(bytes(MAX_MESSAGE_BYTES + 2)), "more than"),
        (lambda socket: socket.send_text("[]"), "no JSON object"),
        (lambda socket: socket.send_text("{"), "no JSON object"),
    ],
)
def test_what_is_no_sound_ends_it(client, send_one, words):
    with opened(client) as socket:
        begin(socket)
        send_one(socket)
        assert words in socket.receive_json()["error"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_a_flood_ends_it_and_nobody_else_suffers(client, monkeypatch):
    # However slow this machine is.
    monkeypatch.setattr("speakervlad.page.live.FASTER", 0.0)
    with opened(client) as other, opened(client) as socket:
        begin(other)
        begin(socket)
        answer = {}
        for _ in range(20):
            socket.send_bytes(bytes(60_000))
            answer = socket.receive_json()
            if "error" in answer:
                break
        assert "faster than anybody speaks" in answer["error"]
        other.send_bytes(bytes(3200))
        assert other.receive_json()["seconds"] == pytest.approx(0.1)


def test_who_shows_no_token_keeps_nobody_out(app, monkeypatch):
    monkeypatch.setattr("speakervlad.page.live.MAX_WAITING", 2)
    with TestClient(app, "http://127.0.0.1:8765") as client, ExitStack() as stack:
        idle = [stack.enter_context(opened(client)) for _ in range(MAX_LIVE + 1)]
        for each in idle[:-2]:
            assert "nothing came" in each.receive_json()["error"]
        with opened(client) as socket:
            assert begin(socket) == {"ready": True}


def test_silence_on_the_line_ends_it(client, monkeypatch):
    monkeypatch.setattr("speakervlad.page.live.QUIET_SECONDS", 0.2)
    with opened(client) as socket:
        begin(socket)
        assert "nothing came" in socket.receive_json()["error"]


def test_at_most_eight_listen_at_a_time(client):
    with ExitStack() as stack:
        for _ in range(MAX_LIVE):
            assert begin(stack.enter_context(opened(client))) == {"ready": True}
        with opened(client) as one_more:
            assert "listen already" in begin(one_more)["error"]
    with opened(client) as socket:
        assert begin(socket) == {"ready": True}


def test_examples_are_there_for_whoever_has_the_token(client):
    answer = client.get("/api/examples/alex-1")
    assert answer.content == examples()["alex-1"].read_bytes()
    assert client.get("/api/examples/conversation").content[:4] == b"RIFF"
    lines = client.get("/api/examples/scores").text.splitlines()
    assert len(lines) == 66
    assert len(lines[0].split()) == 4
    assert client.get("/api/examples/..%2Fx").status_code == 404
    assert client.get("/api/examples/alex-1", headers={"authorization": "x"}).status_code == 401
