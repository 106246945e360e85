"""Lists of NIST's evaluations: tab-separated, below a line that names the columns."""

from collections.abc import Mapping

import numpy as np

from speakervlad.errors import InputError
from speakervlad.scoring.trials import Trials
from speakervlad.tables.columns import (
    Column,
    TextTable,
)

NIST_MODEL, NIST_SEGMENT, NIST_SIDE, NIST_SCORE = "modelid", "segmentid", "side", "llr"


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


def nist_pairs(body: Mapping[str, Column], is_target: np.ndarray | None = None) -> Trials:
    """Models and segments; ``segment:side`` where both channels of recordings occur."""
    models, segments, sides = body[NIST_MODEL], body[NIST_SEGMENT], body.get(NIST_SIDE)
    if sides is None or len(sides.distinct()) < 2:
        return Trials.from_columns(models, segments, is_target)
    both = zip(segments.cells(), sides.cells(), strict=True)
    return Trials.from_ids(models.cells(), (f"{name}:{side}" for name, side in both), is_target)
