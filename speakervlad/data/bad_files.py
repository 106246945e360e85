"""Files that cannot be used: listed, counted, tolerated up to a share."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path, check_writable

logger = logging.getLogger(__name__)

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
        self.files += bad_files
        self._write()
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

    def _write(self) -> None:
        if self.path is None:
            return
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.header)
            writer.writerows(self.files)
