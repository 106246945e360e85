"""Score files, of this and of other toolkits."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError, did_you_mean
from speakervlad.scoring.lists import write_rows
from speakervlad.scoring.nist import NIST_SCORE, has_nist_header, nist_body, nist_pairs
from speakervlad.scoring.trials import LABELS, LABELS_AS_BYTES, Trials, parse_labels
from speakervlad.tables.columns import (
    Block,
    TextTable,
    check_width,
    is_number,
    read_blocks,
    read_table,
    table_of,
)

INTEGER = re.compile(r"[+-]?\d+")


def read_scores(path: str | Path, form: str | None = None) -> tuple[Trials, np.ndarray]:
    """Read scored trials, recognised by their columns.

    Known: ours and Kaldi's ``enrol test score [label]``, wespeaker's (the same and more numbers
    behind), 3D-Speaker's ``enrol test label score``, VoxSRC submissions ``score enrol test``, NIST
    submissions headed ``modelid segmentid side LLR``.

    Args:
        path: the file.
        form: one of ``READ_FORMS``, for files whose columns could be read in two ways.

    Returns:
        The trials (without labels where the file has none) and (num_trials,) float64 scores.

    Raises:
        InputError: no score file, one that could be read in two ways, or scores that are NaN or
            infinite (named by line).
    """
    table = read_table(path)
    if has_nist_header(table):
        body = nist_body(table)
        if NIST_SCORE not in body or not body[NIST_SCORE].all_numbers():
            raise table.error(0, "the header names no LLR column of numbers. Add one.")
        trials, values = nist_pairs(body), body[NIST_SCORE].numbers()
    else:
        place = score_layout(table, form)
        columns = table.columns
        labels = None if place.label is None else parse_labels(columns[place.label])
        trials = Trials.from_columns(columns[place.enrol], columns[place.test], labels)
        values = columns[place.score].numbers()
    bad = np.flatnonzero(~np.isfinite(values)) + len(table) - len(values)
    if len(bad):
        raise InputError(
            f"{path}: {len(bad)} of {len(values)} scores are NaN or infinite: "
            f"{table.name_rows(bad.tolist())}. Score these trials again."
        )
    return trials, values


def read_long_scores(path: str | Path, form: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a file whose names need not be kept, such as 1e8 lines.

    Returns:
        (num_trials,) float32 and (num_trials,) bool.

    Raises:
        InputError: as ``read_scores``, or a file without labels.
    """
    path, scores, labels = Path(path), [], []
    first: Block | None = None
    for block in read_blocks(path):
        if first is None:
            first, place = block, score_layout(table_of(path, [block]), form)
            score, label = place.score, place.label
        if label is None:
            raise InputError(f"{path}: no labels, so no error rate can be computed. Add them.")
        check_width(path, block, len(first.rows[0]), first.line_numbers[0])
        try:
            scores.append(np.array([float(row[score]) for row in block.rows], np.float32))
            flags = [LABELS_AS_BYTES[row[label].lower()] for row in block.rows]
        except (ValueError, KeyError):
            raise _not_scores(table_of(path, [block])) from None
        labels.append(np.array(flags, bool))
    return np.concatenate(scores), np.concatenate(labels)


@dataclass(frozen=True)
class ScoreLayout:
    """Column numbers of a score file."""

    score: int
    enrol: int
    test: int
    label: int | None = None

    def fits(self, table: TextTable) -> bool:
        """Whether a table has numbers and labels where they must be."""
        label = self.label
        return table.columns[self.score].all_numbers() and (
            label is None or table.columns[label].all_in(LABELS)
        )


# By the number of columns; more than four are read as four.
READ_FORMS = {
    "speakervlad": {3: ScoreLayout(2, 0, 1), 4: ScoreLayout(2, 0, 1, 3)},
    "kaldi": {3: ScoreLayout(2, 0, 1), 4: ScoreLayout(2, 0, 1, 3)},
    "voxsrc": {3: ScoreLayout(0, 1, 2)},
    "3d-speaker": {4: ScoreLayout(3, 0, 1, 2)},
}


