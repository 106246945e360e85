"""Recordings of a request: in a folder of their own that is gone when the request is answered."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import numpy as np
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from speakervlad.data.audio import SAMPLE_RATE, audio_blocks, write_audio
from speakervlad.errors import InputError

# Of a recording that is compared or enrolled, and of a conversation.
MAX_SECONDS = 10 * 60
MAX_MEETING_SECONDS = 6 * 3600
MAX_FILES = 64
COPY_BYTES = 1 << 20
# What a person reads of a name that somebody gave to a file.
NAME_LENGTH = 120


@dataclass(frozen=True)
class Upload:
    """A file of a request.

    Attributes:
        name: what its owner calls it; shown, never a part of a path.
        path: where its content lies until the request is answered.
    """

    name: str
    path: Path

    def samples(self) -> np.ndarray:
        """The whole recording, float32 (samples,) mono at 16 kHz.

        Raises:
            InputError: not audio, damaged, or longer than ``MAX_SECONDS``.
        """
        with self.named():
            return np.concatenate(list(self._limited(MAX_SECONDS)))

    def decoded(self) -> Path:
        """A file of the same samples, mono, of which any span is one seek; beside the upload.

        Raises:
            InputError: not audio, damaged, or longer than ``MAX_MEETING_SECONDS``.
        """
        target = self.path.with_suffix(".wav")
        with self.named():
            blocks = self._limited(MAX_MEETING_SECONDS)
            write_audio(target, blocks, subtype="FLOAT")
        return target

    def _limited(self, max_seconds: float) -> Iterator[np.ndarray]:
        num_samples = 0
        for block in audio_blocks(self.path):
            num_samples += len(block)
            if num_samples > max_seconds * SAMPLE_RATE:
                raise InputError(
                    f"{self.path}: longer than {max_seconds / 60:g} minutes, the most that this "
                    "page takes. Cut it, or use the command line."
                )
            yield block

    @contextmanager
    def named(self) -> Iterator[None]:
        """While its content is read: errors say the name of the file, not where it lies."""
        try:
            yield
        except InputError as error:
            text = str(error)
            for path in (self.path.with_suffix(".wav"), self.path):
                text = text.replace(str(path), self.name)
            raise InputError(text) from error


@dataclass(frozen=True)
class Form:
    """What a request brought: files and texts by the name of their field.

    Attributes:
        folder: theirs, gone when the request is answered.
        files: by field.
        texts: by field.
    """

    folder: Path
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
            InputError: there is none.
        """
        try:
            return float(self.text(field))
        except ValueError:
            raise InputError(f"{field}: {self.texts[field][:40]!r} is no number.") from None

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
    """The form of a request; its files are removed at the end, whatever happens.

    Raises:
        HTTPException: the body is no form, or too large.
    """
    with tempfile.TemporaryDirectory(prefix="speakervlad.") as folder:
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FILES) as form:
            kept = await anyio.to_thread.run_sync(_keep, form, Path(folder))
        yield kept


def _keep(form: FormData, folder: Path) -> Form:
    files: dict[str, list[Upload]] = {}
    texts: dict[str, str] = {}
    for number, (field, value) in enumerate(form.multi_items()):
        if isinstance(value, UploadFile):
            path = folder / f"upload{number}"
            with path.open("wb") as target:
                while block := value.file.read(COPY_BYTES):
                    target.write(block)
            files.setdefault(field, []).append(Upload(shown_name(value.filename or ""), path))
        else:
            texts[field] = value
    return Form(folder, files, texts)


def shown_name(name: str) -> str:
    """The last part of a file's name, on one line."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(letter if letter.isprintable() else " " for letter in last)
    return printable.strip()[:NAME_LENGTH] or "recording"
