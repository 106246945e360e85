"""The score file, ours and other toolkits'."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError, did_you_mean
from speakervlad.evaluation.text_table import (
    TextTable,
    all_in,
    all_numbers,
    is_number,
    name_rows,
    read_table,
)
from speakervlad.evaluation.trial_formats import (
    LABELS,
    NIST_MODEL,
    has_nist_header,
    nist_body,
    nist_segments,
    parse_labels,
)
from speakervlad.evaluation.trials import Trials
from speakervlad.files import atomic_path

NIST_SCORE = "llr"


def read_scores(path: str | Path) -> tuple[Trials, np.ndarray]:
    """Read scored trials, recognised by their columns.

    Known: ours and Kaldi's ``enrol test score [label]``, wespeaker's (the same and more numbers
    behind), 3D-Speaker's ``enrol test label score``, VoxSRC submissions ``score enrol test``, NIST
    submissions headed ``modelid segmentid side LLR``.

    Returns:
        The trials (without labels where the file has none) and (num_trials,) float64 scores.

    Raises:
        InputError: no score file, or scores that are NaN or infinite (named by line).
    """
    table = read_table(path)
    enrol, test, cells, is_target = _nist(table) if has_nist_header(table) else _columns(table)
    values = np.array([float(cell) for cell in cells])
    bad = np.flatnonzero(~np.isfinite(values)) + len(table) - len(values)
    if len(bad):
        raise InputError(
            f"{path}: {len(bad)} of {len(values)} scores are NaN or infinite: "
            f"{name_rows(table, bad.tolist())}. Score these trials again."
        )
    return Trials.from_ids(enrol, test, is_target), values


Columns = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], np.ndarray | None]


def _columns(table: TextTable) -> Columns:
    """Enrolment, test, scores and labels of a file without a header."""
    score, enrol, test, label = _layout(table)
    is_target = None if label is None else parse_labels(table.columns[label])
    return table.columns[enrol], table.columns[test], table.columns[score], is_target


def _nist(table: TextTable) -> Columns:
    """Enrolment, test and scores of a NIST submission; it never has labels."""
    body = nist_body(table)
    if NIST_SCORE not in body or not all_numbers(body[NIST_SCORE]):
        raise table.error(0, "the header names no LLR column of numbers. Add one.")
    return body[NIST_MODEL], nist_segments(body), body[NIST_SCORE], None


def _layout(table: TextTable) -> tuple[int, int, int, int | None]:
    """Column numbers of score, enrol, test and label."""
    for score, enrol, test in ((2, 0, 1), (0, 1, 2)):
        if table.width == 3 and all_numbers(table.columns[score]):
            if all_in(table.columns[score], "01"):
                raise table.error(0, "a trial list, not a score file: labels, but no scores.")
            return score, enrol, test, None
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


def write_scores(
    path: str | Path, trials: Trials, scores: np.ndarray, form: str = "speakervlad"
) -> None:
    """Write a score file, a trial a line.

    Args:
        path: where to.
        trials: the pairs.
        scores: (num_trials,).
        form: ``speakervlad`` (``enrol test score`` and ``1|0`` where labels are known), ``kaldi``
            (``enrol test score``) or ``voxsrc`` (``score enrol test``, scores mapped to [0, 1]).

    Raises:
        InputError: another number of scores, or an unknown form.
    """
    if form not in FORMS:
        raise InputError(f"unknown score form {form!r}. {did_you_mean(form, FORMS)}")
    if len(trials) != len(scores):
        raise InputError(f"{len(scores)} scores for {len(trials)} trials do not fit.")
    with atomic_path(path) as temporary:
        lines = "".join(FORMS[form](trials, np.asarray(scores)))
        temporary.write_text(lines, encoding="utf-8", newline="\n")


def own_lines(trials: Trials, scores: np.ndarray) -> Iterator[str]:
    """``enrol test score [1|0]``; nine digits bring a float32 back exactly."""
    labels = [""] * len(trials)
    if trials.is_target is not None:
        labels = np.where(trials.is_target, " 1", " 0").tolist()
    for (enrol, test, score), label in zip(_rows(trials, scores), labels, strict=True):
        yield f"{enrol} {test} {score:.9g}{label}\n"


def kaldi_lines(trials: Trials, scores: np.ndarray) -> Iterator[str]:
    """``enrol test score``."""
    return (f"{enrol} {test} {score:.9g}\n" for enrol, test, score in _rows(trials, scores))


def voxsrc_lines(trials: Trials, scores: np.ndarray) -> Iterator[str]:
    """``score enrol test`` with the lowest score at 0 and the highest at 1."""
    span = np.ptp(scores) or 1.0
    rows = _rows(trials, (scores.astype(np.float64) - scores.min()) / span)
    return (f"{score:.9f} {enrol} {test}\n" for enrol, test, score in rows)


def _rows(trials: Trials, scores: np.ndarray) -> Iterator[tuple[str, str, float]]:
    names = trials.names.tolist()
    columns = zip(trials.enrol.tolist(), trials.test.tolist(), scores.tolist(), strict=True)
    return ((names[enrol], names[test], score) for enrol, test, score in columns)


FORMS = {"speakervlad": own_lines, "kaldi": kaldi_lines, "voxsrc": voxsrc_lines}
