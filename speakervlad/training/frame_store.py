"""Frames on disk: float16 files that stay mapped, what they were made of, and how far they are.

``recordings/`` holds copy 0, the recordings as they are, ``copies/`` those with effects; each has
an ``about.json``, which tells what its frames are of. ``copy-000.f16`` are the frames of all
utterances, one behind the other, ``copy-000.done`` has a byte for each utterance: missing, kept, or
of a file that cannot be used. ``files`` tells what the audio files were.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path, naming_full_disk
from speakervlad.schema import flatten
from speakervlad.tables.manifest import Manifest
from speakervlad.texts import parse_json

MISSING, KEPT, BAD = 0, 1, 2
ABOUT_NAME, FILES_NAME, WHOLE, COPIES = "about.json", "files", "recordings", "copies"
# Of an audio file: bytes, time of the last change in ns, digest of the content.
RECORDING = np.dtype([("size", "<i8"), ("changed", "<i8"), ("digest", "V16")])


class FrameFile(NamedTuple):
    """The frames of one copy of all utterances.

    Attributes:
        path: of the frames.
        starts: int64 (utterances,), the first frame of each.
        counts: int64 (utterances,), how many there are; 0 where there is no such copy.
        dim: numbers in a frame.
    """

    path: Path
    starts: np.ndarray
    counts: np.ndarray
    dim: int

    @classmethod
    def of(cls, folder: Path, number: int, counts: np.ndarray, dim: int) -> "FrameFile":
        """The file of a copy in the folder of a cache; its utterances have so many frames."""
        path = folder / (COPIES if number else WHOLE) / f"copy-{number:03d}.f16"
        return cls(path, np.cumsum(counts) - counts, counts, dim)

    @property
    def num_bytes(self) -> int:
        """Size of the whole file."""
        return 2 * self.dim * int(self.counts.sum())

    @property
    def done_path(self) -> Path:
        """Where it stands how far the file is."""
        return self.path.with_suffix(".done")

    def done(self) -> np.ndarray:
        """uint8 (utterances,): ``MISSING``, ``KEPT`` or ``BAD``."""
        if not self.done_path.is_file() or not self.path.is_file():
            return np.zeros(len(self.counts), np.uint8)
        done = np.fromfile(self.done_path, np.uint8)
        if len(done) != len(self.counts) or self.path.stat().st_size != self.num_bytes:
            raise InputError(
                f"{self.path}: is not of the size that its utterances need. Remove it."
            )
        return done

    def make_room(self) -> None:
        """Take the space on the disk that the file needs, and mark everything as missing.

        Raises:
            InputError: the disk is full.
        """
        with naming_full_disk(self.path), self.path.open("wb") as file:
            if self.num_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self.num_bytes)
            file.truncate(self.num_bytes)
        with naming_full_disk(self.done_path), atomic_path(self.done_path) as path:
            path.write_bytes(bytes(len(self.counts)))

    def write(self, rows: Sequence[int], frames: Sequence[np.ndarray | None]) -> None:
        """Keep the frames (count, dim) of some utterances; None marks one that cannot be used.

        Marks follow when the frames are on the disk.

        Raises:
            InputError: the disk is full.
        """
        kept = [(row, part) for row, part in zip(rows, frames, strict=True) if part is not None]
        for row, part in kept:
            assert part.shape == (self.counts[row], self.dim), (part.shape, self.counts[row])
        places = [2 * self.dim * int(self.starts[row]) for row, _ in kept]
        write_at(self.path, places, [np.ascontiguousarray(p, np.float16).data for _, p in kept])
        marks = [bytes([BAD if part is None else KEPT]) for part in frames]
        write_at(self.done_path, rows, marks)

    def mapped(self) -> np.ndarray:
        """All frames, float16 (frames, dim), read from the disk as they are needed."""
        if not self.num_bytes:
            return np.zeros((0, self.dim), np.float16)
        return np.memmap(self.path, np.float16, "r").reshape(-1, self.dim)


class RowFile(NamedTuple):
    """A float32 vector for each utterance."""

    path: Path
    num_rows: int
    dim: int

    def make_room(self) -> None:
        """Zeros for all."""
        with naming_full_disk(self.path), atomic_path(self.path) as path:
            path.write_bytes(bytes(4 * self.dim * self.num_rows))

    def write(self, rows: Sequence[int], vectors: Sequence[np.ndarray]) -> None:
        """Keep some of them."""
        places = [4 * self.dim * row for row in rows]
        write_at(self.path, places, [np.ascontiguousarray(v, np.float32).data for v in vectors])

    def read(self) -> np.ndarray:
        """float32 (utterances, dim)."""
        return np.fromfile(self.path, np.float32).reshape(self.num_rows, self.dim)


def write_at(path: Path, places: Sequence[int], parts: Sequence[Any]) -> None:
    """Write bytes into a file at these places, and bring them to the disk.

    Raises:
        InputError: the disk is full.
    """
    with naming_full_disk(path), path.open("r+b") as file:
        for place, part in zip(places, parts, strict=True):
            file.seek(place)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class AudioFiles:
    """What the files are that frames were made of.

    Attributes:
        manifest: names them.
        path: where it is kept.
    """

    manifest: Manifest
    path: Path

    def make_room(self) -> None:
        """Nothing is known of any file yet."""
        with atomic_path(self.path) as path:
            path.write_bytes(bytes(len(self.manifest) * RECORDING.itemsize))

    def write(self, rows: Sequence[int]) -> None:
        """Remember what the files of some utterances are now."""
        known = [self._now(row) for row in rows]
        places = [row * RECORDING.itemsize for row in rows]
        write_at(self.path, places, [each.tobytes() for each in known])

    def check(self, rows: np.ndarray) -> None:
        """Refuse files of some utterances that have changed since.

        Of a file of another time or size the content is compared.

        Raises:
            InputError: names the first few.
        """
        known = np.fromfile(self.path, RECORDING)
        changed = [
            str(self.manifest.path(row))
            for row in rows.tolist()
            if not self._is_same(row, known[row])
        ]
        if changed:
            raise InputError(
                f"{self.path.parent.parent}: {len(changed)} recordings have changed since their "
                f"frames were computed: {first_few(changed)}. Restore them, or remove that folder."
            )

    def _is_same(self, row: int, known: Any) -> bool:  # noqa: ANN401 - a row of RECORDING
        try:
            now = self.manifest.path(row).stat()
        except OSError:
            return False
        if (now.st_size, now.st_mtime_ns) == (known["size"], known["changed"]):
            return True
        return bool(self._now(row)["digest"] == known["digest"])

    def _now(self, row: int) -> Any:  # noqa: ANN401
        path = self.manifest.path(row)
        try:
            status, content = path.stat(), path.read_bytes()
        except OSError:
            return np.zeros((), RECORDING)[()]
        digest = hashlib.blake2b(content, digest_size=16).digest()
        return np.array((status.st_size, status.st_mtime_ns, digest), RECORDING)[()]


def check_about(folder: Path, key: Mapping[str, Any]) -> None:
    """Note what the frames of a folder are of, or refuse it if that is something else.

    Raises:
        InputError: names what is different.
    """
    plain = json.loads(json.dumps(key))
    before, now = dict(flatten(read_about(folder) or plain)), dict(flatten(plain))
    names = dict.fromkeys([*now, *before])
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        shown = "; ".join(f"{n} was {before.get(n)!r}, is {now.get(n)!r}" for n in changed[:3])
        raise InputError(
            f"{folder}: its frames were made otherwise ({shown}). Remove it, or name another "
            "data.frame_cache.folder."
        )
    with atomic_path(folder / ABOUT_NAME) as path:
        path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def read_about(folder: Path) -> dict[str, Any]:
    """What ``check_about`` noted; nothing of a new folder.

    Raises:
        InputError: it is damaged.
    """
    path = folder / ABOUT_NAME
    if not path.is_file():
        return {}
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no mapping")
        return values
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}). Remove {folder}.") from error
