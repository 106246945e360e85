"""What every decoder of audio shares."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

# Of a file that is read in order, times channels; some seconds.
BLOCK_FRAMES = 1 << 18
# Nobody speaks longer in one file; a header that claims more is not believed.
MAX_SECONDS = 24 * 3600


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
