"""Trial lists and score files, of this and of other toolkits."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from speakervlad.deprecated import warn_of_old_name
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.files import atomic_path
from speakervlad.tables.columns import (
    Block,
    Column,
    TextTable,
    as_names,
    check_width,
    is_number,
    read_blocks,
    read_table,
    table_of,
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
NIST_MODEL, NIST_SEGMENT, NIST_SIDE, NIST_SCORE = "modelid", "segmentid", "side", "llr"
ASCII_SPACE = re.compile(r"[ \t\n\r\x0b\x0c]")
INTEGER = re.compile(r"[+-]?\d+")
PLAIN_NAME = re.compile(r"[\w./@:+=#~,()\-]+")
PAIR_HEADERS = (("first", "second"), ("enrol", "test"), ("enroll", "test"))
NIST_LABELS = ("targettype", "targettrial", "target", "label", "key")


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
        warn_of_old_name("Trials.write", "save_trials")
        save_trials(path, self)


def save_trials(path: str | Path, trials: Trials) -> None:
    """Write ``label enrol test`` lines (``enrol test`` for a blind list).

    Tabs separate the columns where a name has spaces; such a blind list gets a NIST header.

    Raises:
        InputError: names that no text list can hold, such as those with line ends.
    """
    columns = [trials.enrol_ids.tolist(), trials.test_ids.tolist()]
    heading: list[Sequence[str]] = []
    if trials.is_target is not None:
        columns.insert(0, np.where(trials.is_target, "1", "0").tolist())
    elif _separator(trials.names) == "\t":
        heading = [(NIST_MODEL, NIST_SEGMENT)]
    _write_rows(path, chain(heading, zip(*columns, strict=True)), trials, load_trials)


def _separator(names: np.ndarray) -> str:
    """A tab where white space in a name would end a column, else a space."""
    return "\t" if any(map(ASCII_SPACE.search, names.tolist())) else " "


def _write_rows(
    path: str | Path,
    rows: Iterable[Sequence[str]],
    trials: Trials,
    read: Callable[[Path], Trials],
) -> None:
    """Write lines of cells, and read them back where names are unusual.

    Raises:
        InputError: the names cannot be read back; nothing is left then.
    """
    separator = _separator(trials.names)
    unusual = [name for name in trials.names.tolist() if not _is_plain(name)]
    with atomic_path(path) as temporary:
        try:
            text = "".join(f"{separator.join(row)}\n" for row in rows)
            temporary.write_text(text, encoding="utf-8", newline="\n")
            same = not unusual or _same_pairs(read(temporary), trials)
        except (UnicodeEncodeError, InputError):
            same = False
        if not same:
            raise InputError(
                f"{path}: not written, because a text list cannot hold these names: "
                f"{first_few(map(repr, unusual))}. Rename them."
            )


def _is_plain(name: str) -> bool:
    """Whether a name can stand in any list: no white space, no number, no label, no heading."""
    usual = PLAIN_NAME.fullmatch(name) and not is_number(name)
    return bool(usual) and name.lower() not in LABELS and name.lower() != NIST_MODEL


def _same_pairs(one: Trials, other: Trials) -> bool:
    same_labels = (one.is_target is None) == (other.is_target is None) and (
        one.is_target is None or np.array_equal(one.is_target, other.labels())
    )
    return (
        same_labels
        and np.array_equal(one.enrol_ids, other.enrol_ids)
        and np.array_equal(one.test_ids, other.test_ids)
    )


def load_trials(path: str | Path) -> Trials:
    """Read a trial list of any known format, recognised by its columns.

    Known: VoxCeleb ``label a b``; Kaldi, CN-Celeb and SITW ``a b label``; VoxSRC blind ``a b``;
    NIST tab-separated with a ``modelid segmentid side [targettrial]`` header. Labels are 1/0,
    target/nontarget, tgt/imp or true/false.

    Raises:
        InputError: an empty file, an unknown format, or a line that does not fit the first one.
    """
    table = read_table(path)
    if has_nist_header(table):
        return _nist_trials(table)
    if table.width == 2:
        return Trials.from_columns(table.columns[0], table.columns[1])
    if table.width == 3:
        return _labelled_trials(table)
    raise table.error(
        0,
        f"{table.width} columns make no trial list; expected `label enrol test`, "
        "`enrol test label` or `enrol test`. A file with scores goes to `metrics`.",
    )


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """The two names of every trial of a list, or of every row of a ``.csv`` of two columns.

    A first row of ``first,second`` or ``enrol,test`` is a header.

    Raises:
        InputError: as ``load_trials``, or rows of another number of columns.
    """
    if Path(path).suffix.lower() != ".csv":
        trials = load_trials(path)
        return list(zip(trials.enrol_ids.tolist(), trials.test_ids.tolist(), strict=True))
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no CSV in UTF-8 ({error}). Save it as one.") from error
    if rows and tuple(rows[0]) in PAIR_HEADERS:
        rows = rows[1:]
    wrong = [",".join(row) for row in rows if len(row) != 2 or not all(row)]
    if wrong or not rows:
        which = (
            f"{len(wrong)} rows are no pair of names, first {wrong[0]!r}" if wrong else "no rows"
        )
        raise InputError(f"{path}: {which}. Write one pair a line: a.wav,b.wav")
    return [(one, other) for one, other in rows]


def _labelled_trials(table: TextTable) -> Trials:
    """``label enrol test`` or ``enrol test label``: the side where the labels stand decides."""
    first, middle, last = table.columns
    label_first, label_last = first.all_in(LABELS), last.all_in(LABELS)
    if label_first and label_last:
        label_first, label_last = _by_wording(first, last)
    if label_first and label_last:
        raise InputError(
            f"{table.path}: both the first and the last column read like labels. "
            "Write the labels as target/nontarget."
        )
    if label_first:
        return Trials.from_columns(middle, last, parse_labels(first))
    if label_last:
        return Trials.from_columns(first, middle, parse_labels(last))
    raise _no_label_column(table)


def _by_wording(first: Column, last: Column) -> tuple[bool, bool]:
    """Both columns hold labels: names may be plain 0 and 1, never ``target``."""
    first_digits, last_digits = first.all_in("01"), last.all_in("01")
    if first_digits == last_digits:
        return True, True
    return last_digits, first_digits


def _no_label_column(table: TextTable) -> InputError:
    """Say which line breaks the format that the first line announced."""
    first, middle, last = table.columns
    if first[0].lower() in LABELS or last[0].lower() in LABELS:
        column, shape = (
            (first, "label enrol test")
            if first[0].lower() in LABELS
            else (last, "enrol test label")
        )
        index = column.first_not_in(LABELS)
        return table.error(
            index,
            f"the label {column[index]!r} is not {LABELS_IN_WORDS}, and line "
            f"{table.line_numbers[0]} announces `{shape}`. One file holds one format.",
        )
    if middle.all_in(LABELS):
        return table.error(
            0, "the label stands between the names. Swap columns: `label enrol test`."
        )
    return table.error(
        0, f"neither the first nor the last column is a label ({LABELS_IN_WORDS}). Add one."
    )


def _nist_trials(table: TextTable) -> Trials:
    """NIST SRE lists and keys: a header line names the columns; sides are told apart if needed."""
    body = nist_body(table)
    label_name = next((name for name in NIST_LABELS if name in body), None)
    if label_name is None:
        return _nist_pairs(body)
    if not body[label_name].all_in(LABELS):
        index = body[label_name].first_not_in(LABELS) + 1
        raise table.error(index, f"the label is not {LABELS_IN_WORDS}.")
    return _nist_pairs(body, parse_labels(body[label_name]))


def has_nist_header(table: TextTable) -> bool:
    """Whether the first line names NIST columns."""
    return NIST_MODEL in (cell.lower() for cell in table.cells(0))


def nist_body(table: TextTable) -> dict[str, Column]:
    """Columns below the header by lower-case name.

    Raises:
        InputError: no segment column, or nothing below the header.
    """
    header = [cell.lower() for cell in table.cells(0)]
    body = {name: cells.below(1) for name, cells in zip(header, table.columns, strict=True)}
    if NIST_SEGMENT not in body:
        raise table.error(0, f"the header names no {NIST_SEGMENT!r} column. Add one.")
    if len(table) == 1:
        raise InputError(f"{table.path}: a header and no trial. Add trials below it.")
    return body


def _nist_pairs(body: Mapping[str, Column], is_target: np.ndarray | None = None) -> Trials:
    """Models and segments; ``segment:side`` where both channels of recordings occur."""
    models, segments, sides = body[NIST_MODEL], body[NIST_SEGMENT], body.get(NIST_SIDE)
    if sides is None or len(sides.distinct()) < 2:
        return Trials.from_columns(models, segments, is_target)
    both = zip(segments.cells(), sides.cells(), strict=True)
    return Trials.from_ids(models.cells(), (f"{name}:{side}" for name, side in both), is_target)


def parse_labels(column: Column) -> np.ndarray:
    """(num_trials,) bool from cells that are known to be labels."""
    values = np.array([LABELS.get(word.lower(), False) for word in column.words])
    return values[column.codes]


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
        trials, values = _nist_pairs(body), body[NIST_SCORE].numbers()
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
    _write_rows(path, rows, trials, lambda written: read_scores(written, form)[0])


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
