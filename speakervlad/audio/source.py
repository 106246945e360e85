"""What every decoder of audio shares, and what is refused before any decoder sees it."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from speakervlad.errors import InputError

# Of a file that is read in order, times channels; some seconds.
BLOCK_FRAMES = 1 << 18
# Nobody speaks longer in one file; a header that claims more is not believed.
MAX_SECONDS = 24 * 3600
EMPTY_HEADER = "its header states no samples"


class UndecodableError(Exception):
    """What is wrong with a file, in the words that follow its name."""


class Source(Protocol):
    """An audio file just opened, good for one call; a frame holds one sample of every channel.

    Attributes:
        length: Frames, where they are counted and a span is one seek; None where only decoding
            tells how many there are.
        is_float: Whether samples are stored that may exceed full scale.
        step: Smallest step of its samples, relative to full scale.
    """

    sample_rate: int
    num_channels: int
    length: int | None
    is_float: bool
    step: float

    def read(self, start: int, num_frames: int) -> np.ndarray:
        """Frames from ``start`` on, if there is a ``length``: float32 (frames, channels)."""
        ...

    def blocks(self, stop: int | None = None) -> Iterator[np.ndarray]:
        """All frames, or those up to ``stop`` and some more, in memory that does not grow."""
        ...


def check_duration(num_frames: int, sample_rate: int) -> None:
    """Refuse to go on behind what anybody says in one file.

    Raises:
        UndecodableError: longer than a day.
    """
    if num_frames > MAX_SECONDS * sample_rate:
        raise UndecodableError(f"longer than {MAX_SECONDS // 3600} hours. Cut it.")


def tag_size(begin: bytes) -> int:
    """Bytes of the ID3v2 tag that ten bytes begin, or 0."""
    if begin[:3] != b"ID3":
        return 0
    shifts = zip(begin[6:10], (21, 14, 7, 0), strict=False)
    return 10 + sum((byte & 127) << shift for byte, shift in shifts)


def has_pyav() -> bool:
    """Whether PyAV, which is optional, is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it.

    Raises:
        InputError: a name that is not UTF-8, nothing there, a folder, a device, a pipe, or empty.
    """
    name = printable(path)
    if name != str(path):
        raise InputError(f"{name}: its name is not UTF-8. Rename it.")
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(
            f"{name}: no such file. Check the path, and --root if a list names it."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name!r}: {getattr(error, 'strerror', None) or error}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name}: is a folder, not an audio file. Name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name}: is a device or a pipe. Write its content to a file first.")
    if status.st_size == 0:
        raise InputError(f"{name}: empty file. Get it again or remove it from the list.")


def printable(path: str | Path) -> str:
    """A path for messages and lists; bytes that are not UTF-8 are escaped."""
    return str(path).encode(errors="backslashreplace").decode()
