"""Spans of the shards that `pack` writes, read like files."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speakervlad.audio.quality import STEP
from speakervlad.audio.source import (
    BLOCK_FRAMES,
    check_file,
)
from speakervlad.errors import InputError

# A span of a shard that `pack` wrote: file@first sample+number of samples.
PACKED_PATH = re.compile(r"(?P<shard>.+\.pcm16)@(?P<first>\d+)\+(?P<length>\d+)", re.DOTALL)
PACKED_RATE = 16000


class PackedSource:
    """A span of a shard: mono 16-bit samples at 16 kHz, little endian, without any header."""

    sample_rate = PACKED_RATE
    num_channels = 1
    is_float = False
    step = STEP

    def __init__(self, shard: Path, first: int, length: int) -> None:
        check_file(shard)
        if 2 * (first + length) > shard.stat().st_size:
            raise InputError(
                f"{shard}: ends before sample {first + length}, which its manifest names. "
                "Copy it again, or run `speakervlad pack` again."
            )
        self._shard = shard
        self._first = first
        self._length = length
        self.length: int | None = length

    def read(self, start: int, num_frames: int) -> np.ndarray:
        count = min(num_frames, max(self._length - start, 0))
        samples = np.fromfile(self._shard, "<i2", count, offset=2 * (self._first + start))
        return (samples.astype(np.float32) / 32768)[:, None]

    def blocks(self, stop: int | None = None) -> Iterator[np.ndarray]:
        for start in range(0, min(self._length, stop or self._length), BLOCK_FRAMES):
            yield self.read(start, BLOCK_FRAMES)
