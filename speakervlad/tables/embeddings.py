"""Embeddings with names, in our file and in those of other toolkits: npz, Kaldi, Parquet."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path, check_writable
from speakervlad.tables.arrays import load_npz
from speakervlad.tables.columns import as_names, read_blocks
from speakervlad.tables.names import NameIndex

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

ID_COLUMNS = ("id", "ids", "utterance_id", "utt_id")
VECTOR_COLUMNS = ("embedding", "vector", "vectors")
PARQUET_COLUMNS = (ID_COLUMNS, VECTOR_COLUMNS)
# Where Parquet keeps the fingerprint of the encoder.
ENCODER_KEY = b"speakervlad.encoder"
# A Parquet file may decode to this, or to so many times its own size, whichever is more.
MAX_DECODED_BYTES = 200_000_000
MAX_DECODED_RATIO = 20
DECODED_BYTES = """
import sys
from pyarrow.parquet import ParquetFile
path, *columns = sys.argv[1:]
with ParquetFile(path) as file:
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    parts = [group.column(number) for group in groups for number in range(group.num_columns)]
    wanted = [part for part in parts if part.path_in_schema.split(".")[0] in columns]
    print(sum(max(8 * part.num_values, part.total_uncompressed_size) for part in wanted))
"""
# Types of Kaldi's binary vectors and matrices: number of dimensions, and of the numbers.
KALDI_TYPES = {b"FV ": (1, "<f4"), b"DV ": (1, "<f8"), b"FM ": (2, "<f4"), b"DM ": (2, "<f8")}
MAX_KEY_BYTES = 4096
ARK_PLACE = re.compile(r"(?P<file>[^\0|]+):(?P<offset>\d{1,18})")


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
        found = _named(path, ids, vectors, None if encoder is None else str(encoder))
        return replace(found, spans=_spans(arrays, len(found)))

    def save(self, path: str | Path) -> None:
        """Write ``E.npz``: ``ids`` (strings), ``vectors`` (float32, N x D), ``encoder``.

        Windows have ``starts`` and ``ends`` (float64, N) in seconds, too.
        """
        arrays = {"ids": self.ids, "vectors": self.vectors}
        if self.encoder is not None:
            arrays["encoder"] = np.array(self.encoder)
        if self.spans is not None:
            arrays |= {"starts": self.spans[:, 0], "ends": self.spans[:, 1]}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            # The stubs take any keyword for `allow_pickle`, which numpy 2.0 does not have.
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

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
    """Read a Kaldi ark, binary or text, of vectors (or of matrices with one row).

    Raises:
        InputError: anything else.
    """
    pairs: list[tuple[str, np.ndarray]] = []
    with _open_regular(path) as file:
        while key := _read_key(file, path):
            array = _read_kaldi(file)
            if array is None:
                raise InputError(f"{path}: {key!r} is no vector of floats. Copy the file again.")
            pairs.append((key, array))
    return _from_pairs(path, pairs)


def read_scp(path: Path) -> Embeddings:
    """Read the vectors that a Kaldi scp points to: ``id file.ark:offset`` and nothing else.

    ark paths are tried as they are written, then relative to the folder of the scp.

    Raises:
        InputError: another kind of line (pipes are never run), or a place without a vector. What
            stands there is not quoted.
    """
    pairs: list[tuple[str, np.ndarray]] = []
    for rows, line_numbers in read_blocks(path):
        for row, number in zip(rows, line_numbers, strict=True):
            name, *places = (cell.decode() for cell in row)
            place = ARK_PLACE.fullmatch(" ".join(places))
            if place is None:
                raise InputError(
                    f"{path}, line {number}: {' '.join([name, *places])!r} is no "
                    "`id file.ark:offset`. Pipes are not run; write the ark to a file."
                )
            try:
                with _open_regular(_beside(path, place["file"])) as file:
                    file.seek(int(place["offset"]))
                    array = _read_kaldi(file)
            except OSError as error:
                reason = f"{place[0]}: {error.strerror}"
                raise InputError(f"{path}, line {number}: {reason}.") from error
            if array is None:
                raise InputError(
                    f"{path}, line {number}: no vector of floats stands at {place[0]}. "
                    "Keep the ark beside its scp."
                )
            pairs.append((name, array))
    return _from_pairs(path, pairs)


def _beside(scp: Path, place: str) -> Path:
    """A file, taken relative to its scp if it is not found as written."""
    file = Path(place)
    return scp.parent / file if not file.exists() and (scp.parent / file).exists() else file


def _open_regular(path: Path) -> BinaryIO:
    """Open a file that is no pipe, device or folder."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file.")
    return path.open("rb")


