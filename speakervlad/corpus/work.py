"""Work on many files: shared out to all cores; what cannot be used is listed and counted."""

import csv
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path, check_writable
from speakervlad.progress import track

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Below this a process costs more to start than it saves.
MIN_ITEMS_PER_WORKER = 32
MAX_LOGGED = 20


class BadFile(NamedTuple):
    """A file that cannot be used, and why."""

    utterance_id: str
    reason: str


class BadList:
    """The bad files of one step after another, and a CSV of all of them with their reasons.

    Args:
        path: the CSV; without it nothing is written.
        column: name of its first column.

    Raises:
        InputError: ``path`` cannot be written.
    """

    def __init__(self, path: str | Path | None = None, *, column: str = "utterance_id") -> None:
        if path is not None:
            check_writable(path)
        self.path = path
        self.header = (column, "reason")
        self.files: list[BadFile] = []

    def add(
        self, bad_files: Sequence[BadFile], num_files: int, max_bad: float, source: str
    ) -> None:
        """Write them down, log the first 20, and only then refuse more than a share of a step.

        Raises:
            InputError: ``len(bad_files) > max_bad * num_files``, or no file is good.
        """
        self.write(bad_files)
        for bad in bad_files[:MAX_LOGGED]:
            logger.warning("%s", bad.reason)
        if len(bad_files) > MAX_LOGGED:
            logger.warning("... and %d more", len(bad_files) - MAX_LOGGED)
        if len(bad_files) > max_bad * num_files or len(bad_files) == num_files:
            raise InputError(
                f"{source}: {len(bad_files)} of {num_files} files cannot be used, more than "
                f"{max_bad:.2%} (--max-bad): {first_few(bad.utterance_id for bad in bad_files)}. "
                "Repair or remove them, or allow more."
            )

    def write(self, bad_files: Sequence[BadFile]) -> None:
        """Write them down behind those of the steps before, and judge nothing.

        Raises:
            InputError: the file cannot be written.
        """
        self.files += bad_files
        if self.path is None:
            return
        with (
            atomic_path(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.header)
            writer.writerows(self.files)


@dataclass(frozen=True)
class Work:
    """How a step works through its files.

    Attributes:
        max_bad: Largest tolerated fraction of files that cannot be used.
        bad_list: Where these are written down, whatever their number.
        num_workers: Processes; one per core when None, 0 to work in this one.
    """

    max_bad: float = 0.01
    bad_list: BadList = field(default_factory=BadList)
    num_workers: int | None = None

    def over(
        self,
        items: Sequence[Item],
        function: Callable[[Item], Result],
        description: str,
        *,
        min_items_per_worker: int = MIN_ITEMS_PER_WORKER,
    ) -> list[Result]:
        """What the function makes of every item; see `map_parallel`."""
        return map_parallel(
            function,
            items,
            num_workers=self.num_workers,
            min_items_per_worker=min_items_per_worker,
            description=description,
        )

    def judge(self, bad_files: Sequence[BadFile], num_files: int, source: str) -> None:
        """Write the bad files of a step down; refuse more than ``max_bad`` of them.

        Raises:
            InputError: too many, or no file is good.
        """
        self.bad_list.add(bad_files, num_files, self.max_bad, source)


def map_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_workers: int | None = None,
    min_items_per_worker: int = MIN_ITEMS_PER_WORKER,
    description: str,
) -> list[Result]:
    """``[function(item) for item in items]`` in spawned processes; function and items are pickled.

    Args:
        function: Importable by name.
        items: The inputs.
        num_workers: Processes; one per core when None.
        min_items_per_worker: With fewer items the calling process works alone.
        description: Text of the progress bar.
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
