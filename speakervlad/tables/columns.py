"""Text files of columns, read as a stream: plain or gzip, tabs or spaces, mistakes by line."""

import gzip
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from speakervlad.errors import InputError, first_few

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BYTES_PER_BLOCK = 1 << 22
# A gzip file may unpack to this, or to so many times its own size, whichever is more.
MAX_UNPACKED_BYTES = 100_000_000
MAX_UNPACKED_RATIO = 20
# Names are kept as arrays of the longest one's length.
MAX_NAME_BYTES = 1_000_000_000


class Block(NamedTuple):
    """Some non-blank lines of a file, cut into cells, and their 1-based line numbers."""

    rows: list[list[bytes]]
    line_numbers: range | list[int]


class Column:
    """One column of a table: a number per row, and the cell that each number stands for.

    Attributes:
        codes: (num_rows,) int.
        words: the cells of the whole table, once each.
    """

    def __init__(self, codes: np.ndarray, words: list[str]) -> None:
        self.codes = codes
        self.words = words

    def __getitem__(self, row: int) -> str:
        return self.words[self.codes[row]]

    def __len__(self) -> int:
        return len(self.codes)

    def below(self, row: int) -> "Column":
        """The column without its first rows."""
        return Column(self.codes[row:], self.words)

    def distinct(self) -> list[str]:
        """Every cell once."""
        return [self.words[code] for code in np.unique(self.codes).tolist()]

    def cells(self) -> list[str]:
        """Every cell."""
        return [self.words[code] for code in self.codes.tolist()]

    def all_in(self, allowed: Collection[str]) -> bool:
        """Whether every cell, in lower case, is one of ``allowed``."""
        return {cell.lower() for cell in self.distinct()} <= set(allowed)

    def first_not_in(self, allowed: Collection[str]) -> int:
        """Row of the first cell that is not one of ``allowed``."""
        return next(row for row in range(len(self)) if self[row].lower() not in allowed)

    def all_numbers(self) -> bool:
        """Whether every cell reads as a number (``nan`` and ``inf`` do)."""
        return all(map(is_number, self.distinct()))

    def numbers(self) -> np.ndarray:
        """(num_rows,) float64, for a column of which ``all_numbers`` holds."""
        return np.fromiter(map(float, self.cells()), np.float64, len(self))


@dataclass(frozen=True)
class TextTable:
    """The non-blank lines of one file, all with the same number of columns.

    Attributes:
        path: where the lines come from, for messages.
        columns: of equal length.
        line_numbers: 1-based line number of every row.
    """

    path: Path
    columns: tuple[Column, ...]
    line_numbers: range | list[int]

    def __len__(self) -> int:
        return len(self.line_numbers)

    @property
    def width(self) -> int:
        return len(self.columns)

    def cells(self, index: int) -> list[str]:
        """The cells of one row."""
        return [column[index] for column in self.columns]

    def error(self, index: int, problem: str) -> InputError:
        """An ``InputError`` that names file and line of row ``index``."""
        where = f"{self.path}, line {self.line_numbers[index]}"
        return InputError(f"{where}: {problem} The line reads {' '.join(self.cells(index))!r}.")

    def name_rows(self, indices: list[int]) -> str:
        """``line 3 (a b nan), line 9 (...)`` for the first few of ``indices``."""
        return first_few(
            [f"line {self.line_numbers[row]} ({' '.join(self.cells(row))})" for row in indices[:6]]
        )


def read_table(path: str | Path) -> TextTable:
    """Read columns separated by tabs (then names may hold spaces) or by any white space.

    Raises:
        InputError: as ``read_blocks``, or lines with different numbers of columns.
    """
    return table_of(Path(path), read_blocks(path))


def table_of(path: Path, blocks: Iterable[Block]) -> TextTable:
    """One table of blocks of lines; every distinct cell is kept once.

    Raises:
        InputError: lines with different numbers of columns.
    """
    index: dict[bytes, int] = {}
    parts: list[np.ndarray] = []
    numbers: list[range | list[int]] = []
    width = 0
    for block in blocks:
        width = width or len(block.rows[0])
        numbers.append(block.line_numbers)
        check_width(path, block, width, numbers[0][0])
        codes = (index.setdefault(cell, len(index)) for cell in chain.from_iterable(block.rows))
        parts.append(np.fromiter(codes, np.int32, width * len(block.rows)).reshape(-1, width))
    words = [cell.decode() for cell in index]
    table = np.concatenate(parts)
    columns = tuple(Column(np.ascontiguousarray(codes), words) for codes in table.T)
    gapless = all(isinstance(part, range) for part in numbers)
    first_line, last_line = numbers[0][0], numbers[-1][-1]
    if gapless and last_line - first_line + 1 == len(table):
        return TextTable(path, columns, range(first_line, last_line + 1))
    return TextTable(path, columns, list(chain.from_iterable(numbers)))


