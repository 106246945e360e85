"""Voices in memory, searched by one matrix product."""

from typing import NamedTuple

import numpy as np

# Rows of a product at a time: 100,000 voices and 64 queries are 26 MB of cosines.
QUERIES = 64


class Found(NamedTuple):
    """A voice near a query: the row of its owner, its cosine, and its unit vector."""

    owner: int
    cosine: float
    vector: np.ndarray


class Gallery:
    """Unit vectors and the rows of their owners, an array that grows by half when it is full."""

    def __init__(self) -> None:
        self._owners = np.empty(0, np.int64)
        self._vectors = np.empty((0, 0), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def replace(self, owners: np.ndarray, vectors: np.ndarray) -> None:
        """Put these voices in the place of all that their owners had.

        Args:
            owners: (voices,) rows of owners.
            vectors: (voices, dim) unit vectors, float32.
        """
        old = np.flatnonzero(np.isin(self._owners[: self._count], owners))
        self._reserve(self._count + max(0, len(owners) - len(old)), vectors.shape[1])
        end = self._count + max(0, len(owners) - len(old))
        places = np.append(old, np.arange(self._count, end))[: len(owners)]
        self._owners[places], self._vectors[places] = owners, vectors
        self._count = end
        for hole in old[len(owners) :][::-1]:
            last = self._count - 1
            self._owners[hole], self._vectors[hole] = self._owners[last], self._vectors[last]
            self._count = last

    def nearest(self, vectors: np.ndarray, count: int) -> list[list[Found]]:
        """The ``count`` voices of the highest cosine to each of (queries, dim), highest first."""
        count = min(count, self._count)
        owners, gallery = self._owners, self._vectors[: self._count]
        found = []
        for start in range(0, len(vectors), QUERIES):
            for cosines in vectors[start : start + QUERIES] @ gallery.T if count else ():
                top = np.argpartition(-cosines, count - 1)[:count]
                top = top[np.argsort(-cosines[top], kind="stable")]
                found.append(
                    [Found(int(owners[row]), float(cosines[row]), gallery[row]) for row in top]
                )
        return found if count else [[] for _ in vectors]

    def _reserve(self, count: int, dim: int) -> None:
        if count <= len(self._owners) and self._vectors.shape[1] == dim:
            return
        room = max(count, len(self._owners) * 3 // 2)
        owners, kept = np.empty(room, np.int64), self._count
        vectors = np.empty((room, dim), np.float32)
        if kept:
            owners[:kept], vectors[:kept] = self._owners[:kept], self._vectors[:kept]
        self._owners, self._vectors = owners, vectors
