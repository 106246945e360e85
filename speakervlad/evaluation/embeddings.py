"""The embedding file: one vector per utterance, found again by its name."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.names import NameIndex
from speakervlad.files import atomic_path

# What numpy and zipfile raise on bytes that are no such file; RuntimeError: "encrypted".
UNREADABLE = (KeyError, ValueError, TypeError, EOFError, BadZipFile, RuntimeError, zlib.error)


@dataclass(frozen=True)
class Embeddings:
    """Vectors with names.

    Attributes:
        ids: (num_utterances,) str, without repetition.
        vectors: (num_utterances, dim) float32, finite.
    """

    ids: np.ndarray
    vectors: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.asarray(self.ids, dtype=str))
        object.__setattr__(self, "vectors", np.asarray(self.vectors, dtype=np.float32))
        check_shapes(self.ids, self.vectors)
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise InputError(
                f"{len(bad)} embeddings hold NaN or infinite numbers: {first_few(self.ids[bad])}. "
                "Compute them again."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    @cached_property
    def index(self) -> NameIndex:
        """Finds the row of an id."""
        return NameIndex(self.ids.tolist())

    @classmethod
    def load(cls, path: str | Path) -> "Embeddings":
        """Read an ``E.npz`` with ``ids`` and ``vectors``; nothing is ever unpickled.

        Raises:
            InputError: not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["ids"], arrays["vectors"])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except UNREADABLE as error:
            raise InputError(
                f"{path}: no embedding file ({error}). Expected an .npz with `ids` and `vectors`, "
                "as `speakervlad embed` writes."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write ``E.npz``: ``ids`` (strings) and ``vectors`` (float32, N x D)."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, ids=self.ids, vectors=self.vectors)

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """(num_names,) int: the row of every name, which may differ as ``NameIndex`` allows.

        Raises:
            InputError: some names have no embedding; all are counted, the first few named.
        """
        names = list(names)
        rows = self.index.find(names)
        missing = [names[position] for position in np.flatnonzero(rows < 0)]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(names)} utterances have no embedding: "
                f"{first_few(missing)}. Embed them, or use the list that fits these embeddings."
            )
        return rows


def check_shapes(ids: np.ndarray, vectors: np.ndarray) -> None:
    """Refuse what is no table of named vectors."""
    if vectors.ndim != 2 or ids.ndim != 1 or len(ids) != len(vectors) or not vectors.size:
        raise InputError(
            f"ids of shape {ids.shape} and vectors of shape {vectors.shape} do not fit. "
            "Expected (N,) and (N, D)."
        )
    if len(set(ids.tolist())) < len(ids):
        names, counts = np.unique(ids, return_counts=True)
        raise InputError(
            f"{int((counts > 1).sum())} ids stand for several vectors: "
            f"{first_few(names[counts > 1])}. Give every utterance its own id."
        )
