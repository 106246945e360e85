"""The same function for many items, on all cores."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from speakervlad.progress import Track, silent

Item = TypeVar("Item")
Result = TypeVar("Result")

# Below this a process costs more to start than it saves.
MIN_ITEMS_PER_WORKER = 32


def map_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_workers: int | None = None,
    min_items_per_worker: int = MIN_ITEMS_PER_WORKER,
    description: str,
    track: Track = silent,
) -> list[Result]:
    """``[function(item) for item in items]`` in spawned processes; function and items are pickled.

    Args:
        function: Importable by name.
        items: The inputs.
        num_workers: Processes; one per core when None.
        min_items_per_worker: With fewer items the calling process works alone.
        description: Text of the progress bar.
        track: Reports progress.
    """
    wanted = num_workers if num_workers is not None else os.cpu_count() or 1
    num_processes = min(wanted, len(items) // min_items_per_worker)
    if num_processes < 2:
        return list(track(map(function, items), description, len(items)))
    chunk = max(1, min(64, len(items) // (8 * num_processes)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context, initializer=_follow) as pool:
        results = pool.map(function, items, chunksize=chunk)
        return list(track(results, description, len(items)))


def _follow() -> None:
    """A worker ends when its parent was killed; it would wait for work for ever."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
