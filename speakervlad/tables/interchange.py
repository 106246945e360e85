"""Embeddings in our file and in those of other toolkits, told apart by their suffix."""

from collections.abc import Callable
from pathlib import Path

from speakervlad.errors import InputError
from speakervlad.files import check_writable
from speakervlad.tables.embeddings import Embeddings, write_npz
from speakervlad.tables.kaldi import read_ark, read_scp, write_ark, write_scp
from speakervlad.tables.loose import read_arrays, read_csv, read_npy, refuse_pickles
from speakervlad.tables.parquet import read_parquet, read_shards, write_parquet


def load_embeddings(path: str | Path) -> Embeddings:
    """Read embeddings; the suffix tells the format: a row of ``READERS``.

    A folder is one of Parquet shards, as ``embed --engine ray`` writes them.

    Raises:
        InputError: an unknown suffix, a missing extra, or contents that are no embeddings.
    """
    path = Path(path)
    if path.is_dir():
        return read_shards(path)
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


def _by_suffix(path: Path, table: dict[str, Callable]) -> Callable:
    if path.suffix.lower() not in table:
        known = ", ".join(name for name in table if table[name] is not refuse_pickles)
        raise InputError(f"{path}: unknown kind of embedding file. Use {known}.")
    return table[path.suffix.lower()]


READERS: dict[str, Callable[[Path], Embeddings]] = {
    ".npz": read_arrays,
    ".ark": read_ark,
    ".scp": read_scp,
    ".parquet": read_parquet,
    ".npy": read_npy,
    ".csv": read_csv,
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth"), refuse_pickles),
}
WRITERS: dict[str, Callable[[Path, Embeddings], None]] = {
    ".npz": write_npz,
    ".ark": write_ark,
    ".scp": write_scp,
    ".parquet": write_parquet,
}
