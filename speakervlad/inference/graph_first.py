"""An encoder folder that also holds its exported graph: the graph where it can, torch elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.inference.exported import ExportedBackend, fits
from speakervlad.inference.waves import Wave

if TYPE_CHECKING:
    from speakervlad.inference.backends import Backend


class GraphFirst:
    """A graph for whole recordings; another backend for hours of audio, windows and enrolment.

    Args:
        graph: what computes first.
        load_other: loads what computes the rest, when it is first needed.
    """

    def __init__(self, graph: ExportedBackend, load_other: "Callable[[], Backend]") -> None:
        self.graph = graph
        self.dim, self.grid, self.notes = graph.dim, graph.grid, graph.notes
        self.num_streams = graph.num_streams
        self._load_other = load_other
        self._other: Backend | None = None
        self._lock = RLock()
        self._open_pool: Callable[[], Executor] | None = None

    @contextmanager
    def streams(self, count: int) -> Iterator[Executor]:
        """``count`` workers; those of the other backend start when they are first needed."""
        pools: list[Executor] = []
        with self.graph.streams(count) as workers, ExitStack() as opened:

            def open_pool() -> Executor:
                with self._lock:
                    if not pools:
                        pools.append(opened.enter_context(self._load().streams(count)))
                return pools[0]

            self._open_pool = open_pool
            try:
                yield workers
            finally:
                self._open_pool = None

    def embed(self, wave: Wave) -> np.ndarray:
        """Unit vector (dim,) of a whole recording, however long."""
        if fits(wave):
            return self.graph.embed(wave)
        return self._elsewhere(lambda other: other.embed(wave))

    def enrol(self, waves: Sequence[Wave]) -> np.ndarray:
        """Unit vector (dim,) of all frames of some recordings."""
        return self._elsewhere(lambda other: other.enrol(waves))

    def embed_windows(self, wave: Wave, windows: np.ndarray) -> np.ndarray:
        """Unit vectors (windows, dim) of spans of one recording."""
        return self._elsewhere(lambda other: other.embed_windows(wave, windows))

    def _elsewhere(self, compute: "Callable[[Backend], np.ndarray]") -> np.ndarray:
        """By the other backend, on its own workers when there are several."""
        if self._open_pool is None:
            return compute(self._load())
        return self._open_pool().submit(compute, self._load()).result()

    def _load(self) -> "Backend":
        with self._lock:
            if self._other is None:
                self._other = self._load_other()
            return self._other
