"""Structures in Thrift's compact protocol, as plain values: the directory of a Parquet file is one.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

import struct
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 32


class Reader:
    """Reads values one after the other.

    Args:
        content: begins with a value.

    Raises:
        ValueError: the content ends within a value, is nested too deep, or is something else.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._at, self._depth = content, 0, 0

    def structure(self) -> dict[int, Any]:
        """Values by the number of their field; of containers, lists and dictionaries of values."""
        values, number = {}, 0
        while head := self._byte():
            step, kind = divmod(head, 16)
            number = number + step if step else self._integer()
            # Of a field, the type of a boolean is its value.
            values[number] = kind == 1 if kind in (1, 2) else self._value(kind)
        return values

    def _value(self, kind: int) -> Any:  # noqa: ANN401 - as the content says
        if kind not in READERS:
            raise ValueError(f"no type {kind}")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        value = READERS[kind](self)
        self._depth -= 1
        return value

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        found = self._content[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("cut short")
        self._at += count
        return found

    def _unsigned(self) -> int:
        """Seven bits a byte, the lowest first; the eighth says whether more follow."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than 64 bits")

    def _integer(self) -> int:
        """Zigzag: 0, -1, 1, -2 ... are 0, 1, 2, 3 ..."""
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _text(self) -> bytes:
        return self._bytes(self._unsigned())

    def _list(self) -> list[Any]:
        count, kind = divmod(self._byte(), 16)
        count = self._unsigned() if count == 15 else count
        return [self._value(kind) for _ in range(count)]

    def _map(self) -> dict[Any, Any]:
        count = self._unsigned()
        kinds = divmod(self._byte(), 16) if count else (0, 0)
        pairs = [tuple(self._value(kind) for kind in kinds) for _ in range(count)]
        return {str(key): value for key, value in pairs}


READERS: dict[int, Callable[[Reader], Any]] = {
    1: lambda reader: reader._byte() == 1,
    2: lambda reader: reader._byte() == 1,
    3: lambda reader: reader._byte(),
    4: lambda reader: reader._integer(),
    5: lambda reader: reader._integer(),
    6: lambda reader: reader._integer(),
    7: lambda reader: struct.unpack("<d", reader._bytes(8))[0],
    8: lambda reader: reader._text(),
    9: lambda reader: reader._list(),
    10: lambda reader: reader._list(),
    11: lambda reader: reader._map(),
    12: lambda reader: reader.structure(),
}
