"""Arrays that worker processes read in one memory instead of a copy each."""

import pickle
from typing import Generic, TypeVar

import numpy as np
import torch

Value = TypeVar("Value")

# Arrays begin at multiples of this, so that their numbers are aligned.
ALIGNMENT = 64


class Shared(Generic[Value]):
    """A value whose numpy arrays lie in shared memory, which processes it is sent to read, too.

    Sent by `multiprocessing`, it costs what the value costs without its arrays. Nobody may write
    to them.
    """

    def __init__(self, value: Value) -> None:
        """Copy the arrays, once."""
        buffers: list[pickle.PickleBuffer] = []
        self._rest = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        self._sizes = [len(array) for array in arrays]
        places = self._places()
        self._memory = torch.empty(places[-1], dtype=torch.uint8).share_memory_()
        for place, array in zip(places, arrays, strict=False):
            self._memory.numpy()[place : place + len(array)] = array

    def value(self) -> Value:
        """The value, its arrays views of the shared memory."""
        memory = self._memory.numpy()
        views = [
            memory[place : place + size]
            for place, size in zip(self._places(), self._sizes, strict=False)
        ]
        return pickle.loads(self._rest, buffers=views)

    def _places(self) -> list[int]:
        """Where every array begins, and where the last one ends."""
        padded = [-(-size // ALIGNMENT) * ALIGNMENT for size in self._sizes]
        return [0, *np.cumsum(padded, dtype=np.int64).tolist()]
