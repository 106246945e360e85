"""Embeddings in Parquet files."""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from speakervlad.errors import InputError
from speakervlad.files import atomic_path, open_regular
from speakervlad.tables.embeddings import Embeddings, named
from speakervlad.tables.loose import ID_COLUMNS, VECTOR_COLUMNS
from speakervlad.tables.thrift import Reader

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

# Why a recording has no vector, if it has none.
ERROR_COLUMN = "error"
PARQUET_COLUMNS = (ID_COLUMNS, VECTOR_COLUMNS)
# Where Parquet keeps the fingerprint of the encoder.
ENCODER_KEY = b"speakervlad.encoder"
# A Parquet file may decode to this, or to so many times its own size, whichever is more.
MAX_DECODED_BYTES = 200_000_000
MAX_DECODED_RATIO = 20
# Numbers of fields in the directory: https://github.com/apache/parquet-format, parquet.thrift.
ROW_GROUPS, COLUMNS, METADATA, PATH, NUM_VALUES, UNCOMPRESSED_SIZE = 4, 1, 3, 3, 5, 6
TRAILER = struct.Struct("<I4s")


def read_parquet(path: Path) -> Embeddings:
    """Read a Parquet file with a column of ids and a column of lists of numbers.

    Raises:
        InputError: other columns or types, ids that are missing, or absurd sizes.
    """
    pyarrow = _import_pyarrow()
    with open_regular(path) as opened:
        try:
            schema = pyarrow.parquet.read_schema(opened)
            columns = [_known_column(path, schema.names, known) for known in PARQUET_COLUMNS]
            texts = str(schema.field(columns[0]).type).removeprefix("dictionary<values=")
            if not texts.startswith(("string", "large_string")):
                raise InputError(f"{path}: {columns[0]} of type {texts} is no column of texts.")
            _check_decoded_size(path, opened, columns)
            file = pyarrow.parquet.ParquetFile(opened, read_dictionary=columns[:1])
            table = file.read([*columns, *({ERROR_COLUMN} & set(schema.names))])
            if ERROR_COLUMN in schema.names:
                table = table.filter(table[ERROR_COLUMN].is_null())
            ids, vectors = (table[name].combine_chunks() for name in columns)
        except InputError:
            raise
        # Whatever pyarrow raises on bytes that are no such file.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: no Parquet file ({reason}). Export it again.") from error
    encoder = (schema.metadata or {}).get(ENCODER_KEY)
    names = _parquet_ids(path, columns[0], ids)
    matrix = _parquet_vectors(path, columns[1], vectors)
    return named(path, names, matrix, encoder and encoder.decode(errors="replace"))


