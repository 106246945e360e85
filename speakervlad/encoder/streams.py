"""Many recordings, one after the other or several at once: read ahead of what computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from copy import copy
from itertools import islice
from typing import TypeVar

from speakervlad.audio.recording import AudioLike, Recording
from speakervlad.encoder.backends import Backend
from speakervlad.errors import InputError, first_few
from speakervlad.threads import one_blas_thread

READERS = 2
READ_AHEAD = 8
Item = TypeVar("Item")
Result = TypeVar("Result")


def of_each(
    recordings: Sequence[AudioLike],
    read: Callable[[Recording], object],
    compute: Callable[[Recording], Result],
    backend: Backend,
    count: int,
) -> Iterator[Result | InputError]:
    """Yield what is computed of each recording, in order, or why it cannot be.

    What a recording decodes meanwhile is let go with it.

    Args:
        recordings: all of them.
        read: decodes what ``compute`` will need, in threads of its own.
        compute: with the backend, ``count`` at once.
        backend: what shares the cores out.
        count: with several, each is computed on one core, so its bits do not depend on the others.
    """

    def opened(numbered: tuple[int, AudioLike]) -> Recording | InputError:
        number, audio = numbered
        try:
            recording = copy(Recording.of(audio))
            read(recording)
        except InputError as error:
            is_named = len(recordings) == 1 or Recording.of(audio).path is not None
            return error if is_named else InputError(f"recording {number}: {error}")
        return recording

    def computed(recording: Recording | InputError) -> Result | InputError:
        if isinstance(recording, InputError):
            return recording
        try:
            return compute(recording)
        except InputError as error:
            return error

    with (
        one_blas_thread(),
        ThreadPoolExecutor(READERS) as readers,
        backend.streams(count) as streams,
    ):
        ready = _map_ahead(readers, opened, enumerate(recordings, 1), READ_AHEAD)
        yield from _map_ahead(streams, computed, ready, 4 * count)


def _map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """``map`` in a pool, in order, with at most ``depth`` items under way."""
    remaining = iter(items)
    pending: deque[Future[Result]] = deque(
        pool.submit(function, item) for item in islice(remaining, depth)
    )
    while pending:
        yield pending.popleft().result()
        pending.extend(pool.submit(function, item) for item in islice(remaining, 1))


def describe_failures(failures: list[InputError], total: int) -> str:
    """How many of the files failed, and why the first few."""
    if total == 1:
        return str(failures[0])
    return (
        f"{len(failures)} of {total} files cannot be embedded: {first_few(map(str, failures), 3)}"
    )
