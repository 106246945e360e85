"""What trial lists look like in the wild, and how to tell which one a file is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.text_table import TextTable, all_in, first_not_in, read_table

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
LABELS_IN_WORDS = "0/1, target/nontarget, tgt/imp or true/false"
NIST_MODEL, NIST_SEGMENT, NIST_SIDE = "modelid", "segmentid", "side"
NIST_LABELS = ("targettype", "targettrial", "target", "label", "key")


@dataclass(frozen=True)
class TrialColumns:
    """Both sides and the labels of a list, and the name of the format they were found in."""

    enrol: tuple[str, ...]
    test: tuple[str, ...]
    is_target: np.ndarray | None
    format: str


def trial_columns(path: str | Path) -> TrialColumns:
    """Read the columns of a trial list whatever its format.

    Raises:
        InputError: the file is no trial list, or one of its lines does not fit the others.
    """
    table = read_table(path)
    if has_nist_header(table):
        return nist_columns(table)
    if table.width == 2:
        return TrialColumns(*table.columns, is_target=None, format="blind")
    if table.width == 3:
        return labelled_columns(table)
    raise table.error(
        0,
        f"{table.width} columns make no trial list; expected `label enrol test`, "
        "`enrol test label` or `enrol test`. A file with scores goes to `metrics`.",
    )


def labelled_columns(table: TextTable) -> TrialColumns:
    """``label enrol test`` or ``enrol test label``: the side where the labels stand decides."""
    first, middle, last = table.columns
    label_first, label_last = all_in(first, LABELS), all_in(last, LABELS)
    if label_first and label_last:
        label_first, label_last = _by_wording(first, last)
    if label_first and label_last:
        raise InputError(
            f"{table.path}: both the first and the last column read like labels. "
            "Write the labels as target/nontarget."
        )
    if label_first:
        return TrialColumns(middle, last, parse_labels(first), "voxceleb")
    if label_last:
        return TrialColumns(first, middle, parse_labels(last), "kaldi")
    raise _no_label_column(table)


def _by_wording(first: tuple[str, ...], last: tuple[str, ...]) -> tuple[bool, bool]:
    """Both columns hold labels: names may be plain 0 and 1, never ``target``."""
    first_digits, last_digits = all_in(first, "01"), all_in(last, "01")
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
        index = first_not_in(column, LABELS)
        return table.error(
            index,
            f"the label {column[index]!r} is not {LABELS_IN_WORDS}, and line "
            f"{table.line_numbers[0]} announces `{shape}`. One file holds one format.",
        )
    if all_in(middle, LABELS):
        return table.error(
            0, "the label stands between the names. Swap columns: `label enrol test`."
        )
    return table.error(
        0, f"neither the first nor the last column is a label ({LABELS_IN_WORDS}). Add one."
    )


def nist_columns(table: TextTable) -> TrialColumns:
    """NIST SRE lists and keys: a header line names the columns; sides are told apart if needed.

    Raises:
        InputError: a column is missing, or a label is not known.
    """
    body = nist_body(table)
    test = nist_segments(body)
    label_name = next((name for name in NIST_LABELS if name in body), None)
    if label_name is None:
        return TrialColumns(body[NIST_MODEL], test, None, "nist")
    if not all_in(body[label_name], LABELS):
        index = first_not_in(body[label_name], LABELS) + 1
        raise table.error(index, f"the label is not {LABELS_IN_WORDS}.")
    return TrialColumns(body[NIST_MODEL], test, parse_labels(body[label_name]), "nist")


def has_nist_header(table: TextTable) -> bool:
    """Whether the first line names NIST columns."""
    return NIST_MODEL in (cell.lower() for cell in table_row(table, 0))


def nist_body(table: TextTable) -> dict[str, tuple[str, ...]]:
    """Columns below the header by lower-case name.

    Raises:
        InputError: no segment column, or nothing below the header.
    """
    header = [cell.lower() for cell in table_row(table, 0)]
    body = {name: cells[1:] for name, cells in zip(header, table.columns, strict=True)}
    if NIST_SEGMENT not in body:
        raise table.error(0, f"the header names no {NIST_SEGMENT!r} column. Add one.")
    if len(table) == 1:
        raise InputError(f"{table.path}: a header and no trial. Add trials below it.")
    return body


def nist_segments(body: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Names of the test side; ``segment:side`` where both channels of recordings occur."""
    segments, sides = body[NIST_SEGMENT], body.get(NIST_SIDE, ())
    if len(set(sides)) < 2:
        return segments
    return tuple(f"{segment}:{side}" for segment, side in zip(segments, sides, strict=True))


def parse_labels(column: tuple[str, ...]) -> np.ndarray:
    """(num_trials,) bool from cells that are known to be labels."""
    return np.array([LABELS[cell.lower()] for cell in column], dtype=bool)


def table_row(table: TextTable, index: int) -> tuple[str, ...]:
    """The cells of one row."""
    return tuple(column[index] for column in table.columns)
