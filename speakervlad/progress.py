"""Progress without printing: loops tell a tracker how far they are, where one is set."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Tracker(Protocol):
    """Yields the items, and reports how far the loop over them is."""

    def __call__(
        self, items: Iterable[Item], description: str, total: int | None = None
    ) -> Iterator[Item]: ...


_tracker: ContextVar[Tracker | None] = ContextVar("tracker", default=None)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items one by one; the tracker that is set when this is called sees them pass.

    Args:
        items: what is looped over.
        description: what is done with them.
        total: how many there are, about, if that is known.
    """
    tracker = _tracker.get()
    return iter(items) if tracker is None else tracker(items, description, total)


@contextmanager
def tracked_by(tracker: Tracker | None) -> Iterator[None]:
    """Let loops within report to a tracker; None for to nobody. Threads begin without one."""
    token = _tracker.set(tracker)
    try:
        yield
    finally:
        _tracker.reset(token)
