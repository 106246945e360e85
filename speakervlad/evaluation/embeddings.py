"""The embedding file: one vector per utterance, found again by its name."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path


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
    def index(self) -> dict[str, int]:
        """Row of every id."""
        return {name: row for row, name in enumerate(self.ids.tolist())}

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
        except (KeyError, ValueError, BadZipFile, EOFError, TypeError) as error:
            raise InputError(
                f"{path}: no embedding file ({error}). Expected an .npz with `ids` and `vectors`, "
                "as `speakervlad embed` writes."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write ``E.npz``: ``ids`` (strings) and ``vectors`` (float32, N x D)."""
        with atomic_path(Path(path).with_suffix(".npz")) as temporary:
            np.savez(temporary, ids=self.ids, vectors=self.vectors)

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """(num_names,) int: the row of every name.

        A name that is no id may differ by its extension or by leading folders: ``/data/a/1.wav``,
        ``a/1.flac`` and ``a/1`` are the same utterance as long as only one id fits.

        Raises:
            InputError: some names have no embedding; all are counted, the first few named.
        """
        names = list(names)
        rows = [self.index.get(name, -1) for name in names]
        unknown = [position for position, row in enumerate(rows) if row < 0]
        for position, row in zip(
            unknown, self._rows_by_tail([names[p] for p in unknown]), strict=True
        ):
            rows[position] = row
        missing = [name for name, row in zip(names, rows, strict=True) if row < 0]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(names)} utterances have no embedding: "
                f"{first_few(missing)}. Embed them, or use the list that fits these embeddings."
            )
        return np.array(rows, dtype=np.int64)

    def _rows_by_tail(self, names: list[str]) -> list[int]:
        """Row for names that differ in extension or leading folders, -1 where none or several."""
        if not names:
            return []
        ids = [path_parts(name) for name in self.ids.tolist()]
        wanted = [path_parts(name) for name in names]
        whole = _unique_rows(ids)
        tails = {
            depth: _unique_rows([parts[-depth:] for parts in ids])
            for depth in sorted({len(parts) for parts in wanted})
        }
        return [_find_tail(parts, whole, tails) for parts in wanted]


def _find_tail(
    parts: tuple[str, ...],
    whole: dict[tuple[str, ...], int],
    tails: dict[int, dict[tuple[str, ...], int]],
) -> int:
    """Drop the name's leading folders until an id fits, else let ids drop theirs."""
    for start in range(len(parts)):
        row = whole.get(parts[start:], -1)
        if row >= 0:
            return row
    return tails[len(parts)].get(parts, -1)


def _unique_rows(keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Row of every key, -1 for a key that stands for several rows."""
    rows: dict[tuple[str, ...], int] = {}
    for row, key in enumerate(keys):
        rows[key] = -1 if key in rows else row
    return rows


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a name: no extension, no leading slash; backslashes separate too."""
    path = PurePosixPath(name.replace("\\", "/"))
    audio = path.suffix.lower() in AUDIO_SUFFIXES
    return tuple(part for part in (path.with_suffix("") if audio else path).parts if part != "/")


AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".sph", ".aac", ".mp4", ".webm", ".npy"}
)


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
