"""A CSV as columns, a million rows in a second."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speakervlad.data.strings import StringColumn
from speakervlad.errors import InputError, first_few

# Bytes searched at a time: few enough to stay in a cache.
SEARCH_BYTES = 2**18


def read_columns(path: Path, needed: Sequence[str]) -> dict[str, StringColumn]:
    """Read a CSV with a header as name -> values (rows,).

    Raises:
        InputError: not a CSV in UTF-8, a needed column is missing, a column appears twice, no rows,
            or a row of another length than the header.
    """
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = text.rstrip(b"\n")
    try:
        if not text.isascii():
            text.decode()
        first_line = text[: text.find(b"\n")] if b"\n" in text else text
        header = next(csv.reader([first_line.decode()]), [])
        _check_header(header, needed, path)
        if len(first_line) == len(text):
            raise InputError(f"{path}: holds no utterances. Run `speakervlad prepare` again.")
        body = np.frombuffer(text, np.uint8, offset=len(first_line) + 1)
        columns = None if b'"' in text else _split_plain(body, len(header))
        columns = columns or _split_rows(text, len(header), path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV in UTF-8 ({error}). Export it again.") from error
    return dict(zip(header, columns, strict=True))


def _split_plain(body: np.ndarray, width: int) -> list[StringColumn] | None:
    """All columns of bytes without quotes; None where there are ragged rows."""
    ends = np.append(_separators(body), len(body))
    if len(ends) % width:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1]).reshape(-1, width)
    ends = ends.reshape(-1, width)
    if (body[ends[:-1, -1]] != ord("\n")).any() or (body[ends[:, :-1]] != ord(",")).any():
        return None
    return [StringColumn.cut(body, starts[:, place], ends[:, place]) for place in range(width)]


def _separators(body: np.ndarray) -> np.ndarray:
    """Places of commas and line ends, int64."""
    found = []
    for first in range(0, len(body), SEARCH_BYTES):
        part = body[first : first + SEARCH_BYTES]
        found.append(first + np.flatnonzero((part == ord(",")) | (part == ord("\n"))))
    return np.concatenate(found)


def _split_rows(text: bytes, width: int, path: Path) -> list[StringColumn]:
    """All columns, row by row, naming the line that has too few or too many fields."""
    rows = csv.reader(io.StringIO(text.decode(), newline=""))
    next(rows)
    body = []
    for row in rows:
        if len(row) != width:
            raise InputError(
                f"{path}, line {rows.line_num}: {len(row)} field(s), the header has {width}. "
                "Correct it."
            )
        body.append(row)
    return [StringColumn.of(column) for column in zip(*body, strict=True)]


def _check_header(header: list[str], needed: Sequence[str], path: Path) -> None:
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
