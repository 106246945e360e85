"""The server on a real socket: nobody holds it, hangs up loudly, or gets a traceback."""

import contextlib
import io
import json
import logging
import socket
import threading
import time

import httpx
import numpy as np
import pytest
import soundfile

from speakervlad.audio.recording import Recording
from speakervlad.page import server as module
from speakervlad.page.server import Server


@pytest.fixture
def running(desk, temporary, monkeypatch, caplog):
    """A server in a thread of this process that waits a second for headers: base URL and token."""
    monkeypatch.setattr(module, "HEADER_SECONDS", 1.0)
    monkeypatch.setattr(module, "REFUSED_BODY_SECONDS", 2.0)
    server = Server(desk, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with caplog.at_level(logging.WARNING):
            yield server.address.partition("/#token=")[::2]
    finally:
        server.stop()
        thread.join(20)


@pytest.fixture
def connect(running):
    """``connect(data)``: an open connection that has sent it; all are closed at the end."""
    host, _, port = running[0].removeprefix("http://").partition(":")
    with contextlib.ExitStack() as stack:

        def make(data=b""):
            connection = stack.enter_context(socket.create_connection((host, int(port)), 10))
            connection.sendall(data)
            return connection

        yield make


def get(running, path="/api/about", **headers):
    base, token = running
    return httpx.get(
        base + path, headers={"authorization": f"Bearer {token}"} | headers, timeout=20
    )


def is_closed(connection, seconds):
    connection.settimeout(seconds)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while connection.recv(4096):
            pass
        return True
    return False


def upload(token, size, *parts):
    head = (
        f"POST /api/verify HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: multipart/form-data; boundary=x\r\ncontent-length: {size}\r\n\r\n"
    )
    return head.encode() + b"".join(parts)


PART = b'--x\r\ncontent-disposition: form-data; name="first"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTT", b"GET /api/about HTTP/1.1\r\nhost: 127.0.0.1\r\nx-"]
)
def test_idle_connections_shut_nobody_out(running, connect, data):
    idle = [connect(data) for _ in range(210)]
    began = time.monotonic()
    for _ in range(5):
        assert get(running).status_code == 200
    assert time.monotonic() - began < 10
    assert sum(is_closed(each, 10) for each in idle[-20:]) >= 15
    assert get(running).status_code == 200


def test_it_ends_though_an_upload_stands_still(desk, temporary, monkeypatch):
    monkeypatch.setattr(module, "LAST_SECONDS", 0.5)
    server = Server(desk, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    base, _, token = server.address.partition("/#token=")
    assert get((base, token)).status_code == 200
    with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), 10) as held:
        held.sendall(upload(token, 10_000_000, PART))
        time.sleep(0.5)
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
        assert is_closed(held, 5)


