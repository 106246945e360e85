"""Columns of text that cost their bytes and little more, whatever the number of rows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np


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
        blob = "".join(strings).encode()
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        if len(blob) > lengths.sum():  # not ASCII
            lengths = np.fromiter((len(string.encode()) for string in strings), np.int64)
        return cls(np.frombuffer(blob, np.uint8), _offsets(lengths))

    def take(self, rows: np.ndarray) -> "StringColumn":
        """The column of the given row numbers (int array)."""
        starts, lengths = self._offsets[:-1][rows], np.diff(self._offsets)[rows]
        offsets = _offsets(lengths)
        source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return StringColumn(self._blob[source], offsets)

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
        """Code strings by their rank among the distinct ones."""
        names = sorted(set(strings))
        ranks = {name: rank for rank, name in enumerate(names)}
        codes = np.fromiter(map(ranks.__getitem__, strings), np.int32, len(strings))
        return cls(StringColumn.of(names), codes)

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
