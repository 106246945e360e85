"""Recordings too long for memory: read from their file span by span, or decoded to disk once."""

import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from speakervlad.audio.quality import Level
from speakervlad.audio.spans import load_audio
from speakervlad.audio.waves import BLOCK_SAMPLES
from speakervlad.errors import InputError


class FileWave:
    """A long file, read span by span; silence is noticed when its end has been read.

    Args:
        path: the file.
        num_samples: of it.
        channel: of it, if one is asked for.
        num_channels: how many it has.
    """

    def __init__(
        self, path: Path, num_samples: int, channel: int | None, num_channels: int = 1
    ) -> None:
        self.path = path
        self.num_samples = num_samples
        self.channel = channel
        self._level = Level()
        self._level.num_channels = num_channels

    def read(self, start: int, stop: int) -> np.ndarray:
        span = load_audio(self.path, channel=self.channel, start=start, num_samples=stop - start)
        self._level.add(span)
        if stop == self.num_samples:
            self._level.check(str(self.path))
        return span


class SpooledWave:
    """A long file that can only be decoded in order: once, into a temporary file of 230 MB an hour.

    It is decoded when it is asked for something, and removed when the wave is collected.

    Args:
        name: of the file, for errors.
        blocks: its samples.
        level: what measures them as they come.
    """

    def __init__(self, name: str, blocks: Iterator[np.ndarray], level: Level) -> None:
        self._name = name
        self._blocks = blocks
        self._level = level

    @property
    def num_samples(self) -> int:
        return self._spool[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        samples = self.unchecked(start, stop)
        self._level.check(self._name)
        return samples

    def unchecked(self, start: int, stop: int) -> np.ndarray:
        """As ``read``, of silence too."""
        file = self._spool[0]
        file.seek(4 * start)
        return np.frombuffer(bytearray(file.read(4 * (stop - start))), np.float32)

    def unchecked_blocks(self) -> Iterator[np.ndarray]:
        """All of it in pieces of some seconds, silence too."""
        for start in range(0, self.num_samples, BLOCK_SAMPLES):
            yield self.unchecked(start, min(start + BLOCK_SAMPLES, self.num_samples))

    @cached_property
    def _spool(self) -> tuple[BinaryIO, int]:
        """All samples in float32, and their number.

        Raises:
            InputError: the file is damaged, or there is no room for its samples.
        """
        try:
            file = tempfile.TemporaryFile(prefix="speakervlad.")  # noqa: SIM115 - the wave holds it
            for block in self._blocks:
                file.write(block.data)
            return file, file.tell() // 4
        except OSError as error:
            raise InputError(
                f"{self._name}: its samples, 230 MB an hour, cannot be kept in "
                f"{tempfile.gettempdir()} ({error.strerror or error}). Set TMPDIR to another."
            ) from error