def _read_key(file: BinaryIO, path: Path) -> str:
    """The next key of an ark, empty at its end."""
    key = b""
    while (byte := file.read(1)) not in (b"", b" "):
        key = (key + byte).lstrip()
        if len(key) > MAX_KEY_BYTES:
            raise InputError(f"{path}: no Kaldi ark of vectors (a key has no end). Copy it again.")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a key is not UTF-8. No Kaldi ark? Copy it again.") from error


def _read_kaldi(file: BinaryIO) -> np.ndarray | None:
    """The float vector or matrix at the current place of a file; None for anything else."""
    start = file.read(5)
    if not start.startswith(b"\0B"):
        return _read_kaldi_text(start, file)
    num_dims, dtype = KALDI_TYPES.get(start[2:], (0, ""))
    sizes = file.read(5 * num_dims)
    marks, numbers = sizes[::5], [sizes[at + 1 : at + 5] for at in range(0, len(sizes), 5)]
    if not num_dims or len(sizes) < 5 * num_dims or set(marks) != {4}:
        return None
    shape = [int.from_bytes(number, "little", signed=True) for number in numbers]
    num_bytes = int(np.dtype(dtype).itemsize) * math.prod(shape)
    here = file.tell()
    if min(shape) < 0 or num_bytes > file.seek(0, os.SEEK_END) - here:
        return None
    file.seek(here)
    return np.frombuffer(file.read(num_bytes), dtype).reshape(shape)


def _read_kaldi_text(start: bytes, file: BinaryIO) -> np.ndarray | None:
    """``[ 1 2 3 ]``, or a row a line."""
    text = start + file.readline()
    while b"]" not in text and (line := file.readline()):
        text += line
    opening, bracket, rest = text.partition(b"[")
    body, closing, after = rest.partition(b"]")
    if opening.strip() or after.strip() or not bracket or not closing:
        return None
    rows = [row.split() for row in body.splitlines() if row.strip()]
    try:
        array = np.array([[float(number) for number in row] for row in rows])
    except ValueError:
        return None
    return array[0] if array.ndim == 2 and b"\n" not in body else array


def write_ark(path: Path, embeddings: Embeddings) -> None:
    """Write a binary Kaldi ark."""
    keys = _kaldi_keys(embeddings)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        _write_kaldi(file, keys, embeddings.vectors)


def write_scp(path: Path, embeddings: Embeddings) -> None:
    """Write ``name.scp`` and the ``name.ark`` beside it that it points to, by bare file name."""
    keys, ark = _kaldi_keys(embeddings), path.with_suffix(".ark")
    with atomic_path(path) as temporary:
        with atomic_path(ark) as temporary_ark, temporary_ark.open("wb") as file:
            places = _write_kaldi(file, keys, embeddings.vectors)
        lines = (f"{key} {ark.name}:{at}\n" for key, at in zip(keys, places, strict=True))
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def _write_kaldi(file: BinaryIO, keys: list[str], vectors: np.ndarray) -> list[int]:
    """Write binary float vectors; returns where each begins, after its key."""
    places, at = [], 0
    head = b"\0BFV \4" + vectors.shape[1].to_bytes(4, "little")
    for key, vector in zip(keys, vectors.astype("<f4"), strict=True):
        name = f"{key} ".encode()
        at += len(name)
        places.append(at)
        at += file.write(name + head + vector.tobytes()) - len(name)
    return places


def _kaldi_keys(embeddings: Embeddings) -> list[str]:
    """The ids; Kaldi's hold no white space.

    Raises:
        InputError: an id with white space, or one that is no text.
    """
    keys = embeddings.ids.tolist()
    for name in keys:
        if len(name.split()) != 1 or not name.isprintable():
            raise InputError(
                f"id {name!r} has white space or control characters, which Kaldi files cannot "
                "hold. Use npz."
            )
    return keys


def read_parquet(path: Path) -> Embeddings:
    """Read a Parquet file with a column of ids and a column of lists of numbers.

    Raises:
        InputError: other columns or types, ids that are missing, or absurd sizes.
    """
    pyarrow = _import_pyarrow()
    with _open_regular(path) as opened:
        try:
            schema = pyarrow.parquet.read_schema(opened)
            columns = [_known_column(path, schema.names, known) for known in PARQUET_COLUMNS]
            texts = str(schema.field(columns[0]).type).removeprefix("dictionary<values=")
            if not texts.startswith(("string", "large_string")):
                raise InputError(f"{path}: {columns[0]} of type {texts} is no column of texts.")
            _check_decoded_size(path, columns)
            file = pyarrow.parquet.ParquetFile(opened, read_dictionary=columns[:1])
            ids, vectors = (column.combine_chunks() for column in file.read(columns).columns)
        except InputError:
            raise
        # Whatever pyarrow raises on bytes that are no such file.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: no Parquet file ({reason}). Export it again.") from error
    encoder = (schema.metadata or {}).get(ENCODER_KEY)
    names = _parquet_ids(path, columns[0], ids)
    matrix = _parquet_vectors(path, columns[1], vectors)
    return _named(path, names, matrix, encoder and encoder.decode(errors="replace"))


