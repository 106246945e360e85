"""Who is speaking now, for the page: one WebSocket for each microphone."""

import asyncio
import hashlib
import hmac
import logging
import math
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from speakervlad.diarization.live import LiveDiarizer, Said, diarize_live
from speakervlad.errors import InputError
from speakervlad.page.answers import Desk
from speakervlad.page.guard import MAX_LIVE, MAX_MESSAGE_BYTES
from speakervlad.page.work import Threads
from speakervlad.people.hearing import Heard
from speakervlad.people.records import check_name
from speakervlad.texts import parse_json

logger = logging.getLogger(__name__)

# Clients that have not shown the token yet; with one more, the one that waits longest is closed.
MAX_WAITING = 16
# For the first message; between two while somebody speaks, and when all has been heard.
FIRST_SECONDS, QUIET_SECONDS, DONE_SECONDS = 10.0, 30.0, 900.0
# Samples come as fast as they are spoken; so much more of them may have waited somewhere.
BURST_SECONDS, FASTER = 20.0, 1.25
MAX_SECONDS = 6 * 3600
MIN_RATE, MAX_RATE = 8000, 192_000
# Codes of RFC 6455.
REFUSED, TRY_LATER = 1008, 1013


class Refusal(Exception):  # noqa: N818 - no error: an answer to a client that does not keep to it
    """Why a connection is closed, for whoever reads the page."""

    def __init__(self, reason: str, code: int = REFUSED) -> None:
        super().__init__(reason)
        self.code = code


class Live:
    """Answers ``/api/live``: samples in, who speaks out, and enrolment of what was heard.

    Args:
        desk: what the answers are made of.
        token: what the first message carries.
        work: where it is computed.
    """

    def __init__(self, desk: Desk, token: str, work: Threads) -> None:
        self._desk = desk
        self._token = token
        self._work = work
        self._count = 0
        self._waiting: list[asyncio.Timeout] = []

    async def __call__(self, socket: WebSocket) -> None:
        """One connection, from its begin to its end; whatever happens, nothing of it is left."""
        await socket.accept()
        try:
            session = _Session(socket, self._desk, self._work)
            first = await self._admitted(session)
            self._count += 1
            try:
                if self._count > MAX_LIVE:
                    raise Refusal(f"{MAX_LIVE} listen already. Try again in a moment.", TRY_LATER)
                await session.run(first)
            finally:
                self._count -= 1
        except WebSocketDisconnect:
            pass
        except (Refusal, InputError) as error:
            await _close(socket, error, getattr(error, "code", REFUSED))
        except TimeoutError:
            await _close(socket, "nothing came for a while, so listening has ended.", REFUSED)

    async def _admitted(self, session: "_Session") -> dict[str, Any]:
        """The first message, which carries the token; whoever has none keeps nobody out.

        Raises:
            Refusal: it does not.
            TimeoutError: it does not come in time, or too many wait that came later.
        """
        async with asyncio.timeout(FIRST_SECONDS) as limit:
            self._waiting.append(limit)
            if len(self._waiting) > MAX_WAITING and not (oldest := self._waiting.pop(0)).expired():
                oldest.reschedule(0)
            try:
                first = _parsed(await session.receive(), "the first message")
            finally:
                if limit in self._waiting:
                    self._waiting.remove(limit)
        given = str(first.get("token", ""))
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise Refusal("the token is missing or wrong. Open the printed address.")
        return first


