"""Text files of columns: plain or gzip, tabs or spaces, LF or CRLF, every mistake with its line."""

import gzip
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from speakervlad.errors import InputError, first_few

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class TextTable:
    """The non-blank lines of one file, all with the same number of columns.

    Attributes:
        path: where the lines come from, for messages.
        columns: one tuple of strings per column, all of the same length.
        line_numbers: 1-based line number of every row.
    """

    path: Path
    columns: tuple[tuple[str, ...], ...]
    line_numbers: range | list[int]

    def __len__(self) -> int:
        return len(self.line_numbers)

    @property
    def width(self) -> int:
        return len(self.columns)

    def row(self, index: int) -> str:
        """Row ``index`` as one readable line."""
        return " ".join(column[index] for column in self.columns)

    def error(self, index: int, problem: str) -> InputError:
        """An ``InputError`` that names file and line of row ``index``."""
        where = f"{self.path}, line {self.line_numbers[index]}"
        return InputError(f"{where}: {problem} The line reads {self.row(index)!r}.")


def read_text(path: str | Path) -> str:
    """The whole file as text, gunzipped when it starts with the gzip magic.

    Raises:
        InputError: not UTF-8 (with the line), a damaged gzip file, or nothing in it.
    """
    path = Path(path)
    raw = path.read_bytes()
    if raw.startswith(GZIP_MAGIC):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: damaged gzip file ({error}). Compress it again.") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{raw[error.start]:02x}). "
            "Save the file as UTF-8."
        ) from error
    if not text.strip():
        raise InputError(f"{path}: is empty. Expected at least one line.")
    return text


def read_table(path: str | Path) -> TextTable:
    """Read columns separated by tabs (then names may hold spaces) or by any white space.

    Raises:
        InputError: as ``read_text``, or lines with different numbers of columns.
    """
    rows, line_numbers = read_rows(path)
    table_of_widths = set(map(len, rows))
    if len(table_of_widths) > 1:
        width = len(rows[0])
        index = next(i for i in count() if len(rows[i]) != width)
        raise InputError(
            f"{path}, line {line_numbers[index]}: {len(rows[index])} columns where line "
            f"{line_numbers[0]} has {width}. One file holds one format; the line reads "
            f"{' '.join(rows[index])!r}."
        )
    return TextTable(Path(path), tuple(zip(*rows, strict=True)), line_numbers)


def read_rows(path: str | Path) -> tuple[list[list[str]], range | list[int]]:
    """The cells of every non-blank line, and the 1-based line numbers."""
    lines = read_text(path).splitlines()
    line_numbers: range | list[int] = range(1, len(lines) + 1)
    if not all(lines) or any(line.isspace() for line in lines):
        line_numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
        lines = [lines[number - 1] for number in line_numbers]
    by_space = [line.split() for line in lines]
    by_tab = [line.strip().split("\t") for line in lines] if "\t" in lines[0] else []
    if by_tab and tabs_separate(by_tab, by_space):
        return [[cell.strip() for cell in row] for row in by_tab], line_numbers
    return by_space, line_numbers


def tabs_separate(by_tab: list[list[str]], by_space: list[list[str]]) -> bool:
    """Whether tabs alone separate the columns: they make as many in every line, and enough."""
    widths = set(map(len, by_tab))
    return len(widths) == 1 and (widths.pop() >= 3 or set(map(len, by_space)) != {3})


def all_in(column: tuple[str, ...], allowed: Collection[str]) -> bool:
    """Whether every cell, in lower case, is one of ``allowed``."""
    return {cell.lower() for cell in set(column)} <= set(allowed)


def first_not_in(column: tuple[str, ...], allowed: Collection[str]) -> int:
    """Index of the first cell that is not one of ``allowed``."""
    return next(index for index, cell in enumerate(column) if cell.lower() not in allowed)


def name_rows(table: TextTable, indices: list[int]) -> str:
    """``line 3 (a b nan), line 9 (...)`` for the first few of ``indices``."""
    return first_few(
        [f"line {table.line_numbers[index]} ({table.row(index)})" for index in indices[:6]]
    )


def all_numbers(column: tuple[str, ...]) -> bool:
    """Whether every cell reads as a number (``nan`` and ``inf`` do)."""
    try:
        for cell in column:
            float(cell)
    except ValueError:
        return False
    return True


def is_number(cell: str) -> bool:
    """Whether one cell reads as a number."""
    return all_numbers((cell,))