def check_width(path: Path, block: Block, width: int, first_line: int) -> None:
    """Refuse a line with another number of columns than the first.

    Raises:
        InputError: names the line.
    """
    if set(map(len, block.rows)) == {width}:
        return
    row, number = next(
        pair for pair in zip(block.rows, block.line_numbers, strict=True) if len(pair[0]) != width
    )
    raise InputError(
        f"{path}, line {number}: {len(row)} columns where line {first_line} has {width}. "
        f"One file holds one format; the line reads {b' '.join(row).decode()!r}."
    )


def read_blocks(path: str | Path) -> Iterator[Block]:
    """The cells of every non-blank line, some megabytes at a time.

    Lines end in LF, CRLF or CR. Cells are separated by tabs or by any ASCII white space, as the
    first megabytes show; other white space of Unicode is part of a cell.

    Raises:
        InputError: not UTF-8 (with the line), a damaged gzip file or one that unpacks to absurd
            sizes, or nothing in it.
    """
    path, first_line, by_tab = Path(path), 1, None
    for text in _read_text(path):
        _check_utf8(path, text, first_line)
        lines = text.splitlines()
        line_numbers: range | list[int] = range(first_line, first_line + len(lines))
        first_line += len(lines)
        if not all(lines) or any(line.isspace() for line in lines):
            line_numbers = [n for n, line in zip(line_numbers, lines, strict=True) if line.strip()]
            lines = [line for line in lines if line.strip()]
        if not lines:
            continue
        if by_tab is None:
            by_tab = tabs_separate(lines)
        if by_tab:
            rows = [[cell.strip() for cell in line.strip().split(b"\t")] for line in lines]
        else:
            rows = [line.split() for line in lines]
        yield Block(rows, line_numbers)
    if by_tab is None:
        raise InputError(f"{path}: is empty. Expected at least one line.")


def _read_text(path: Path) -> Iterator[bytes]:
    """Whole lines of a file, some megabytes at a time, without the byte order mark."""
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if packed:
            _check_unpacked_size(path, raw)
        file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
        mark = BYTE_ORDER_MARK
        while text := file.read(BYTES_PER_BLOCK):
            yield (text + file.readline()).removeprefix(mark)
            mark = b""


def _check_unpacked_size(path: Path, raw: BinaryIO) -> None:
    """Unpack a gzip file once without keeping anything."""
    limit, num_bytes = max(MAX_UNPACKED_BYTES, MAX_UNPACKED_RATIO * path.stat().st_size), 0
    try:
        with gzip.GzipFile(fileobj=raw) as file:
            while num_bytes <= limit and (text := file.read(BYTES_PER_BLOCK)):
                num_bytes += len(text)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({error}). Compress it again.") from error
    if num_bytes > limit:
        raise InputError(
            f"{path}: unpacks to more than {limit:,} bytes. Unpack it yourself if that is right."
        )
    raw.seek(0)


def _check_utf8(path: Path, text: bytes, first_line: int) -> None:
    """Refuse bytes that are no text; NUL would be lost at the end of a name in an array."""
    try:
        text.decode()
        place = text.find(b"\0")
    except UnicodeDecodeError as error:
        place = error.start
    if place >= 0:
        line = first_line + len(text[:place].splitlines()) - 1
        line += text[:place].endswith((b"\n", b"\r")) or not place
        raise InputError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{text[place]:02x}). "
            "Save the file as UTF-8."
        )


def tabs_separate(lines: list[bytes]) -> bool:
    """Whether tabs alone separate the columns: they make as many in every line, and enough."""
    if b"\t" not in lines[0]:
        return False
    widths = {line.strip().count(b"\t") + 1 for line in lines}
    return len(widths) == 1 and (widths.pop() >= 3 or {len(line.split()) for line in lines} != {3})


def is_number(cell: str) -> bool:
    """Whether one cell reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def as_names(names: Iterable[str]) -> np.ndarray:
    """(num_names,) str array.

    Raises:
        InputError: one name is so long that an array of such names would not fit into memory.
    """
    listed = list(names)
    longest = max(map(len, listed), default=0)
    if 4 * longest * len(listed) > MAX_NAME_BYTES:
        raise InputError(
            f"a name has {longest} characters. Shorten it: {max(listed, key=len)[:40]!r}..."
        )
    return np.array(listed, dtype=str)
