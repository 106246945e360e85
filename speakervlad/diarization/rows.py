"""Rows of numbers for hours of a recording: in memory, or in a temporary file if they are many."""

import tempfile
from functools import cached_property
from typing import BinaryIO

import numpy as np

from speakervlad.errors import InputError

# Bytes of rows that are kept in memory.
IN_MEMORY = 96 * 1024 * 1024


class Rows:
    """float16 rows of one length, zeros at first, which are written and read in pieces.

    Args:
        count: of rows.
        size: numbers in each.
    """

    def __init__(self, count: int, size: int) -> None:
        self.shape = (count, size)
        self.in_memory = 2 * count * size <= IN_MEMORY

    def write(self, row: int, numbers: np.ndarray) -> None:
        """Set a row.

        Raises:
            InputError: there is no room for the temporary file.
        """
        if self.in_memory:
            self._array[row] = numbers
            return
        try:
            self._file.seek(2 * row * self.shape[1])
            self._file.write(numbers.astype(np.float16).data)
        except OSError as error:
            megabytes = 2 * self.shape[0] * self.shape[1] // 1_000_000
            raise InputError(
                f"what is heard of the recording, {megabytes} MB, cannot be kept in "
                f"{tempfile.gettempdir()} ({error.strerror or error}). Set TMPDIR to another."
            ) from error

    def read(self, first: int, stop: int) -> np.ndarray:
        """float32 rows ``first`` to ``stop``."""
        if self.in_memory:
            return self._array[first:stop].astype(np.float32)
        size = self.shape[1]
        self._file.seek(2 * first * size)
        found = np.frombuffer(self._file.read(2 * (stop - first) * size), np.float16)
        return found.astype(np.float32).reshape(stop - first, size)

    @cached_property
    def _array(self) -> np.ndarray:
        return np.zeros(self.shape, np.float16)

    @cached_property
    def _file(self) -> BinaryIO:
        file = tempfile.TemporaryFile(prefix="speakervlad.")  # noqa: SIM115 - the rows hold it
        file.truncate(2 * self.shape[0] * self.shape[1])
        return file
