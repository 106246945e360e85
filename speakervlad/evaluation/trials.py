"""Trial lists: which pairs of recordings are compared, and what the right answer is."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.trial_formats import TrialColumns, trial_columns
from speakervlad.files import atomic_path


@dataclass(frozen=True)
class Trials:
    """Pairs to compare, as columns.

    Attributes:
        names: (num_names,) str: every recording or speaker model that the list mentions, once.
        enrol: (num_trials,) int: index into ``names`` of the enrolment side.
        test: (num_trials,) int: index into ``names`` of the test side.
        is_target: (num_trials,) bool, or None for a blind list.
    """

    names: np.ndarray
    enrol: np.ndarray
    test: np.ndarray
    is_target: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.enrol)

    @cached_property
    def enrol_ids(self) -> np.ndarray:
        """(num_trials,) str: the enrolment side, spelt out."""
        return self.names[self.enrol]

    @cached_property
    def test_ids(self) -> np.ndarray:
        """(num_trials,) str: the test side, spelt out."""
        return self.names[self.test]

    @cached_property
    def enrol_names(self) -> np.ndarray:
        """(num_models,) str: the names that stand on the enrolment side, once each."""
        return self.names[np.unique(self.enrol)]

    @cached_property
    def test_names(self) -> np.ndarray:
        """(num_tests,) str: the names that stand on the test side, once each."""
        return self.names[np.unique(self.test)]

    @classmethod
    def from_ids(
        cls,
        enrol_ids: Iterable[str],
        test_ids: Iterable[str],
        is_target: np.ndarray | None = None,
    ) -> "Trials":
        """Build from the spelt-out sides of every trial."""
        index: dict[str, int] = {}
        both = (name for pair in zip(enrol_ids, test_ids, strict=True) for name in pair)
        rows = np.array([index.setdefault(name, len(index)) for name in both], dtype=np.int64)
        labels = None if is_target is None else np.asarray(is_target, bool)
        return cls(np.array(list(index), dtype=str), rows[0::2], rows[1::2], labels)

    def labels(self) -> np.ndarray:
        """``is_target`` for whoever cannot go on without it.

        Raises:
            InputError: the list is blind.
        """
        if self.is_target is None:
            raise InputError(
                "the trials have no labels, so no error rate can be computed. "
                "Give a list with 1/0 or target/nontarget."
            )
        return self.is_target

    def select(self, keep: np.ndarray) -> "Trials":
        """The trials where ``keep`` (bool mask or indices) holds; ``names`` stay as they are."""
        labels = None if self.is_target is None else self.is_target[keep]
        return Trials(self.names, self.enrol[keep], self.test[keep], labels)

    def write(self, path: str | Path) -> None:
        """Write ``label enrol test`` lines (``enrol test`` for a blind list)."""
        with atomic_path(path) as temporary:
            temporary.write_text("".join(self._lines()), encoding="utf-8", newline="\n")

    def _lines(self) -> Iterable[str]:
        names = self.names.tolist()
        pairs = zip(self.enrol.tolist(), self.test.tolist(), strict=True)
        if self.is_target is None:
            return (f"{names[enrol]} {names[test]}\n" for enrol, test in pairs)
        labels = self.is_target.astype(int).tolist()
        return (
            f"{label} {names[enrol]} {names[test]}\n"
            for label, (enrol, test) in zip(labels, pairs, strict=True)
        )


def read_trials(path: str | Path) -> Trials:
    """Read a trial list of any known format, recognised by its columns.

    Known: VoxCeleb ``label a b``; Kaldi, CN-Celeb and SITW ``a b label``; VoxSRC blind ``a b``;
    NIST tab-separated with a ``modelid segmentid side [targettrial]`` header. Labels are 1/0,
    target/nontarget, tgt/imp or true/false.

    Raises:
        InputError: an empty file, an unknown format, or a line that does not fit the first one.
    """
    return trials_from_columns(trial_columns(path))


def trials_from_columns(columns: TrialColumns) -> Trials:
    """Index the names of parsed columns."""
    return Trials.from_ids(columns.enrol, columns.test, columns.is_target)
