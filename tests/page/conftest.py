"""The server without a network, and as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")

from starlette.testclient import TestClient

from speakervlad import load_encoder
from speakervlad.page.answers import Desk
from speakervlad.page.app import build_app

ROOT = str(Path(__file__).parents[2])
TOKEN = "a-token"


@pytest.fixture(scope="session")
def embedder():
    return load_encoder("small", backend="onnxruntime")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where uploads lie; nothing of them may be left at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def desk(embedder, tmp_path):
    return Desk(embedder, str(tmp_path / "people.db"))


@pytest.fixture
def app(desk):
    return build_app(desk, TOKEN)


@pytest.fixture
def client(app, temporary):
    """Has the token and calls the server by its own name."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    return TestClient(app, "http://127.0.0.1:8765", headers=headers)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server; the address that it prints."""
    with running(tmp_path_factory.mktemp("server")) as (_, address):
        yield address


@contextmanager
def running(folder):
    """A process and its address; it works in a folder and keeps its temporary files there."""
    (folder / "temporary").mkdir()
    command = [sys.executable, "-m", "speakervlad", "serve", "--port", "0"]
    command += ["--store", "people.db", "--backend", "onnxruntime"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ROOT, "TMPDIR": str(folder / "temporary")},
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/#token=\S+", process.stdout.readline())
        assert found
        yield process, found.group()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
