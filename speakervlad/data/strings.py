"""Columns of text that cost their bytes and little more, whatever the number of rows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np

# Rows are cut out of a text this many at a time, which keeps the numbers of their bytes in a cache.
CUT_ROWS = 8192
# What remains of eight bytes of which the first 0 to 8 belong to a row.
WORD_MASKS = np.array([2 ** (8 * kept) - 1 for kept in range(9)], np.uint64)
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class StringColumn(Sequence[str]):
    """Immutable strings in one UTF-8 blob; a row is ``blob[starts[i]:ends[i]]``.

    A million Python strings cost about 80 bytes each and are pickled one by one; here a row costs
    its own bytes plus 8, and a worker process receives three arrays.
    """

    def __init__(self, blob: np.ndarray, offsets: np.ndarray) -> None:
        """Take the blob (bytes,) and the offsets (rows + 1,) into it."""
        self._blob = blob
        self._offsets = offsets

    @classmethod
    def of(cls, strings: Sequence[str]) -> "StringColumn":
        """Pack strings."""
        if isinstance(strings, StringColumn):
            return strings
        blob = "".join(strings).encode()
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        if len(blob) > lengths.sum():  # not ASCII
            lengths = np.fromiter((len(string.encode()) for string in strings), np.int64)
        return cls(np.frombuffer(blob, np.uint8), _offsets(lengths))

    @classmethod
    def cut(cls, text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> "StringColumn":
        """The rows ``text[starts[i]:ends[i]]`` of UTF-8 bytes, int64 (rows,)."""
        offsets = _offsets(ends - starts)
        pieces = [np.zeros(0, np.uint8)]
        for first in range(0, len(starts), CUT_ROWS):
            begins = starts[first : first + CUT_ROWS]
            places = offsets[first : first + len(begins) + 1]
            shift = np.repeat(begins - places[:-1], np.diff(places))
            pieces.append(text[np.arange(places[0], places[-1]) + shift])
        return cls(np.concatenate(pieces), offsets)

    def take(self, rows: np.ndarray) -> "StringColumn":
        """The column of the given row numbers (int array)."""
        return StringColumn.cut(self._blob, self._offsets[:-1][rows], self._offsets[1:][rows])

    def may_contain(self, text: str) -> bool:
        """Whether a text occurs in a row, or across the border of two."""
        return text.encode() in self._blob.tobytes()

    def is_distinct(self) -> bool:
        """Whether no two rows are equal; strings are compared only where a hash occurs twice."""
        hashes = np.zeros(len(self), np.uint64)
        for words in self._words():
            hashes = (hashes ^ words) * HASH_FACTOR
            hashes ^= hashes >> np.uint64(32)
        hashes.sort()
        return not (hashes[1:] == hashes[:-1]).any() or len(set(self)) == len(self)

    def bytes_at(self, place: int) -> np.ndarray:
        """The byte at one place of every row, uint8 (rows,), zero behind its end."""
        places = self._offsets[:-1] + place
        inside = places < self._offsets[1:]
        found = np.zeros(len(self), np.uint8)
        found[inside] = self._blob[places[inside]]
        return found

    def run_starts(self) -> np.ndarray:
        """The rows that differ from the row before them, int64 (runs,)."""
        differs = np.ones(len(self), bool)
        lengths = np.diff(self._offsets)
        differs[1:] = lengths[1:] != lengths[:-1]
        for words in self._words():
            differs[1:] |= words[1:] != words[:-1]
        return np.flatnonzero(differs)

    def integers(self) -> np.ndarray | None:
        """Rows of 1 to 18 decimal digits as int64 (rows,); None when there is any other."""
        lengths = np.diff(self._offsets)
        if len(self) == 0 or lengths.min() < 1 or lengths.max() > 18:
            return None
        values = np.zeros(len(self), np.int64)
        for place in range(int(lengths.max())):
            inside = place < lengths
            digits = self._blob[self._offsets[:-1][inside] + place] - np.uint8(ord("0"))
            if digits.max() > 9:
                return None
            values[inside] = 10 * values[inside] + digits
        return values

    def _words(self) -> Iterator[np.ndarray]:
        """Eight bytes of every row at a time, uint64 (rows,), with zeros behind its end."""
        padded = np.concatenate([self._blob, np.zeros(8, np.uint8)])
        view = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
        starts, lengths = self._offsets[:-1], np.diff(self._offsets)
        for place in range(0, int(lengths.max(initial=0)), 8):
            kept = np.clip(lengths - place, 0, 8)
            yield view[np.minimum(starts + place, len(view) - 1)] & WORD_MASKS[kept]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "StringColumn": ...
    def __getitem__(self, index: int | slice | np.ndarray) -> "str | StringColumn":
        if isinstance(index, slice | np.ndarray):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]
        return self._blob[self._offsets[row] : self._offsets[row + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        blob, offsets = self._blob.tobytes(), self._offsets.tolist()
        for start, end in pairwise(offsets):
            yield blob[start:end].decode()

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        """Fixed-width numpy strings, for comparisons over all rows."""
        return np.array(list(self), dtype=np.str_)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StringColumn):
            return NotImplemented
        return np.array_equal(self._offsets, other._offsets) and np.array_equal(
            self._blob, other._blob
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StringColumn({len(self)} rows, {self.nbytes} bytes)"

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self._blob.nbytes + self._offsets.nbytes


class CategoryColumn(Sequence[str]):
    """Strings of which few are distinct (speakers, sessions): sorted names and a code per row."""

    def __init__(self, names: StringColumn, codes: np.ndarray) -> None:
        """Take the sorted names and the codes (rows,), int32."""
        self.names = names
        self.codes = codes

    @classmethod
    def of(cls, strings: Sequence[str]) -> "CategoryColumn":
        """Code strings by their rank among the distinct ones, run by run of equal ones."""
        column = StringColumn.of(strings)
        starts = column.run_starts()
        firsts = list(column.take(starts))
        names = sorted(set(firsts))
        ranks = {name: rank for rank, name in enumerate(names)}
        codes = np.fromiter(map(ranks.__getitem__, firsts), np.int32, len(firsts))
        lengths = np.diff(starts, append=len(column))
        return cls(StringColumn.of(names), np.repeat(codes, lengths))

    def take(self, rows: np.ndarray) -> "CategoryColumn":
        """The column of the given row numbers; names that no longer occur are dropped."""
        kept, codes = np.unique(self.codes[rows], return_inverse=True)
        return CategoryColumn(self.names.take(kept), codes.astype(np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "CategoryColumn": ...
    def __getitem__(self, index: int | slice | np.ndarray) -> "str | CategoryColumn":
        if isinstance(index, slice | np.ndarray):
            return self.take(np.arange(len(self))[index])
        return self.names[int(self.codes[index])]

    def __iter__(self) -> Iterator[str]:
        names = list(self.names)
        return (names[code] for code in self.codes.tolist())

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        """Fixed-width numpy strings, for comparisons over all rows."""
        return np.asarray(self.names)[self.codes]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CategoryColumn):
            return NotImplemented
        return self.names == other.names and np.array_equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"CategoryColumn({len(self)} rows, {len(self.names)} names)"

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.names.nbytes + self.codes.nbytes


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