def _known_column(path: Path, present: list[str], known: tuple[str, ...]) -> str:
    found = next((name for name in known if name in present), None)
    if found is None:
        raise InputError(
            f"{path}: columns {', '.join(present)} hold no ids ({', '.join(ID_COLUMNS)}) or no "
            f"vectors ({', '.join(VECTOR_COLUMNS)}). Rename them."
        )
    return found


def _check_decoded_size(path: Path, columns: list[str]) -> None:
    """Refuse a file that by its own directory decodes to far more than it holds.

    The directory is read in a process of its own: on some damaged ones pyarrow ends the process.
    """
    command = [sys.executable, "-c", DECODED_BYTES, str(path), *columns]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise InputError(f"{path}: no Parquet file (damaged directory). Export it again.")
    if int(found.stdout) > max(MAX_DECODED_BYTES, MAX_DECODED_RATIO * path.stat().st_size):
        raise InputError(f"{path}: decodes to {int(found.stdout):,} bytes or more. Write it again.")


def _parquet_ids(path: Path, name: str, ids: "pyarrow.DictionaryArray") -> list[str]:
    """Ids of a column that was read as a dictionary, so that repetition costs no memory."""
    if ids.null_count:
        raise InputError(f"{path}: {name} has {ids.null_count} rows without an id. Add them.")
    if len(ids.dictionary) < len(ids):
        raise InputError(f"{path}: {name} repeats ids. Give every utterance its own id.")
    try:
        return ids.to_pylist()
    except (IndexError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: {name} has ids that are damaged or not UTF-8. Export it again."
        ) from error


def _parquet_vectors(path: Path, name: str, vectors: "pyarrow.ListArray") -> np.ndarray:
    """(num_rows, dim) numbers of a column of lists of one length."""
    if "list" not in str(vectors.type) or vectors.null_count:
        raise InputError(f"{path}: {name} of type {vectors.type} is no column of lists.")
    numbers = vectors.flatten()
    if numbers.null_count or not str(numbers.type).startswith(("float", "double", "int", "uint")):
        raise InputError(f"{path}: {name} of type {vectors.type} has gaps or no numbers.")
    lengths = sorted(set(vectors.value_lengths().to_pylist()))
    if len(lengths) != 1:
        raise InputError(f"{path}: vectors of one size expected, found sizes {lengths[:5]}.")
    return numbers.to_numpy(zero_copy_only=False).reshape(len(vectors), lengths[0])


def write_parquet(path: Path, embeddings: Embeddings) -> None:
    """Write the columns ``id`` and ``embedding`` (fixed-size lists of float32)."""
    pyarrow = _import_pyarrow()
    flat = pyarrow.array(embeddings.vectors.ravel(), type=pyarrow.float32())
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, embeddings.dim)
    table = pyarrow.table({"id": embeddings.ids.tolist(), "embedding": vectors})
    if embeddings.encoder is not None:
        table = table.replace_schema_metadata({ENCODER_KEY: embeddings.encoder.encode()})
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def _from_pairs(path: Path, pairs: list[tuple[str, np.ndarray]]) -> Embeddings:
    vectors = [np.asarray(vector, dtype=np.float32) for _, vector in pairs]
    vectors = [vector[0] if vector.shape[:-1] == (1,) else vector for vector in vectors]
    shapes = {vector.shape for vector in vectors}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise InputError(
            f"{path}: vectors of one size expected, found shapes {sorted(shapes)[:5]}. "
            "Embeddings have one vector per utterance."
        )
    return _named(path, [name for name, _ in pairs], np.stack(vectors))


def _named(
    path: str | Path, ids: Iterable[str], vectors: np.ndarray, encoder: str | None = None
) -> Embeddings:
    """Embeddings of a file, which errors name."""
    try:
        names = ids if isinstance(ids, np.ndarray) else as_names(ids)
        return Embeddings(names, vectors, encoder)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _by_suffix(path: Path, table: dict[str, Callable]) -> Callable:
    if path.suffix.lower() not in table:
        raise InputError(f"{path}: unknown kind of embedding file. Use {', '.join(table)}.")
    return table[path.suffix.lower()]


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
