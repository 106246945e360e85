"""Progress without printing: library functions take a tracker, the command line supplies rich's."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """Wraps an iterable and reports how far it is."""

    def __call__(
        self, items: Iterable[Item], description: str, total: int | None = None
    ) -> Iterator[Item]: ...


def silent(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The default tracker: reports nothing."""
    return iter(items)
