"""What reaches the server from elsewhere, or is too much, is refused or harmless."""

import base64
import hashlib
import io
import re
import threading
from collections import Counter
from html.parser import HTMLParser

import anyio
import httpx
import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from speakervlad import __version__
from speakervlad.page.document import PAGE
from speakervlad.page.guard import MAX_BODY_BYTES, Guard, is_own_name
from speakervlad.page.uploads import shown_name

from .conftest import TOKEN

POSTS = [
    *("/api/verify", "/api/identify", "/api/conversation", "/api/turns"),
    *("/api/people/add", "/api/people/rename", "/api/people/forget"),
    *("/api/report", "/api/report.html"),
]


def wav(make_waveform, seconds=1.0, seed=0, form="WAV", rate=16000):
    buffer = io.BytesIO()
    soundfile.write(buffer, make_waveform(seconds, seed, rate), rate, format=form)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def voice(make_waveform):
    return wav(make_waveform, 1.0)


def test_every_answer_forbids_what_the_page_does_not_need(client):
    for path in ("/", "/api/about", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert ("script-src" in policy) is (path == "/")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"


def test_health_needs_no_token_and_tells_no_more_than_the_version(client):
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": __version__}
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 421
    assert client.post("/health").status_code == 405


def test_the_page_is_one_document_that_runs_its_own_code_alone(client):
    answer = client.get("/")
    found = Elements()
    found.feed(answer.text)
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = found.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive].removesuffix(" blob:") == f"'sha256-{digest}'"
    for name, value in found.attributes:
        assert not name.startswith("on"), value
        assert name not in ("style", "srcset"), value
        assert name not in ("src", "href") or value.startswith(("data:image/svg+xml;base64,", "#"))
    (code,) = found.texts["script"]
    assert re.findall(r"^(?:import|export)\b.*", code, re.MULTILINE) == []
    for path in (PAGE / "page.css", PAGE / "app.js"):
        assert client.get(f"/page/{path.name}").status_code == 404
        assert client.get(f"/{path.name}").status_code == 404


class Elements(HTMLParser):
    """Texts of scripts and styles, attributes of everything."""

    def __init__(self):
        super().__init__()
        self.texts, self.attributes, self.inside = {"script": [], "style": []}, [], None

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside in self.texts:
            self.texts[self.inside].append(data)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer b"}, {"authorization": "é"}])
def test_without_the_token_nothing_is_told(app, temporary, headers):
    stranger = TestClient(app, "http://localhost:8765")
    encoded = {name: value.encode("utf-8") for name, value in headers.items()}
    for path in ("/api/about", "/api/people", "/api/nowhere"):
        assert stranger.get(path, headers=encoded).status_code == 401
    for path in POSTS:
        assert stranger.post(path, headers=encoded, content=b"x" * 1000).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
)
def test_another_origin_is_refused_even_with_the_token(client, headers):
    for answer in (
        client.get("/api/about", headers=headers),
        client.post(POSTS[0], headers=headers),
    ):
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_its_own_page_and_a_visit_by_link_are_let_in(client):
    own = {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}
    assert client.get("/api/about", headers=own).status_code == 200
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=visit).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.2", "", "["])
def test_a_foreign_name_is_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "script" not in answer.headers["content-type"]


@pytest.mark.parametrize(
    ("host", "is_local", "is_own"),
    [
        ("localhost:8765", True, True),
        ("[::1]:8765", True, True),
        ("127.8.9.1", True, True),
        ("10.0.0.7:8765", False, True),
        ("evil.example", False, False),
    ],
)
def test_names_of_this_server(host, is_local, is_own):
    assert is_own_name(host, is_local) is is_own


def test_a_body_of_a_gigabyte_is_refused_by_its_claim(client):
    for claim in (str(10**9), str(MAX_BODY_BYTES + 1), "1e3", "-5"):
        answer = client.post("/api/verify", headers={"content-length": claim}, content=b"")
        assert answer.status_code == 413, claim


def test_a_body_without_a_claim_is_read_no_further_than_allowed(app, temporary):
    app = Guard(app.app, TOKEN, max_body_bytes=2_000_000)
    heading = b'--x\r\ncontent-disposition: form-data; name="first"; filename="a"\r\n\r\n'
    chunks, sent = iter([heading]), []
    given = 0

    async def receive():
        nonlocal given
        chunk = next(chunks, bytes(100_000))
        given += len(chunk)
        assert given < 3_000_000
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message):
        sent.append(message)

    headers = {
        "host": "127.0.0.1",
        "authorization": f"Bearer {TOKEN}",
        "content-type": "multipart/form-data; boundary=x",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/verify",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    anyio.run(app, scope, receive, send)
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../../etc/passwd", "passwd"),
        ("/etc/cron.d/evil", "evil"),
        (r"C:\Windows\a.wav", "a.wav"),
        ("..", ".."),
        ("a/", "recording"),
        ("a\x00\nb.wav", "a  b.wav"),
        ("<img src=x onerror=alert(1)>.wav", "<img src=x onerror=alert(1)>.wav"),
        ("x" * 5000, "x" * 120),
    ],
)
def test_a_path_in_a_file_name_leads_nowhere(client, voice, name, shown):
    assert shown_name(name) == shown
    # A header holds neither NUL nor line ends, and no name of 5000 letters.
    sent = name.replace("\x00\n", "  ")[:1000]
    answer = client.post("/api/verify", files={"first": (sent, voice), "second": ("b", voice)})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["recordings"][0]["name"] == shown


def test_a_recording_that_unpacks_to_hours_is_refused(client, voice):
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 8000, 1, format="FLAC") as bomb:
        for _ in range(11):
            bomb.write(np.zeros(60 * 8000, np.int16))
    assert len(buffer.getvalue()) < 100_000
    files = {"first": ("bomb.flac", buffer.getvalue()), "second": ("b", voice)}
    answer = client.post("/api/verify", files=files)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("bomb.flac: longer than 10 minutes")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a.wav: empty file"),
        (b"no sound", "a.wav: not an audio file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "a.wav: "),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "a.wav: not an audio file"),
        (b"#EXTM3U\nhttp://127.0.0.1:1/x.ts\n", "a.wav: not an audio file"),
    ],
)
def test_what_is_no_recording_is_named_without_its_path(client, voice, content, reason):
    files = {"first": ("a.wav", content), "second": ("b", voice)}
    answer = client.post("/api/verify", files=files)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]
    assert "speakervlad." not in answer.json()["error"]


def test_forms_that_lack_files_or_are_none(client, voice):
    assert client.post("/api/verify", files={"first": ("a", voice)}).status_code == 422
    assert client.post("/api/verify", content=b"{}").status_code == 422
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/api/verify", content=b"--y", headers=broken).status_code in (400, 422)
    assert client.get("/api/verify").status_code == 405
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/../app.py", "/%2e%2e/app.py"):
        assert client.get(path).status_code == 404


def test_a_hundred_uploads_at_once_are_answered_or_told_to_wait(server, voice):
    base, _, token = server.partition("/#token=")
    headers = {"authorization": f"Bearer {token}"}
    answers, body = Counter(), {"first": ("a", voice), "second": ("b", voice)}

    def upload():
        answer = httpx.post(f"{base}/api/verify", headers=headers, files=body, timeout=60)
        answers[answer.status_code] += 1

    threads = [threading.Thread(target=upload) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answers.values()) == 100
    assert answers[200] > 0
    assert set(answers) <= {200, 503}
    assert httpx.get(f"{base}/api/about", headers=headers).status_code == 200
