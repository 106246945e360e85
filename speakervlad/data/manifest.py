"""The manifest: one row per utterance, as columns that hold a million rows in tens of megabytes."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from speakervlad.data.csv_columns import read_columns
from speakervlad.data.strings import CategoryColumn, StringColumn
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.files import atomic_path

COLUMNS = ("utterance_id", "path", "speaker", "session", "num_samples")
# Of a million absolute paths so many are looked for, at even distances.
MAX_LOOKED_AT = 100


@dataclass(frozen=True, eq=False)
class Manifest:
    """Utterances as columns; `path(index)` is the file of a row.

    Attributes:
        root: Folder that relative paths start from.
        utterance_ids: Distinct names.
        paths: Audio files with forward slashes, relative to ``root`` or absolute.
        speakers: Speaker name per row; ``speakers.names`` sorted, ``speakers.codes`` int32.
        sessions: Recording session per row, likewise.
        num_samples: Length at 16 kHz, int64 (rows,).
        extra: Further columns of the file, such as ``corpus``.
    """

    root: Path
    utterance_ids: StringColumn
    paths: StringColumn
    speakers: CategoryColumn
    sessions: CategoryColumn
    num_samples: np.ndarray
    extra: Mapping[str, CategoryColumn] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        root: str | Path,
        *,
        utterance_ids: Sequence[str],
        paths: Sequence[str],
        speakers: Sequence[str],
        sessions: Sequence[str],
        num_samples: Iterable[int] | np.ndarray,
        extra: Mapping[str, Sequence[str]] | None = None,
    ) -> "Manifest":
        """Build a manifest from plain sequences of equal length.

        Raises:
            InputError: no rows, duplicate utterance ids, or a path that leaves ``root`` by ``..``.
        """
        ids, files = StringColumn.of(utterance_ids), StringColumn.of(paths)
        check_rows(ids, files, "manifest")
        return cls(
            Path(root),
            ids,
            files,
            CategoryColumn.of(speakers),
            CategoryColumn.of(sessions),
            np.asarray(num_samples, np.int64),
            {name: CategoryColumn.of(values) for name, values in (extra or {}).items()},
        )

    @classmethod
    def load(cls, path: str | Path, root: str | Path | None = None) -> "Manifest":
        """Read a CSV with the columns `COLUMNS` and any others.

        Args:
            path: The CSV.
            root: Folder that relative paths start from; the CSV's own folder when None.

        Raises:
            InputError: missing file or column, no rows, a bad number, no path or speaker in a row,
                duplicate utterance ids, a path that leaves the root, or absolute paths of another
                machine.
        """
        path = Path(path)
        columns = read_columns(path, COLUMNS)
        ids, paths, speakers, sessions, lengths = (columns.pop(name) for name in COLUMNS)
        check_rows(ids, paths, str(path))
        _check_absolute(paths, path)
        coded = CategoryColumn.of(speakers)
        _check_filled(paths, coded, path)
        return cls(
            Path(root) if root is not None else path.parent,
            ids,
            paths,
            coded,
            CategoryColumn.of(sessions),
            _parse_lengths(lengths, path),
            {name: CategoryColumn.of(values) for name, values in columns.items()},
        )

    def save(self, path: str | Path) -> None:
        """Write the CSV; paths become relative to its folder if they lie below it, else absolute.

        Raises:
            InputError: ``path`` cannot be written.
        """
        path = Path(path)
        with (
            atomic_path(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*COLUMNS, *self.extra])
            columns = (
                self.utterance_ids,
                self._paths_from(path.parent),
                self.speakers,
                self.sessions,
                self.num_samples.tolist(),
                *self.extra.values(),
            )
            writer.writerows(zip(*columns, strict=True))

    def __len__(self) -> int:
        return len(self.num_samples)

    @property
    def speaker_names(self) -> list[str]:
        """Sorted distinct speakers; the class number of a speaker is the place in this list."""
        return list(self.speakers.names)

    @cached_property
    def speaker_indices(self) -> np.ndarray:
        """Class number per row, int64 (rows,)."""
        return self.speakers.codes.astype(np.int64)

    def path(self, index: int) -> Path:
        """The audio file of a row."""
        return self.root / self.paths[index]

    def column(self, name: str) -> np.ndarray:
        """An extra column, such as ``corpus``, as numpy strings (rows,).

        Raises:
            InputError: no such column.
        """
        if name not in self.extra:
            raise InputError(f"manifest has no column {name!r}. {did_you_mean(name, self.extra)}")
        return np.asarray(self.extra[name])

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
            self.utterance_ids.take(kept),
            self.paths.take(kept),
            self.speakers.take(kept),
            self.sessions.take(kept),
            self.num_samples[kept],
            {name: values.take(kept) for name, values in self.extra.items()},
        )

    def _paths_from(self, folder: Path) -> Iterable[str]:
        """Paths as a CSV in ``folder`` names them."""
        root, folder = self.root.resolve(), folder.resolve()
        if root == folder:
            return self.paths
        base = root.relative_to(folder) if root.is_relative_to(folder) else root
        prefix = PurePosixPath(base.as_posix())
        return (str(prefix / path) for path in self.paths)


def check_rows(
    ids: Sequence[str], paths: Sequence[str], name: str, first_line: int | None = 2
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
    if not StringColumn.of(ids).is_distinct():
        repeated = [key for key, count in Counter(ids).items() if count > 1]
        files = [row for row, key in enumerate(ids) if key == repeated[0]]
        raise InputError(
            f"{where(files[1])}: {len(repeated)} utterance id(s) are not unique: "
            f"{first_few(repeated)} ({first_few(paths[row] for row in files)}). "
            "Keep one file of each, or give every utterance its own id."
        )
    if not StringColumn.of(paths).may_contain(".."):
        return
    for row, path in enumerate(paths):
        if ".." in path.replace("\\", "/").split("/"):
            raise InputError(
                f"{where(row)}: path {path!r} leaves the root folder. Use a path below it."
            )


def _check_filled(paths: StringColumn, speakers: CategoryColumn, manifest: Path) -> None:
    # The names are sorted: the empty one would come first.
    empty = (paths.bytes_at(0) == 0) | ((speakers.codes == 0) & (speakers.names[0] == ""))
    if empty.any():
        line = int(empty.argmax()) + 2
        raise InputError(f"{manifest}, line {line}: path or speaker missing. Correct the line.")


def _check_absolute(paths: StringColumn, manifest: Path) -> None:
    """A manifest of absolute paths works on one machine only; say so before the first read."""
    first, second, third = map(paths.bytes_at, range(3))
    is_drive = (second == ord(":")) & ((third == ord("\\")) | (third == ord("/")))
    for is_absolute in (first == ord("/"), (first == ord("\\")) | is_drive):
        rows = np.flatnonzero(is_absolute)
        for row in rows[:: max(1, len(rows) // MAX_LOOKED_AT)].tolist():
            if _is_elsewhere(Path(paths[row])):
                raise InputError(
                    f"{manifest}, line {row + 2}: absolute path {paths[row]!r} does not exist "
                    "here; from another machine? Run `speakervlad prepare` here."
                )


def _is_elsewhere(path: Path) -> bool:
    """Not a path of this system, or neither it nor the two folders above it exist."""
    above = [folder for folder in path.parents[:2] if folder != Path(path.anchor)]
    return not (path.is_absolute() and any(place.exists() for place in (path, *above)))


def _parse_lengths(lengths: StringColumn, path: Path) -> np.ndarray:
    try:
        values = lengths.integers()
        values = np.array(list(map(int, lengths)), np.int64) if values is None else values
    except (ValueError, OverflowError):
        values = None
    if values is not None and values.min() > 0:
        return values
    line, text = next(
        (number, text) for number, text in enumerate(lengths, 2) if not _is_positive(text)
    )
    raise InputError(
        f"{path}, line {line}: num_samples is {text!r}, not a positive whole number. Correct it."
    )


def _is_positive(text: str) -> bool:
    return text.strip().isdecimal() and 0 < int(text) < 2**63