def test_a_client_whose_pongs_wait_behind_its_sound_is_not_taken_for_gone(
    desk, temporary, monkeypatch
):
    pytest.importorskip("wsproto", reason="needs the extra serve")
    config = module.uvicorn.Config
    soon = {"ws_ping_interval": 0.2, "ws_ping_timeout": 0.2}
    monkeypatch.setattr(module.uvicorn, "Config", lambda *args, **own: config(*args, **soon | own))
    server = Server(desk, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    base = server.address.partition("/#token=")[0]
    host = base.removeprefix("http://")
    lines = ("GET /api/live HTTP/1.1", f"Host: {host}", f"Origin: {base}", "Upgrade: websocket",
             "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", "")  # fmt: skip
    try:
        with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), 10) as client:
            client.sendall("\r\n".join(lines).encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 101")
            client.settimeout(1.5)
            with pytest.raises(TimeoutError):  # neither a ping nor the end
                client.recv(4096)
    finally:
        server.stop()
        thread.join(20)


def test_headers_that_trickle_in_are_not_waited_for(running, connect):
    slow = connect(b"GET / HTTP/1.1\r\n")
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 15:
            slow.sendall(b"x: y\r\n")
            time.sleep(0.2)
    assert time.monotonic() - began < 10


def test_a_second_request_is_not_waited_for_longer(running, connect):
    kept = connect(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 15:
            kept.sendall(b"G")
            time.sleep(0.2)
    assert time.monotonic() - began < 10


def test_a_refused_body_that_never_comes_is_not_waited_for(running, connect):
    held = [connect(upload("wrong", 10_000)) for _ in range(20)]
    assert all(is_closed(each, 10) for each in held)
    assert get(running).status_code == 200


def test_an_answer_that_takes_longer_than_headers_may_is_given(running, desk, monkeypatch):
    about = desk.people.people

    def slow():
        time.sleep(2.5)
        return about()

    monkeypatch.setattr(desk.people, "people", slow)
    assert get(running, "/api/people").status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[::1", "//", "http://a]b", "\x7f", "http://127.0.0.1:x"]
)
def test_a_malformed_origin_is_refused_in_one_line(running, origin, caplog):
    for token in (running[1], "wrong"):
        answer = get(running, origin=origin, authorization=f"Bearer {token}")
        assert answer.status_code == 403
        assert answer.json() == {"error": "this request comes from another page."}
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "sent", [b"", PART, PART + b"RIFF" * 5000, PART + b"y\r\n--x\r\ncontent-dispo"]
)
def test_an_upload_that_breaks_off_is_no_error_of_the_server(
    running, connect, temporary, sent, caplog
):
    for _ in range(3):
        connect(upload(running[1], 10_000_000, sent)).close()
    assert get(running).status_code == 200
    for _ in range(50):
        if not list(temporary.iterdir()):
            break
        time.sleep(0.1)
    assert not list(temporary.iterdir())
    assert "Traceback" not in caplog.text
    assert "Exception" not in caplog.text


def test_the_socket_listens_before_its_address_is_told(desk, monkeypatch):
    asked = []

    def show(address):
        port = int(address.split(":")[2].partition("/")[0])
        asked.append(socket.create_connection(("127.0.0.1", port), 1))

    monkeypatch.setattr(Server, "run", lambda self: self._listener.close())
    module.serve(desk, "127.0.0.1", 0, show)
    (connection,) = asked
    connection.close()


@pytest.fixture
def wav():
    def make(samples, rate=16000):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
        return buffer.getvalue()

    return make


@pytest.fixture
def spoken_samples(make_speech, tmp_path):
    return lambda seed: soundfile.read(make_speech(tmp_path / f"{seed}.wav", 4.0, seed))[0]


@pytest.fixture
def spoken(spoken_samples, wav):
    """``spoken(seed)``: a recording in which somebody speaks."""
    return lambda seed: wav(spoken_samples(seed))


def test_one_bad_file_costs_no_answer_of_the_others(client, spoken, make_waveform):
    for seed in (0, 2, 3):
        client.post("/api/people/add", files={"recording": ("a", spoken(seed))},
                    data={"name": f"p{seed}", "sure": "yes"})  # fmt: skip
    contents = {"good.wav": spoken(1), "bad.wav": b"no sound", "empty.wav": b"",
                "other.wav": spoken(3)}  # fmt: skip
    dropped = [("recording", each) for each in contents.items()]
    answer = client.post("/api/identify", files=dropped, data={"fpir": "0.1"})
    assert answer.status_code == 200
    found = answer.json()["recordings"]
    assert [each["name"] for each in found] == ["good.wav", "bad.wav", "empty.wav", "other.wav"]
    assert [each.get("identified") for each in found] == ["p0", None, None, "p3"]
    assert found[1]["error"].startswith("bad.wav: not an audio file")
    assert found[2]["error"].startswith("empty.wav: empty file")
    answer = client.post("/api/identify", files=dropped[1:3], data={"fpir": "0.1"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("bad.wav: ")


@pytest.mark.parametrize("speakers", ["nan", "inf", "2.7", "0", "-1", "1e9", "x"])
def test_a_number_of_speakers_that_is_none_is_refused(client, spoken, speakers):
    answer = client.post(
        "/api/conversation", files={"recording": ("a", spoken(0))}, data={"speakers": speakers}
    )
    error = json.loads(answer.text.splitlines()[-1])["error"]
    assert error.startswith("speakers: ")
    assert "no" in error


def turns(rows, seconds="1"):
    return {"form": "json", "recording": "a", "turns": rows, "seconds": seconds}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/api/identify", {"fpir": "nan"}),
        ("/api/identify", {"fpir": "2"}),
        ("/api/turns", turns('[[0, 1, "x"]]', "nan")),
        ("/api/turns", turns('[[0, NaN, "x"]]')),
        ("/api/turns", turns('[[0, 1e999, "x"]]')),
        ("/api/turns", turns("[0]")),
        ("/api/turns", turns("[" * 100_000)),
        ("/api/people/add", {"name": "A", "spans": "[[0, 1e999]]"}),
        ("/api/people/add", {"name": "A", "spans": "[[NaN, 2]]"}),
    ],
)
def test_numbers_that_are_none_are_refused_in_one_line(client, spoken, path, data):
    client.post("/api/people/add", files={"recording": ("a", spoken(0))}, data={"name": "B"})
    files = {"recording": ("a", spoken(0))} if "turns" not in path else {"x": ("a", b"")}
    answer = client.post(path, files=files, data=data)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["error"]


def test_half_a_character_in_a_name_is_written_as_a_question_mark(client):
    data = {"form": "rttm", "recording": "a", "turns": '[[0,1,"\\ud800"]]', "seconds": "1"}
    answer = client.post("/api/turns", data=data)
    assert answer.status_code == 200
    assert answer.text == "SPEAKER a 1 0.000 1.000 <NA> <NA> ? <NA> <NA>\n"


@pytest.mark.parametrize("scores", ["1e308", "-1e308", "1e31"])
def test_scores_of_no_system_are_refused(client, scores):
    text = "".join(f"s{i % 5}/a s{j}/b {scores if i == j == 3 else i - j} {int(i % 5 == j)}\n"
                   for i in range(10) for j in range(5))  # fmt: skip
    for path in ("/api/report", "/api/report.html"):
        answer = client.post(path, files={"scores": ("s.txt", text.encode())})
        assert answer.status_code == 422
        assert "1 of 50 scores are beyond 1e+30 (trials 19," in answer.json()["error"]


def test_tiny_scores_have_a_picture(client):
    text = "".join(f"s{i % 5}/a s{j}/b {(i * 7 - j) % 11 * 1e-310:.17g} {int(i % 5 == j)}\n"
                   for i in range(10) for j in range(5))  # fmt: skip
    answer = client.post("/api/report", files={"scores": ("s.txt", text.encode())})
    assert answer.status_code == 200
    json.dumps(answer.json(), allow_nan=False)


def test_errors_name_files_as_their_owner_does(client, spoken, make_waveform, wav):
    """In whatever order files are opened, and wherever in the work an error comes from."""
    silent = wav(np.zeros(32000))
    hardly = wav(np.pad(make_waveform(0.2), (0, 16000)))
    requests = [
        ("verify", {"first": ("1.wav", silent), "second": ("b", silent)}, {}),
        ("people/add", {"recording": ("2.wav", hardly)}, {"name": "A"}),
        ("people/add", {"recording": ("3.wav", silent)}, {"name": "A", "spans": "[[0, 1]]"}),
        ("people/add", {"recording": ("4.wav", spoken(0))}, {"name": "A", "spans": "[[99, 100]]"}),
        ("report", {"scores": ("5.txt", b"a b\n")}, {}),
    ]
    for number, (path, files, data) in enumerate(requests, 1):
        answer = client.post(f"/api/{path}", files=files, data=data)
        assert answer.status_code == 422
        assert f"{number}." in answer.json()["error"]
        assert "/proc" not in answer.json()["error"]
    answer = client.post(
        "/api/conversation", files={"recording": ("6.wav", b"x")}, data={"separate": "1"}
    )
    assert "6.wav: not an audio file" in answer.text
    assert "/proc" not in answer.text


def test_what_is_remarked_of_a_recording_is_shown(
    client, shared_cases, spoken, spoken_samples, wav
):
    inverted = (shared_cases / "antiphase.flac").read_bytes()
    quiet = (shared_cases / "q60.wav").read_bytes()
    cancel = "its channels cancel each other (one is inverted?), and their mean is taken"
    answer = client.post("/api/conversation", files={"recording": ("a.flac", inverted)})
    line = json.loads(answer.text.splitlines()[-1])
    assert (line["turns"], line["notes"][:1]) == ([], [cancel])
    answer = client.post("/api/conversation", files={"recording": ("a.wav", quiet)})
    line = json.loads(answer.text.splitlines()[-1])
    assert line["notes"] == ["very quiet (-81 dB): little of the voice is left in it"]
    files = {"first": ("a.flac", inverted), "second": ("b.wav", spoken(0))}
    error = client.post("/api/verify", files=files).json()["error"]
    assert error.startswith("a.flac: silent")
    assert f"a.flac: {cancel}" in error
    files["first"] = ("c.wav", wav(3 * spoken_samples(0)))
    found = client.post("/api/verify", files=files).json()["recordings"]
    assert "float samples up to" in found[0]["notes"][0]
    assert not found[1]["notes"]


def test_a_recording_without_remarks_has_none(spoken):
    """Remarks go to the log again behind a request."""
    assert Recording(spoken(0)).seconds == pytest.approx(4, abs=0.1)
