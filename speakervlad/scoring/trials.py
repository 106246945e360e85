"""Trials: pairs of recordings to compare, as columns, and the words for their labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from speakervlad.deprecated import warn_of_old_name
from speakervlad.errors import InputError
from speakervlad.tables.columns import (
    Column,
    as_names,
)

LABELS = {
    "1": True,
    "0": False,
    "target": True,
    "nontarget": False,
    "tgt": True,
    "imp": False,
    "true": True,
    "false": False,
}
LABELS_AS_BYTES = {word.encode(): value for word, value in LABELS.items()}
LABELS_IN_WORDS = "0/1, target/nontarget, tgt/imp or true/false"


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
        return cls(as_names(index), rows[0::2], rows[1::2], labels)

    @classmethod
    def from_columns(
        cls, enrol: Column, test: Column, is_target: np.ndarray | None = None
    ) -> "Trials":
        """Build from two columns of one table."""
        present, rows = np.unique([enrol.codes, test.codes], return_inverse=True)
        sides = rows.reshape(2, -1)
        names = as_names(enrol.words[code] for code in present.tolist())
        return cls(names, sides[0], sides[1], is_target)

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

    def spelt(self, trial: int) -> str:
        """``enrol test`` of one trial, for messages."""
        return f"{self.names[self.enrol[trial]]} {self.names[self.test[trial]]}"

    def write(self, path: str | Path) -> None:
        """Deprecated: ``save_trials``."""
        import speakervlad

        warn_of_old_name("Trials.write", "save_trials")
        speakervlad.save_trials(path, self)


def parse_labels(column: Column) -> np.ndarray:
    """(num_trials,) bool from cells that are known to be labels."""
    values = np.array([LABELS.get(word.lower(), False) for word in column.words])
    return values[column.codes]
