"""Trial lists and score files, of this and of other toolkits."""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.scoring.nist import (
    NIST_MODEL,
    NIST_SEGMENT,
    has_nist_header,
    nist_body,
    nist_pairs,
)
from speakervlad.scoring.trials import LABELS, LABELS_IN_WORDS, Trials, parse_labels
from speakervlad.tables.columns import (
    Column,
    TextTable,
    is_number,
    read_table,
)

ASCII_SPACE = re.compile(r"[ \t\n\r\x0b\x0c]")
PLAIN_NAME = re.compile(r"[\w./@:+=#~,()\-]+")
PAIR_HEADERS = (("first", "second"), ("enrol", "test"), ("enroll", "test"))
NIST_LABELS = ("targettype", "targettrial", "target", "label", "key")


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
    write_rows(path, chain(heading, zip(*columns, strict=True)), trials, load_trials)


def _separator(names: np.ndarray) -> str:
    """A tab where white space in a name would end a column, else a space."""
    return "\t" if any(map(ASCII_SPACE.search, names.tolist())) else " "


def write_rows(
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
        return nist_pairs(body)
    if not body[label_name].all_in(LABELS):
        index = body[label_name].first_not_in(LABELS) + 1
        raise table.error(index, f"the label is not {LABELS_IN_WORDS}.")
    return nist_pairs(body, parse_labels(body[label_name]))