class _Session:
    """What one client says and hears."""

    def __init__(self, socket: WebSocket, desk: Desk, work: Threads) -> None:
        self._socket = socket
        self._desk = desk
        self._work = work
        self._begin = self._now()
        self._rate = 0
        self._num_samples = 0
        self._has_ended = False

    async def run(self, first: dict[str, Any]) -> None:
        """Until the client goes, or does what it must not.

        Args:
            first: its first message.
        """
        self._rate = _rate_of(first.get("rate"))
        self._diarizer = await self._work(partial(self._open, bool(first.get("names"))))
        self._begin = self._now()
        await self._send({"ready": True})
        while True:
            async with asyncio.timeout(DONE_SECONDS if self._has_ended else QUIET_SECONDS):
                message = await self.receive()
            if isinstance(message, bytes):
                await self._hear(message)
            else:
                await self._asked(_parsed(message, "a message"))

    def _open(self, names: bool) -> LiveDiarizer:
        people = self._desk.people if names and self._desk.people.people() else None
        return diarize_live(self._desk.embedder, sample_rate=self._rate, store=people)

    async def _hear(self, data: bytes) -> None:
        if self._has_ended:
            raise Refusal("samples behind the end.")
        if len(data) % 2:
            raise Refusal("half a sample came: messages hold whole samples of 16 bits.")
        self._num_samples += len(data) // 2
        seconds = self._num_samples / self._rate
        if seconds > FASTER * (self._now() - self._begin) + BURST_SECONDS:
            raise Refusal("samples come faster than anybody speaks.")
        if seconds > MAX_SECONDS:
            raise Refusal(f"more than {MAX_SECONDS // 3600} hours. Listen again.")
        samples = np.frombuffer(data, "<i2")
        said = await self._work(partial(self._diarizer.add, samples))
        await self._send(self._state(said))

    def _state(self, said: list[Said]) -> dict:
        stream = self._diarizer.stream
        return {
            "said": [
                [round(each.start, 3), round(each.end, 3), *each[2 : 4 if each.also is None else 5]]
                for each in said
            ],
            "seconds": round(stream.seconds, 3),
            "speech": round(stream.speech_seconds, 3),
            "renamed": self._diarizer.renamed,
        }

    async def _asked(self, message: dict) -> None:
        if "end" in message and not self._has_ended:
            self._has_ended = True
            said = await self._work(self._diarizer.finish)
            await self._send(self._state(said) | self._turns())
        elif "enrol" in message:
            try:
                answer = await self._work(partial(self._enrol, message))
            except InputError as error:
                answer = {"enrolled": None, "error": " ".join(str(error).split())}
            await self._send(answer | self._turns())

    def _turns(self) -> dict:
        turns = self._diarizer.turns().turns
        return {"turns": [[*turn] for turn in turns]}

    def _enrol(self, message: dict) -> dict:
        """Enrol what one speaker said so far."""
        people = self._desk.people
        speaker, name = str(message["enrol"]), check_name(str(message.get("name", "")))
        sums, seconds = self._diarizer.heard_of(speaker)
        digest = hashlib.sha256(np.ascontiguousarray(sums.row(), "<f8").data).hexdigest()
        heard = Heard(f"what {speaker} said", digest, sums, seconds)
        doubts = people.doubts(name, [heard])
        if doubts and message.get("sure") != "yes":
            return {"enrolled": None, "speaker": speaker, "name": name,
                    "doubts": [str(each) for each in doubts]}  # fmt: skip
        people.enrol(name, [heard])
        self._diarizer.call(speaker, name)
        return {"enrolled": name, "speaker": speaker}

    async def receive(self) -> str | bytes:
        """The next message, as long as it takes.

        Raises:
            WebSocketDisconnect: the client has gone.
            Refusal: it is too long.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        found = message.get("bytes")
        found = message.get("text", "") if found is None else found
        if len(found) > MAX_MESSAGE_BYTES:
            raise Refusal(f"a message of more than {MAX_MESSAGE_BYTES} bytes.")
        return found

    async def _send(self, message: dict) -> None:
        try:
            await self._socket.send_json(message)
        except (RuntimeError, OSError) as error:  # it has gone meanwhile
            raise WebSocketDisconnect from error

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _parsed(message: str | bytes, what: str) -> dict[str, Any]:
    try:
        found = parse_json(message) if isinstance(message, str) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(f"{what} is no JSON object.")
    return found


def _rate_of(value: object) -> int:
    rate = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not MIN_RATE <= rate <= MAX_RATE:
        raise Refusal(f"rate: a number from {MIN_RATE} to {MAX_RATE}.")
    return round(rate)


async def _close(socket: WebSocket, reason: object, code: int) -> None:
    with suppress(RuntimeError, OSError):
        await socket.send_json({"error": " ".join(str(reason).split())})
        await socket.close(code)
