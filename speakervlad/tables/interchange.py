"""Embeddings in our file and in those of other toolkits, told apart by their suffix."""

from collections.abc import Callable
from pathlib import Path

from speakervlad.errors import InputError
from speakervlad.files import check_writable
from speakervlad.tables.embeddings import Embeddings, read_npz, write_npz
from speakervlad.tables.kaldi import read_ark, read_scp, write_ark, write_scp
from speakervlad.tables.parquet import read_parquet, write_parquet


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


def _by_suffix(path: Path, table: dict[str, Callable]) -> Callable:
    if path.suffix.lower() not in table:
        raise InputError(f"{path}: unknown kind of embedding file. Use {', '.join(table)}.")
    return table[path.suffix.lower()]


READERS: dict[str, Callable[[Path], Embeddings]] = {
    ".npz": read_npz,
    ".ark": read_ark,
    ".scp": read_scp,
    ".parquet": read_parquet,
}
WRITERS: dict[str, Callable[[Path, Embeddings], None]] = {
    ".npz": write_npz,
    ".ark": write_ark,
    ".scp": write_scp,
    ".parquet": write_parquet,
}