def score_layout(table: TextTable, form: str | None = None) -> ScoreLayout:
    """Where the columns of a score file without a header are.

    Where two columns could be the score, that of whole numbers is taken for names.

    Raises:
        InputError: no score file, or one that could be read in two ways.
    """
    if form is not None and form not in READ_FORMS:
        raise InputError(f"unknown score format {form!r}. {did_you_mean(form, READ_FORMS)}")
    forms = ["speakervlad", "voxsrc", "3d-speaker"] if form is None else [form]
    width = min(table.width, 4)
    known = {name: READ_FORMS[name][width] for name in forms if width in READ_FORMS[name]}
    fitting = {name: layout for name, layout in known.items() if layout.fits(table)}
    columns = table.columns
    if form is None and any(
        layout.label is None and columns[layout.score].all_in("01") for layout in fitting.values()
    ):
        raise table.error(0, "a trial list, not a score file: labels, but no scores.")
    if len(fitting) > 1:
        fractions = {
            name: layout
            for name, layout in fitting.items()
            if not all(map(INTEGER.fullmatch, columns[layout.score].distinct()))
        }
        fitting = fractions if len(fractions) == 1 else fitting
    if not fitting:
        raise _not_scores(table)
    if len(fitting) > 1:
        choices = " or ".join(f"--source-format {name}" for name in fitting)
        raise table.error(0, f"can be read in two ways. Say which is meant: {choices}.")
    return next(iter(fitting.values()))


def _not_scores(table: TextTable) -> InputError:
    """Say which line is wrong when most of the file reads like scores."""
    expected = "`enrol test score [1|0]`"
    if table.width >= 3:
        for index, cell in enumerate(table.columns[2].cells()):
            if not is_number(cell):
                return table.error(index, f"{cell!r} is no score; expected {expected}.")
    if table.width >= 4:
        for index, cell in enumerate(table.columns[3].cells()):
            if cell.lower() not in LABELS:
                return table.error(index, f"{cell!r} is no label; expected {expected}.")
    return table.error(0, f"no score file; expected {expected}.")


def save_scores(
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
    if form not in WRITTEN_FORMS:
        raise InputError(f"unknown score format {form!r}. {did_you_mean(form, WRITTEN_FORMS)}")
    if len(trials) != len(scores):
        raise InputError(f"{len(scores)} scores for {len(trials)} trials do not fit.")
    if form != "speakervlad" and trials.is_target is not None:
        trials = Trials(trials.names, trials.enrol, trials.test)
    rows = WRITTEN_FORMS[form](trials, np.asarray(scores))
    write_rows(path, rows, trials, lambda written: read_scores(written, form)[0])


Lines = Iterable[Sequence[str]]


def _own_rows(trials: Trials, scores: np.ndarray) -> Lines:
    """``enrol test score [1|0]``; nine digits bring a float32 back exactly."""
    columns = [trials.enrol_ids.tolist(), trials.test_ids.tolist()]
    columns.append([f"{score:.9g}" for score in scores.tolist()])
    if trials.is_target is not None:
        columns.append(np.where(trials.is_target, "1", "0").tolist())
    return zip(*columns, strict=True)


def _voxsrc_rows(trials: Trials, scores: np.ndarray) -> Lines:
    """``score enrol test`` with the lowest score at 0 and the highest at 1."""
    shifted = scores.astype(np.float64) - scores.min()
    texts = [f"{score:.9f}" for score in (shifted / (np.ptp(scores) or 1.0)).tolist()]
    return zip(texts, trials.enrol_ids.tolist(), trials.test_ids.tolist(), strict=True)


WRITTEN_FORMS = {"speakervlad": _own_rows, "kaldi": _own_rows, "voxsrc": _voxsrc_rows}
