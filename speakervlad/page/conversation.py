"""Who speaks when, answered line by line: progress first, turns last; a closed request stops it."""

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from speakervlad.audio.reading import audio_blocks
from speakervlad.audio.remarks import heard_by
from speakervlad.audio.spans import counted_length
from speakervlad.diarization.diarize import diarize
from speakervlad.diarization.turns import FORMS, Turn, Turns
from speakervlad.errors import InputError, did_you_mean
from speakervlad.page.answers import Desk
from speakervlad.page.pictures import peaks
from speakervlad.page.uploads import Form, Upload, received
from speakervlad.page.work import Threads
from speakervlad.progress import tracked_by
from speakervlad.texts import parse_json

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 0.3
WAVEFORM_COLUMNS = 8000
MAX_TURNS, MAX_SPEAKERS = 100_000, 100


class Cancelled(Exception):  # noqa: N818 - nothing went wrong
    """The client does not wait for the answer any longer."""


class Progress:
    """How far an answer is: written by the thread that computes it, read by others.

    Attributes:
        step: what is being done.
        fraction: of that step.
        cancelled: set by whoever wants it to stop.
    """

    def __init__(self) -> None:
        self.step, self.fraction = "reading", 0.0
        self.cancelled = threading.Event()

    def begin(self, step: str) -> None:
        """The next step.

        Raises:
            Cancelled: the answer is not wanted any longer.
        """
        if self.cancelled.is_set():
            raise Cancelled
        self.step, self.fraction = step, 0.0

    def track(
        self, items: Iterable[Item], description: str, total: int | None = None
    ) -> Iterator[Item]:
        """See ``progress.Tracker``."""
        self.begin(description)
        for number, item in enumerate(items):
            if self.cancelled.is_set():
                raise Cancelled
            self.fraction = number / total if total else 0.0
            yield item


class Conversations:
    """The endpoint: a recording in, lines of JSON out.

    Args:
        desk: what all requests share.
        work: where it is computed.
    """

    def __init__(self, desk: Desk, work: Threads) -> None:
        self.desk = desk
        self.work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with received(Request(scope, receive)) as form:
            form.file("recording")
            progress = Progress()
            headers = [(b"content-type", b"application/x-ndjson")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_stop_when_closed, receive, progress)
                tasks.start_soon(_tell, send, progress)
                # The files stay until the thread has noticed that it is not waited for.
                answer = await self.work(partial(_answer, self.desk, form, progress))
                tasks.cancel_scope.cancel()
            body = json.dumps(answer).encode() + b"\n"
            await send({"type": "http.response.body", "body": body})


async def _stop_when_closed(receive: Receive, progress: Progress) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    progress.cancelled.set()


async def _tell(send: Send, progress: Progress) -> None:
    while True:
        line = json.dumps({"step": progress.step, "fraction": round(progress.fraction, 3)})
        body = line.encode() + b"\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await anyio.sleep(SECONDS_BETWEEN_LINES)


def _answer(desk: Desk, form: Form, progress: Progress) -> dict[str, Any]:
    """The last line: turns, or why there are none."""
    upload = form.file("recording")
    try:
        with upload.named(), tracked_by(progress.track):
            return _turns(desk, form, upload, progress)
    except Cancelled:
        return {"error": "cancelled"}
    except InputError as error:
        return {"error": form.shown(error)}
    except Exception as error:
        logger.exception("a conversation could not be answered")
        return {"error": f"the server failed ({type(error).__name__}); its terminal says where."}


def _turns(desk: Desk, form: Form, upload: Upload, progress: Progress) -> dict[str, Any]:
    speakers = form.count("speakers", MAX_SPEAKERS) if form.text("speakers", "") else None
    decoded = upload.decoded(form.make())
    enrolled = desk.people.people() if form.text("names", "") else []
    separate = bool(form.text("separate", ""))
    with decoded.named(), heard_by(upload.notes.append):
        found = diarize(
            (upload if separate else decoded).path,
            encoder=desk.embedder,
            speakers=speakers,
            store=desk.people if enrolled else None,
            separate=separate,
        )
    progress.begin("drawing")
    num_samples = counted_length(decoded.path) or 1
    columns = min(WAVEFORM_COLUMNS, num_samples)
    return {
        "recording": Path(upload.name).stem,
        "seconds": found.seconds,
        "turns": found.turns,
        "notes": list(dict.fromkeys(upload.notes)),
        "known": sorted({person.name for person in enrolled} & found.speakers.keys()),
        "waveform": peaks(audio_blocks(decoded.path), num_samples, columns),
    }


def exported(form: Form) -> str:
    """Turns as a file of the form that is asked for.

    Raises:
        InputError: no such form, or the text holds no turns.
    """
    kind = form.text("form")
    if kind not in FORMS:
        raise InputError(f"unknown form {kind!r} of turns. {did_you_mean(kind, FORMS)}")
    try:
        rows = parse_json(form.text("turns"))
        turns = tuple(Turn(float(start), float(end), str(name)) for start, end, name in rows)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"turns: not a list of begin, end and speaker ({error}).") from error
    if len(turns) > MAX_TURNS:
        raise InputError(f"turns: {len(turns)}, at most {MAX_TURNS} are taken.")
    text = FORMS[kind].write(Turns(form.text("recording"), turns, form.number("seconds")))
    # A text of JSON may hold halves of characters, which no file can.
    return text.encode(errors="replace").decode()
