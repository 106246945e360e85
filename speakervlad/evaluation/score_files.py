"""The score file, ours and other toolkits'."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.text_table import (
    TextTable,
    all_in,
    all_numbers,
    is_number,
    name_rows,
    read_table,
)
from speakervlad.evaluation.trial_formats import LABELS, parse_labels
from speakervlad.evaluation.trials import Trials
from speakervlad.files import atomic_path


def read_scores(path: str | Path) -> tuple[Trials, np.ndarray]:
    """Read scored trials, recognised by their columns.

    Known: ours and Kaldi's ``enrol test score [label]``, wespeaker's (the same and more numbers
    behind), 3D-Speaker's ``enrol test label score``, VoxSRC submissions ``score enrol test``.

    Returns:
        The trials (without labels where the file has none) and (num_trials,) float64 scores.

    Raises:
        InputError: no score file, or scores that are NaN or infinite (named by line).
    """
    table = read_table(path)
    score, enrol, test, label = _layout(table)
    values = np.array(table.columns[score], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values)).tolist()
    if bad:
        raise InputError(
            f"{path}: {len(bad)} of {len(values)} scores are NaN or infinite: "
            f"{name_rows(table, bad)}. Score these trials again."
        )
    is_target = None if label is None else parse_labels(table.columns[label])
    return Trials.from_ids(table.columns[enrol], table.columns[test], is_target), values


def _layout(table: TextTable) -> tuple[int, int, int, int | None]:
    """Column numbers of score, enrol, test and label."""
    if table.width == 3 and all_numbers(table.columns[2]):
        return 2, 0, 1, None
    if table.width == 3 and all_numbers(table.columns[0]):
        return 0, 1, 2, None
    if table.width >= 4:
        third, fourth = table.columns[2], table.columns[3]
        if all_numbers(third) and all_in(fourth, LABELS):
            return 2, 0, 1, 3
        if all_in(third, LABELS) and all_numbers(fourth):
            return 3, 0, 1, 2
    raise _not_scores(table)


def _not_scores(table: TextTable) -> InputError:
    """Say which line is wrong when most of the file reads like scores."""
    expected = "`enrol test score [1|0]`"
    if table.width >= 3:
        for index, cell in enumerate(table.columns[2]):
            if not is_number(cell):
                return table.error(index, f"{cell!r} is no score; expected {expected}.")
    if table.width >= 4:
        for index, cell in enumerate(table.columns[3]):
            if cell.lower() not in LABELS:
                return table.error(index, f"{cell!r} is no label; expected {expected}.")
    return table.error(0, f"no score file; expected {expected}.")


def write_scores(path: str | Path, trials: Trials, scores: np.ndarray) -> None:
    """Write ``S.txt``: a trial a line, ``enrol test score`` and ``1|0`` where labels are known."""
    if len(trials) != len(scores):
        raise InputError(f"{len(scores)} scores for {len(trials)} trials do not fit.")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(score_lines(trials, scores)), encoding="utf-8", newline="\n")


def score_lines(trials: Trials, scores: np.ndarray) -> Iterator[str]:
    """The lines of a score file; nine digits bring a float32 back exactly."""
    labels = [""] * len(trials)
    if trials.is_target is not None:
        labels = np.where(trials.is_target, " 1", " 0").tolist()
    names = trials.names.tolist()
    columns = (trials.enrol.tolist(), trials.test.tolist(), np.asarray(scores).tolist(), labels)
    for enrol, test, score, label in zip(*columns, strict=True):
        yield f"{names[enrol]} {names[test]} {score:.9g}{label}\n"
