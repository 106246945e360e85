"""Embeddings with names, and their file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from speakervlad.deprecated import warn_of_old_name
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.tables.arrays import load_npz
from speakervlad.tables.columns import as_names
from speakervlad.tables.names import NameIndex


@dataclass(frozen=True)
class Embeddings:
    """Vectors with names.

    Attributes:
        ids: (num_utterances,) str, without repetition.
        vectors: (num_utterances, dim) float32, finite.
        encoder: fingerprint of the encoder that made them, where it is known.
        spans: (num_utterances, 2) float64, begin and end in seconds, where they are of windows.
    """

    ids: np.ndarray
    vectors: np.ndarray
    encoder: str | None = None
    spans: np.ndarray | None = None

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
        """Deprecated: ``load_embeddings``."""
        warn_of_old_name("Embeddings.load", "load_embeddings")
        return read_npz(path)

    def save(self, path: str | Path) -> None:
        """Deprecated: ``save_embeddings``."""
        warn_of_old_name("Embeddings.save", "save_embeddings")
        write_npz(path, self)

    def with_vectors(self, ids: np.ndarray, vectors: np.ndarray) -> "Embeddings":
        """Other rows of the same encoder."""
        return Embeddings(ids, vectors, self.encoder)

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """(num_names,) int: the row of every name, which may differ as ``NameIndex`` allows.

        Raises:
            InputError: names without an embedding, or without a certain one; all are counted, the
                first few named.
        """
        names = list(names)
        rows, problem = self.index.match(names)
        missing = [names[position] for position in np.flatnonzero(rows < 0)]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(names)} utterances have no embedding: "
                f"{first_few(missing)}.{problem} Embed them under the names that the list has, or "
                "use the list that fits these embeddings."
            )
        return rows


def read_npz(path: str | Path) -> Embeddings:
    """Read an ``E.npz`` with ``ids`` and ``vectors``; nothing is ever unpickled.

    Raises:
        InputError: not such a file.
    """
    try:
        arrays = load_npz(path, ("ids", "vectors", "encoder", "starts", "ends"))
        ids, vectors, encoder = (arrays.get(name) for name in ("ids", "vectors", "encoder"))
        if ids is None or ids.dtype.kind not in "USiu":
            raise InputError(f"{path}: no array `ids` of names.")
        if vectors is None or vectors.dtype.kind not in "fiu":
            raise InputError(f"{path}: no array `vectors` of numbers.")
        if encoder is not None and (encoder.dtype.kind != "U" or encoder.shape):
            raise InputError(f"{path}: `encoder` is no text.")
    except InputError as error:
        raise InputError(
            f"{path}: no embedding file ({str(error).removeprefix(f'{path}: ')}). "
            "Expected an .npz with `ids` and `vectors`, as `speakervlad embed` writes."
        ) from error
    found = named(path, ids, vectors, None if encoder is None else str(encoder))
    return replace(found, spans=_spans(arrays, len(found)))


def write_npz(path: str | Path, embeddings: Embeddings) -> None:
    """Write ``E.npz``: ``ids`` (strings), ``vectors`` (float32, N x D), ``encoder``.

    Windows have ``starts`` and ``ends`` (float64, N) in seconds, too.
    """
    arrays = {"ids": embeddings.ids, "vectors": embeddings.vectors}
    if embeddings.encoder is not None:
        arrays["encoder"] = np.array(embeddings.encoder)
    if embeddings.spans is not None:
        arrays |= {"starts": embeddings.spans[:, 0], "ends": embeddings.spans[:, 1]}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        # The stubs take any keyword for `allow_pickle`, which numpy 2.0 does not have.
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _spans(arrays: Mapping[str, np.ndarray], count: int) -> np.ndarray | None:
    """The spans of so many windows; None where a file has no such arrays, or others of the name."""
    sides = [arrays[name] for name in ("starts", "ends") if name in arrays]
    if [side.shape for side in sides] != 2 * [(count,)]:
        return None
    return np.stack(sides, axis=1) if all(side.dtype.kind == "f" for side in sides) else None


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


def named(
    path: str | Path, ids: Iterable[str], vectors: np.ndarray, encoder: str | None = None
) -> Embeddings:
    """Embeddings of a file, which errors name."""
    try:
        names = ids if isinstance(ids, np.ndarray) else as_names(ids)
        return Embeddings(names, vectors, encoder)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
