"""Where answers are computed: in threads, a few at once."""

from collections.abc import Callable
from typing import TypeVar

import anyio

Result = TypeVar("Result")


class Threads:
    """Threads for one kind of answer.

    Args:
        at_once: how many are computed at once; others wait for their turn.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._limiter: anyio.CapacityLimiter | None = None

    async def __call__(self, function: Callable[[], Result]) -> Result:
        if self._limiter is None:  # it belongs to a running event loop
            self._limiter = anyio.CapacityLimiter(self._at_once)
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)