def read_shards(folder: Path) -> Embeddings:
    """Read a folder of Parquet files of one encoder; rows with an error are left out.

    Raises:
        InputError: there is none, one is damaged, or they are of different encoders.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise InputError(f"{folder}: a folder without .parquet files. Name a file of embeddings.")
    parts = [part for part in map(_read_shard, paths) if part is not None]
    if not parts:
        raise InputError(f"{folder}: none of its {len(paths)} shards holds an embedding.")
    told = {(part.encoder, part.dim): path for part, path in zip(parts, paths, strict=False)}
    if len(told) > 1:
        raise InputError(f"{folder}: shards of {len(told)} encoders or sizes. Keep those of one.")
    vectors = np.concatenate([part.vectors for part in parts])
    return named(folder, np.concatenate([part.ids for part in parts]), vectors, parts[0].encoder)


def _read_shard(path: Path) -> Embeddings | None:
    """One shard; None of one in which nothing could be embedded."""
    pyarrow = _import_pyarrow()
    with open_regular(path) as opened:
        try:
            schema = pyarrow.parquet.read_schema(opened)
            if ERROR_COLUMN in schema.names:
                errors = pyarrow.parquet.read_table(opened, columns=[ERROR_COLUMN])[ERROR_COLUMN]
                if errors.null_count == 0:
                    return None
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: no Parquet file ({reason}). Remove it.") from error
    return read_parquet(path)


def _known_column(path: Path, present: list[str], known: tuple[str, ...]) -> str:
    found = next((name for name in known if name in present), None)
    if found is None:
        raise InputError(
            f"{path}: columns {', '.join(present)} hold no ids ({', '.join(ID_COLUMNS)}) or no "
            f"vectors ({', '.join(VECTOR_COLUMNS)}). Rename them."
        )
    return found


def _check_decoded_size(path: Path, opened: BinaryIO, columns: list[str]) -> None:
    """Refuse a file that by its own directory decodes to far more than it holds.

    pyarrow does not read the directory: on some damaged ones it ends the process.
    """
    size = opened.seek(0, os.SEEK_END)
    decoded = sum(max(8 * values, length, 0) for values, length in _parts_of(opened, columns))
    if decoded > max(MAX_DECODED_BYTES, MAX_DECODED_RATIO * size):
        raise InputError(f"{path}: decodes to {decoded:,} bytes or more. Write it again.")


def _parts_of(opened: BinaryIO, columns: list[str]) -> Iterator[tuple[int, int]]:
    """Number of values and uncompressed bytes of each part of the columns, by the directory."""
    end = opened.seek(-TRAILER.size, os.SEEK_END)
    length, _ = TRAILER.unpack(opened.read(TRAILER.size))
    opened.seek(end - length)
    for group in Reader(opened.read(length)).structure()[ROW_GROUPS]:
        for column in group[COLUMNS]:
            part = column[METADATA]
            if part[PATH][0].decode(errors="replace") in columns:
                yield part[NUM_VALUES], part[UNCOMPRESSED_SIZE]


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
    is_list = str(vectors.type).startswith(("list<", "fixed_size_list<", "large_list<"))
    if not is_list or vectors.null_count:
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


def write_shard(
    path: Path,
    ids: Sequence[str],
    vectors: Sequence[np.ndarray | None],
    seconds: Sequence[float | None],
    errors: Sequence[str | None],
    dim: int,
    encoder: str | None,
) -> None:
    """Write recordings with a vector and a duration each, or the reason why there is none."""
    pyarrow = _import_pyarrow()
    rows = [None if each is None else each.tolist() for each in vectors]
    kind = pyarrow.list_(pyarrow.float32(), dim)
    columns = {
        "id": pyarrow.array(list(ids), pyarrow.string()),
        "embedding": pyarrow.array(rows, kind),
        "seconds": pyarrow.array(list(seconds), pyarrow.float64()),
        ERROR_COLUMN: pyarrow.array(list(errors), pyarrow.string()),
    }
    table = pyarrow.table(columns).replace_schema_metadata({ENCODER_KEY: (encoder or "").encode()})
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def read_texts(path: Path, needed: str, *others: str) -> dict[str, list[str]]:
    """Columns of texts, one of which must be there.

    Raises:
        InputError: no such file, no such column, or rows without a text.
    """
    pyarrow = _import_pyarrow()
    try:
        with open_regular(path) as opened:
            schema = pyarrow.parquet.read_schema(opened)
            if needed not in schema.names:
                raise InputError(f"{path}: columns {', '.join(schema.names)}: no {needed}.")
            names = [needed, *(name for name in others if name in schema.names)]
            found = pyarrow.parquet.read_table(opened, columns=names)
            texts = {name: found[name].cast(pyarrow.string()).to_pylist() for name in names}
    except InputError:
        raise
    # Whatever pyarrow raises on bytes that are no such file.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: no Parquet file ({reason}). Export it again.") from error
    for name, column in texts.items():
        if None in column or not column:
            raise InputError(f"{path}: rows without {name}, or no rows.")
    return texts


def read_errors(path: Path) -> dict[str, str]:
    """Which recordings of a shard have no vector, and why.

    Raises:
        InputError: it is no shard.
    """
    pyarrow = _import_pyarrow()
    try:
        with open_regular(path) as opened:
            table = pyarrow.parquet.read_table(opened, columns=["id", ERROR_COLUMN])
        pairs = zip(table["id"].to_pylist(), table[ERROR_COLUMN].to_pylist(), strict=True)
        return {name: reason for name, reason in pairs if reason is not None}
    # Whatever pyarrow raises on bytes that are no such file.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: no shard ({reason}). Remove it, and run again.") from error


def _import_pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise InputError(
            "Parquet files need pyarrow. Install it: pip install 'speakervlad[interchange]'."
        ) from error
    return pyarrow
