"""Recordings of a request: in files without a name, which are gone when it is answered."""

import math
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import numpy as np
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from speakervlad.audio.reading import audio_blocks
from speakervlad.audio.recording import Recording
from speakervlad.audio.remarks import heard_by
from speakervlad.audio.spans import counted_blocks
from speakervlad.audio.writing import fill_audio
from speakervlad.errors import InputError
from speakervlad.files import naming_full_disk
from speakervlad.progress import track
from speakervlad.sound import SAMPLE_RATE

# Of a recording that is compared or enrolled, and of a conversation.
MAX_SECONDS = 10 * 60
MAX_MEETING_SECONDS = 6 * 3600
MAX_FILES = 64
COPY_BYTES = 1 << 20
# What a person reads of a name that somebody gave to a file.
NAME_LENGTH = 120
# Where Linux shows the files that a process has open, by their numbers.
OPEN_FILES = Path("/proc/self/fd")
OPEN_FILE = re.compile(rf"{OPEN_FILES}/\d+")


@dataclass(frozen=True)
class Upload:
    """A file of a request.

    Attributes:
        name: what its owner calls it; shown, never a part of a path.
        path: opens its content until the request is answered.
        notes: what was remarked while it was read.
    """

    name: str
    path: Path
    notes: list[str] = field(default_factory=list)

    def recording(self) -> Recording:
        """The whole recording, decoded.

        Raises:
            InputError: not audio, damaged, or longer than ``MAX_SECONDS``.
        """
        with self.named(), heard_by(self.notes.append):
            samples = np.concatenate(list(self._limited(MAX_SECONDS)))
        return Recording(samples, name=self.name)

    def decoded(self, target: Path) -> "Upload":
        """The same samples, mono, of which any span is one seek.

        Args:
            target: an empty file.

        Raises:
            InputError: not audio, damaged, or longer than ``MAX_MEETING_SECONDS``; or the disk is
                full.
        """
        with self.named(), heard_by(self.notes.append), naming_full_disk(self.path):
            count = counted_blocks(self.path)
            blocks = track(self._limited(MAX_MEETING_SECONDS), "reading", count)
            fill_audio(target, blocks, form="WAV", subtype="FLOAT")
        return replace(self, path=target)

    def _limited(self, max_seconds: float) -> Iterator[np.ndarray]:
        num_samples = 0
        for block in audio_blocks(self.path, warn=True):
            num_samples += len(block)
            if num_samples > max_seconds * SAMPLE_RATE:
                raise InputError(
                    f"{self.path}: longer than {max_seconds / 60:g} minutes, the most that this "
                    "page takes. Cut it, or use the command line."
                )
            yield block

    def shown(self, error: object) -> str:
        """An error in a line: by its name, not by where it lies, and with what was remarked."""
        notes = [f"{self.name}: {note}." for note in dict.fromkeys(self.notes)]
        return " ".join(" ".join([self.renamed(str(error)), *notes]).split())

    def renamed(self, text: str) -> str:
        """A text by its name, not by where it lies."""
        return re.sub(re.escape(str(self.path)) + r"(?!\d)", lambda _: self.name, text)

    @contextmanager
    def named(self) -> Iterator[None]:
        """While its content is read: errors say the name of the file, not where it lies."""
        try:
            yield
        except InputError as error:
            raise InputError(self.renamed(str(error))) from error


@dataclass(frozen=True)
class Form:
    """What a request brought: files and texts by the name of their field.

    Attributes:
        make: an empty file for what is made of them, gone when the request is answered.
        files: by field.
        texts: by field.
    """

    make: Callable[[], Path]
    files: dict[str, list[Upload]]
    texts: dict[str, str]

    def file(self, field: str) -> Upload:
        """The one file of a field.

        Raises:
            InputError: there is none, or several.
        """
        found = self.files.get(field, [])
        if len(found) != 1:
            raise InputError(f"{field}: {len(found)} files. Give one.")
        return found[0]

    def text(self, field: str, default: str | None = None) -> str:
        """The text of a field.

        Raises:
            InputError: there is none, and no ``default``.
        """
        found = self.texts.get(field, default)
        if found is None:
            raise InputError(f"{field}: is missing.")
        return found

    def number(self, field: str) -> float:
        """The number of a field.

        Raises:
            InputError: there is none, or it is not finite.
        """
        text = self.text(field)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{field}: {text[:40]!r} is no number.")
        return value

    def count(self, field: str, most: int) -> int:
        """The whole number of a field, from 1 on.

        Args:
            field: of the form.
            most: the largest.

        Raises:
            InputError: there is none, or it is another number.
        """
        value = self.number(field)
        if not (value.is_integer() and 1 <= value <= most):
            raise InputError(f"{field}: {value:g} is no whole number from 1 to {most}.")
        return int(value)

    def renamed(self, text: str) -> str:
        """A text by the names of files, not by where they lie."""
        for upload in self._uploads:
            text = upload.renamed(text)
        return OPEN_FILE.sub("recording", text)

    def shown(self, error: object) -> str:
        """An error in a line, as ``renamed`` has it, with what was remarked of the files."""
        text = str(error)
        for upload in self._uploads:
            text = upload.shown(text)
        return self.renamed(" ".join(text.split()))

    @property
    def _uploads(self) -> list[Upload]:
        return [each for files in self.files.values() for each in files]

    def all(self, field: str) -> list[Upload]:
        """The files of a field, at least one.

        Raises:
            InputError: there is none.
        """
        found = self.files.get(field, [])
        if not found:
            raise InputError(f"{field}: no file was given.")
        return found


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Form]:
    """The form of a request; its files are gone at the end, whatever happens.

    Raises:
        HTTPException: the body is no form, or too large.
    """
    with passing_files() as make:
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FILES) as form:
            kept = await anyio.to_thread.run_sync(_keep, form, make)
        yield kept


@contextmanager
def passing_files() -> Iterator[Callable[[], Path]]:
    """Yield what makes empty files, to be opened by their path and gone at the end.

    Where the system shows open files, they have no name from the start, so nothing of them is left
    when the server is killed; elsewhere they lie in a temporary folder.
    """
    with ExitStack() as stack:
        if OPEN_FILES.is_dir():

            def make() -> Path:
                file = stack.enter_context(tempfile.TemporaryFile(prefix="speakervlad."))
                return OPEN_FILES / str(file.fileno())
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="speakervlad."))

            def make() -> Path:
                handle, path = tempfile.mkstemp(dir=folder)
                os.close(handle)
                return Path(path)

        yield make


def _keep(form: FormData, make: Callable[[], Path]) -> Form:
    files: dict[str, list[Upload]] = {}
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            path = make()
            with path.open("wb") as target:
                while block := value.file.read(COPY_BYTES):
                    target.write(block)
            files.setdefault(name, []).append(Upload(shown_name(value.filename or ""), path))
        else:
            texts[name] = value
    return Form(make, files, texts)


def shown_name(name: str) -> str:
    """The last part of a file's name, on one line."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(letter if letter.isprintable() else " " for letter in last)
    return printable.strip()[:NAME_LENGTH] or "recording"
