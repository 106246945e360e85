"""The manifest: one row per utterance, as columns that hold a million rows in 200 megabytes."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from speakervlad.deprecated import warn_of_old_name
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.files import atomic_path
from speakervlad.urls import is_remote, location_of, shown

COLUMNS = ("utterance_id", "path", "speaker", "session", "num_samples")
TEXT = np.dtypes.StringDType()
# Rows of a CSV that are Python objects at a time; few enough to stay in a cache.
BLOCK_ROWS = 4096
# 24 hours at 16 kHz; more is not read.
MAX_SAMPLES = 24 * 3600 * 16000
# Of a million absolute paths so many are looked for, at even distances.
MAX_LOOKED_AT = 100
ABSOLUTE = re.compile(r"/|\\|.:[\\/]", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Manifest:
    """Utterances as columns; `path(index)` is the file of a row.

    Text columns are arrays of numpy's variable-width strings (rows,).

    Attributes:
        root: Folder that relative paths start from.
        utterance_ids: Distinct names.
        paths: Audio files with forward slashes, relative to ``root`` or absolute.
        speakers: Speaker name per row.
        sessions: Recording session per row.
        num_samples: Length at 16 kHz, int64 (rows,).
        extra: Further columns of the file, such as ``corpus``.
    """

    root: Path
    utterance_ids: np.ndarray
    paths: np.ndarray
    speakers: np.ndarray
    sessions: np.ndarray
    num_samples: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        root: str | Path,
        *,
        utterance_ids: Sequence[str] | np.ndarray,
        paths: Sequence[str] | np.ndarray,
        speakers: Sequence[str] | np.ndarray,
        sessions: Sequence[str] | np.ndarray,
        num_samples: Iterable[int] | np.ndarray,
        extra: Mapping[str, Sequence[str] | np.ndarray] | None = None,
    ) -> "Manifest":
        """Build a manifest from plain sequences of equal length.

        Raises:
            InputError: no rows, duplicate utterance ids, or a path that leaves ``root`` by ``..``.
        """
        check_rows(utterance_ids, paths, "manifest")
        return cls(
            Path(root),
            np.asarray(utterance_ids, TEXT),
            np.asarray(paths, TEXT),
            np.asarray(speakers, TEXT),
            np.asarray(sessions, TEXT),
            np.asarray(num_samples, np.int64),
            {name: np.asarray(values, TEXT) for name, values in (extra or {}).items()},
        )

    @classmethod
    def load(cls, path: str | Path, root: str | Path | None = None) -> "Manifest":
        """Deprecated: ``load_manifest``."""
        warn_of_old_name("Manifest.load", "load_manifest")
        return load_manifest(path, root)

    def save(self, path: str | Path) -> None:
        """Deprecated: ``save_manifest``."""
        warn_of_old_name("Manifest.save", "save_manifest")
        save_manifest(path, self)

    def __len__(self) -> int:
        return len(self.num_samples)

    @cached_property
    def speaker_names(self) -> list[str]:
        """Sorted distinct speakers; the class number of a speaker is the place in this list."""
        return sorted(set(self.speakers.tolist()))

    @cached_property
    def speaker_indices(self) -> np.ndarray:
        """Class number per row, int64 (rows,)."""
        return ranks_of(self.speakers, self.speaker_names)

    def path(self, index: int) -> Path:
        """The audio file of a row, or its URL."""
        path = self.paths[index]
        return Path(path) if is_remote(path) else self.root / path

    def column(self, name: str) -> np.ndarray:
        """An extra column, such as ``corpus``, as numpy strings (rows,).

        Raises:
            InputError: no such column.
        """
        if name not in self.extra:
            raise InputError(f"manifest has no column {name!r}. {did_you_mean(name, self.extra)}")
        return np.array(self.extra[name].tolist())

    def select(self, rows: np.ndarray | Sequence[int]) -> "Manifest":
        """The manifest of some rows, by boolean mask (rows,) or by row numbers.

        Raises:
            InputError: no row is left.
        """
        kept = np.arange(len(self))[np.asarray(rows)]
        if len(kept) == 0:
            raise InputError("manifest: no row is left after the selection. Select others.")
        return Manifest(
            self.root,
            self.utterance_ids[kept],
            self.paths[kept],
            self.speakers[kept],
            self.sessions[kept],
            self.num_samples[kept],
            {name: values[kept] for name, values in self.extra.items()},
        )


def load_manifest(
    path: str | Path, root: str | Path | None = None, needed: Sequence[str] = COLUMNS
) -> Manifest:
    """Read a CSV with the columns `COLUMNS` and any others.

    Args:
        path: The CSV, or its URL.
        root: Folder that relative paths start from; the CSV's own folder when None.
        needed: Which of `COLUMNS` must be there. Without ``utterance_id`` a row is named by its
            path; other texts are empty, and lengths 0.

    Raises:
        InputError: missing file or column, no rows, a bad number, no path or speaker in a row,
            duplicate utterance ids, a path that leaves the root, or absolute paths of another
            machine.
    """
    url = location_of(path)
    if url is not None:
        from speakervlad.remote import Fetched

        fetched = Fetched(url)
        with fetched.naming(shown(url)):
            return load_manifest(fetched.path, root or Path(url).parent, needed)
    path = Path(path)
    columns = _read_columns(path, needed)
    _fill(columns)
    ids, paths, speakers, sessions, lengths = (columns.pop(name) for name in COLUMNS)
    check_rows(ids, paths, str(path))
    _check_absolute(paths, path)
    _check_filled(paths, speakers if "speaker" in needed else paths, path)
    root = Path(root) if root is not None else path.parent
    has_lengths = "num_samples" in needed
    samples = _parse_lengths(lengths, path) if has_lengths else np.zeros(len(ids), np.int64)
    return Manifest(root, ids, paths, speakers, sessions, samples, columns)


def _fill(columns: dict[str, np.ndarray]) -> None:
    """Columns that a file need not have: rows are named by their paths."""
    paths = columns["path"]
    columns.setdefault("utterance_id", paths)
    for name in COLUMNS:
        columns.setdefault(name, np.full(len(paths), "", TEXT))


def save_manifest(path: str | Path, manifest: Manifest) -> None:
    """Write the CSV; paths become relative to its folder if they lie below it, else absolute.

    Raises:
        InputError: ``path`` cannot be written.
    """
    path = Path(path)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *manifest.extra])
        columns = (
            manifest.utterance_ids,
            _paths_from(manifest, path.parent),
            manifest.speakers,
            manifest.sessions,
            manifest.num_samples.tolist(),
            *manifest.extra.values(),
        )
        writer.writerows(zip(*columns, strict=True))


def _paths_from(manifest: Manifest, folder: Path) -> Iterable[str]:
    """Paths as a CSV in ``folder`` names them."""
    root, folder = manifest.root.resolve(), folder.resolve()
    if root == folder:
        return manifest.paths
    base = root.relative_to(folder) if root.is_relative_to(folder) else root
    prefix = PurePosixPath(base.as_posix())
    return (str(prefix / path) for path in manifest.paths)


def ranks_of(texts: np.ndarray, names: Sequence[str] | None = None) -> np.ndarray:
    """Place of every text among the names (by default the sorted distinct texts), int64 (rows,)."""
    listed = texts.tolist()
    ranks = {name: rank for rank, name in enumerate(names or sorted(set(listed)))}
    return np.fromiter(map(ranks.__getitem__, listed), np.int64, len(listed))


def check_rows(
    ids: Sequence[str] | np.ndarray,
    paths: Sequence[str] | np.ndarray,
    name: str,
    first_line: int | None = 2,
) -> None:
    """Refuse no rows, repeated ids, and paths that leave the root.

    Args:
        ids: Utterance ids.
        paths: Their files.
        name: The source, for the message.
        first_line: Line of the first row in the source; None when it has no lines.

    Raises:
        InputError: one of them.
    """

    def where(row: int) -> str:
        return name if first_line is None else f"{name}, line {row + first_line}"

    if len(ids) == 0:
        raise InputError(f"{name}: holds no utterances. Check its source.")
    if len(set(ids)) < len(ids):
        repeated = [key for key, count in Counter(ids).items() if count > 1]
        files = [row for row, key in enumerate(ids) if key == repeated[0]]
        raise InputError(
            f"{where(files[1])}: {len(repeated)} utterance id(s) are not unique: "
            f"{first_few(repeated)} ({first_few(paths[row] for row in files)}). "
            "Keep one file of each, or give every utterance its own id."
        )
    for row, path in enumerate(paths):
        if ".." in path and ".." in path.replace("\\", "/").split("/"):
            raise InputError(
                f"{where(row)}: path {path!r} leaves the root folder. Use a path below it."
            )


def _read_columns(path: Path, needed: Sequence[str]) -> dict[str, np.ndarray]:
    """Read a CSV with a header as name -> texts (rows,).

    Raises:
        InputError: not a CSV in UTF-8, a needed column is missing, a column appears twice, no rows,
            or a row of another length than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            _check_header(header, path, needed)
            rows = _rows(reader, len(header), path)
            blocks = [
                [np.array(column, TEXT) for column in zip(*block, strict=True)]
                for block in iter(lambda: list(islice(rows, BLOCK_ROWS)), [])
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV in UTF-8 ({error}). Export it again.") from error
    if not blocks:
        raise InputError(f"{path}: holds no utterances. Run `speakervlad prepare` again.")
    columns = map(np.concatenate, zip(*blocks, strict=True))
    return dict(zip(header, columns, strict=True))


def _rows(reader: Iterable[list[str]], width: int, path: Path) -> Iterator[list[str]]:
    """Rows of one length; blank lines may follow them.

    Raises:
        InputError: a row of another length, or a blank line between rows.
    """
    blank = None
    for line, row in enumerate(reader, 2):
        if not row:
            blank = blank or line
        elif blank or len(row) != width:
            raise InputError(
                f"{path}, line {blank or line}: {0 if blank else len(row)} field(s), the header "
                f"has {width}. Correct it."
            )
        else:
            yield row


def _check_header(header: list[str], path: Path, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in header]
    if missing:
        raise InputError(
            f"{path}: missing column(s) {', '.join(missing)}; found "
            f"{first_few(header, 8) or 'none'}. Run `speakervlad prepare ... --layout csv` on it."
        )
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise InputError(
            f"{path}: column(s) {', '.join(repeated)} appear twice. Rename one of them."
        )


def _check_filled(paths: np.ndarray, speakers: np.ndarray, manifest: Path) -> None:
    empty = (paths == "") | (speakers == "")
    if empty.any():
        line = int(empty.argmax()) + 2
        raise InputError(f"{manifest}, line {line}: path or speaker missing. Correct the line.")


def _check_absolute(paths: np.ndarray, manifest: Path) -> None:
    """A manifest of absolute paths works on one machine only; say so before the first read."""
    absolute = [row for row, path in enumerate(paths.tolist()) if ABSOLUTE.match(path)]
    posix = [row for row in absolute if paths[row][0] == "/"]
    others = [row for row in absolute if paths[row][0] != "/"]
    for rows in (posix, others):
        for row in rows[:: max(1, len(rows) // MAX_LOOKED_AT)]:
            if _is_elsewhere(Path(paths[row])):
                raise InputError(
                    f"{manifest}, line {row + 2}: absolute path {paths[row]!r} does not exist "
                    "here; from another machine? Run `speakervlad prepare` here."
                )


def _is_elsewhere(path: Path) -> bool:
    """Not a path of this system, or neither it nor the two folders above it exist."""
    above = [folder for folder in path.parents[:2] if folder != Path(path.anchor)]
    return not (path.is_absolute() and any(place.exists() for place in (path, *above)))


def _parse_lengths(lengths: np.ndarray, path: Path) -> np.ndarray:
    """Texts (rows,) as int64 (rows,).

    Raises:
        InputError: one is not a positive whole number.
    """
    try:
        values = lengths.astype(np.int64)
    except (ValueError, OverflowError):
        values = np.zeros(1)
    if values.min() > 0 and values.max() <= MAX_SAMPLES:
        return values
    line, text = next((n, text) for n, text in enumerate(lengths, 2) if not _is_length(text))
    raise InputError(
        f"{path}, line {line}: num_samples is {text!r}, not a positive whole number up to "
        f"{MAX_SAMPLES} (24 hours). Correct it."
    )


def _is_length(text: str) -> bool:
    return len(text) < 40 and text.strip().isdecimal() and 0 < int(text) <= MAX_SAMPLES
