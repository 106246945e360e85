"""Embeddings with names, in our file and in those of other toolkits: npz, Kaldi, Parquet."""

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from zipfile import BadZipFile

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.names import NameIndex
from speakervlad.evaluation.tables import read_blocks
from speakervlad.files import atomic_path, check_writable

# What numpy and zipfile raise on bytes that are no such file; RuntimeError: "encrypted".
UNREADABLE = (KeyError, ValueError, TypeError, EOFError, BadZipFile, RuntimeError, zlib.error)

ID_COLUMNS = ("id", "ids", "utterance_id", "utt_id")
# What kaldiio raises on bytes that are no ark.
NO_ARK = (ValueError, EOFError, AssertionError, IndexError, RuntimeError, struct.error)
VECTOR_COLUMNS = ("embedding", "vector", "vectors")


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


def load_embeddings(path: str | Path) -> Embeddings:
    """Read embeddings; the suffix tells the format: .npz, .ark, .scp or .parquet.

    Raises:
        InputError: an unknown suffix, a missing extra, or contents that are no embeddings.
    """
    path = Path(path)
    return _by_suffix(path, READERS)(path)


def save_embeddings(path: str | Path, embeddings: Embeddings) -> None:
    """Write embeddings; the suffix tells the format. A ``.scp`` comes with its ``.ark`` beside it.

    Raises:
        InputError: an unknown suffix, a missing extra, or a path that cannot be written.
    """
    path = Path(path)
    writer = _by_suffix(path, WRITERS)
    check_writable(path)
    writer(path, embeddings)


def read_ark(path: Path) -> Embeddings:
    """Read a Kaldi ark, binary or text, of vectors (or of matrices with one row)."""
    kaldiio = _import_kaldiio()
    try:
        return _from_pairs(path, list(kaldiio.load_ark(str(path))))
    except NO_ARK as error:
        raise InputError(f"{path}: no Kaldi ark of vectors ({error}). Copy it again.") from error


def read_scp(path: Path) -> Embeddings:
    """Read the vectors that a Kaldi scp points to. A pipe is refused, never executed.

    ark paths are tried as they are written, then relative to the folder of the scp.
    """
    kaldiio = _import_kaldiio()
    pairs: list[tuple[str, np.ndarray]] = []
    for rows, line_numbers in read_blocks(path):
        for row, number in zip(rows, line_numbers, strict=True):
            name, *places = (cell.decode() for cell in row)
            place = " ".join(places)
            if "|" in place or not place:
                raise InputError(
                    f"{path}, line {number}: {f'{name} {place}'!r} is no `id file.ark:offset`. "
                    "Pipes are not run; write the ark to a file."
                )
            try:
                pairs.append((name, kaldiio.load_mat(_beside(path, place))))
            except (*NO_ARK, OSError) as error:
                raise InputError(
                    f"{path}, line {number}: {place} is not readable ({error}). "
                    "Keep the ark beside its scp."
                ) from error
    return _from_pairs(path, pairs)


def _beside(scp: Path, place: str) -> str:
    """``file.ark:offset``, the file taken relative to its scp if it is not found as written."""
    name, colon, offset = place.rpartition(":")
    file = Path(name if colon else place)
    if not file.exists() and (scp.parent / file).exists():
        file = scp.parent / file
    return f"{file}{colon}{offset if colon else ''}"


def write_ark(path: Path, embeddings: Embeddings) -> None:
    """Write a binary Kaldi ark."""
    kaldiio = _import_kaldiio()
    with atomic_path(path) as temporary:
        kaldiio.save_ark(str(temporary), _as_pairs(embeddings))


def write_scp(path: Path, embeddings: Embeddings) -> None:
    """Write ``name.scp`` and the ``name.ark`` beside it that it points to, by bare file name."""
    kaldiio = _import_kaldiio()
    ark = path.with_suffix(".ark")
    with atomic_path(path) as temporary:
        with atomic_path(ark) as temporary_ark:
            kaldiio.save_ark(str(temporary_ark), _as_pairs(embeddings), scp=str(temporary))
        text = temporary.read_text(encoding="utf-8").replace(str(temporary_ark), ark.name)
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_parquet(path: Path) -> Embeddings:
    """Read a Parquet file with a column of ids and a column of lists of numbers."""
    pyarrow = _import_pyarrow()
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: no Parquet file ({error}). Export it again.") from error
    columns = [
        next((name for name in known if name in table.column_names), None)
        for known in (ID_COLUMNS, VECTOR_COLUMNS)
    ]
    if None in columns:
        raise InputError(
            f"{path}: columns {', '.join(table.column_names)} hold no ids "
            f"({', '.join(ID_COLUMNS)}) or no vectors ({', '.join(VECTOR_COLUMNS)}). Rename them."
        )
    ids, vectors = (table.column(name).to_pylist() for name in columns)
    return _from_pairs(path, list(zip(ids, vectors, strict=True)))


def write_parquet(path: Path, embeddings: Embeddings) -> None:
    """Write the columns ``id`` and ``embedding`` (fixed-size lists of float32)."""
    pyarrow = _import_pyarrow()
    flat = pyarrow.array(embeddings.vectors.ravel(), type=pyarrow.float32())
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, embeddings.dim)
    table = pyarrow.table({"id": embeddings.ids.tolist(), "embedding": vectors})
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def _as_pairs(embeddings: Embeddings) -> dict[str, np.ndarray]:
    """Vectors by id; Kaldi ids hold no spaces.

    Raises:
        InputError: an id with white space.
    """
    for name in embeddings.ids.tolist():
        if len(name.split()) != 1:
            raise InputError(
                f"id {name!r} has white space, which Kaldi files cannot hold. Use npz."
            )
    return dict(zip(embeddings.ids.tolist(), embeddings.vectors, strict=True))


def _from_pairs(path: Path, pairs: list[tuple[str, np.ndarray]]) -> Embeddings:
    vectors = [np.asarray(vector, dtype=np.float32) for _, vector in pairs]
    vectors = [vector[0] if vector.shape[:-1] == (1,) else vector for vector in vectors]
    shapes = {vector.shape for vector in vectors}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise InputError(
            f"{path}: vectors of one size expected, found shapes {sorted(shapes)[:5]}. "
            "Embeddings have one vector per utterance."
        )
    try:
        return Embeddings(np.array([name for name, _ in pairs], dtype=str), np.stack(vectors))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _by_suffix(path: Path, table: dict[str, Callable]) -> Callable:
    if path.suffix.lower() not in table:
        raise InputError(f"{path}: unknown kind of embedding file. Use {', '.join(table)}.")
    return table[path.suffix.lower()]


def _import_kaldiio() -> ModuleType:
    try:
        import kaldiio
    except ModuleNotFoundError as error:
        raise InputError(
            "Kaldi files need kaldiio. Install it: pip install 'speakervlad[interchange]'."
        ) from error
    return kaldiio


def _import_pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise InputError(
            "Parquet files need pyarrow. Install it: pip install 'speakervlad[interchange]'."
        ) from error
    return pyarrow


READERS: dict[str, Callable[[Path], Embeddings]] = {
    ".npz": Embeddings.load,
    ".ark": read_ark,
    ".scp": read_scp,
    ".parquet": read_parquet,
}
WRITERS: dict[str, Callable[[Path, Embeddings], None]] = {
    ".npz": lambda path, embeddings: embeddings.save(path),
    ".ark": write_ark,
    ".scp": write_scp,
    ".parquet": write_parquet,
}
