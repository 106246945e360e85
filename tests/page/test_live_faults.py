"""A real server whose live clients vanish, stall or send anything, and which is killed then."""

import json
import os
import signal
import socket
import struct
import time
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("wsproto", reason="needs the extra serve")

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from speakervlad import PeopleStore, examples, load_audio, load_encoder
from speakervlad.page.guard import MAX_LIVE
from tests.page.conftest import running

SECONDS = 30.0


class Caller:
    """A WebSocket client that can do what a browser never does."""

    def __init__(self, address, *, token=None):
        base, _, own = address.partition("/#token=")
        host, _, port = base.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._texts, self.is_open, self.is_closed = [], False, False
        origin = [(b"origin", base.encode())]
        self._send(Request(host=f"{host}:{port}", target="/api/live", extra_headers=origin))
        self._until(lambda: self.is_open)
        self.say(token=own if token is None else token, rate=16000)

    def say(self, **message):
        self.say_as_it_is(json.dumps(message))

    def say_as_it_is(self, text):
        self._send(TextMessage(text))

    def play(self, samples):
        self._send(BytesMessage(np.round(samples * 32767).astype("<i2").tobytes()))

    def answer(self):
        self._until(lambda: self._texts or self.is_closed)
        return self._texts.pop(0) if self._texts else {}  # it is closed

    def vanish(self):
        """As if the line were cut: a reset, no closing handshake."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def _send(self, event):
        self.socket.sendall(self._protocol.send(event))

    def _until(self, is_enough):
        while not is_enough():
            data = self.socket.recv(65536)
            self._protocol.receive_data(data or None)
            for event in self._protocol.events():
                self.is_open |= isinstance(event, AcceptConnection)
                self.is_closed |= isinstance(event, CloseConnection)
                if isinstance(event, TextMessage):
                    self._texts.append(json.loads(event.data))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    with running(folder) as (_, found):
        yield found
    assert list((folder / "temporary").iterdir()) == []


@pytest.fixture(scope="module")
def talk():
    return np.concatenate([load_audio(examples()[name]) for name in ("alex-1", "jo-1")])


def opened(stack, address):
    """One that is heard; those who went before may still be computed for."""
    deadline = time.monotonic() + SECONDS
    while True:
        caller = stack.enter_context(closing(Caller(address)))
        answer = caller.answer()
        if answer == {"ready": True}:
            return caller
        assert "listen already" in answer["error"]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_vanishes_leaves_the_place_to_others_who_hear_on(address, talk):
    with ExitStack() as stack:
        stays, *others = [opened(stack, address) for _ in range(MAX_LIVE)]
        for each in others:
            each.play(talk[:1600])
            each.vanish()
        opened(stack, address)
        stays.play(talk[:3200])
        assert stays.answer()["seconds"] == pytest.approx(0.2)


def test_one_who_takes_no_answers_stops_nobody(address, talk):
    """A client that stalls: it sends, and never reads what comes back."""
    with ExitStack() as stack:
        stalls = opened(stack, address)
        hears = opened(stack, address)
        for start in range(0, 8 * 16000, 800):
            stalls.play(talk[start : start + 800])
        for start in range(0, 2 * 16000, 1600):
            hears.play(talk[start : start + 1600])
            assert "seconds" in hears.answer()


def test_what_is_no_number_ends_it_in_a_line_and_nobody_else(address, talk):
    with ExitStack() as stack:
        hears = opened(stack, address)
        caller = opened(stack, address)
        caller.say_as_it_is("NaN")
        assert "no JSON object" in caller.answer()["error"]
        assert caller.answer() == {}
        hears.play(talk[:1600])
        assert hears.answer()["seconds"] == pytest.approx(0.1)


def test_half_a_frame_and_then_nothing(address, talk):
    """The connection breaks off within a frame of the protocol."""
    with ExitStack() as stack:
        caller = opened(stack, address)
        caller.socket.sendall(b"\x82\xfe\x0c\x80" + b"mask" + bytes(100))  # 100 of 3200 bytes
        caller.vanish()
        other = opened(stack, address)
        other.play(talk[:1600])
        assert other.answer()["seconds"] == pytest.approx(0.1)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_server_leaves_a_whole_store_and_no_temporary_file(tmp_path, talk):
    with ExitStack() as stack:
        process, address = stack.enter_context(running(tmp_path))
        caller = opened(stack, address)
        for start in range(0, 6 * 16000, 16000):
            caller.play(talk[start : start + 16000])
            caller.answer()
        caller.say(enrol="speaker 1", name="Alex")
        assert caller.answer()["enrolled"] == "Alex"
        caller.play(talk[:16000])
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert list((tmp_path / "temporary").iterdir()) == []
    left = {path.name for path in Path(tmp_path).iterdir()} - {"temporary"}
    assert left <= {"people.db", "people.db-wal", "people.db-shm"}
    with PeopleStore(tmp_path / "people.db", load_encoder()) as people:
        assert [person.name for person in people.people()] == ["Alex"]
