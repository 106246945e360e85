"""Enrolment lists: the recordings of speaker models, of this and of other toolkits."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speakervlad.errors import InputError
from speakervlad.scoring.nist import NIST_MODEL, NIST_SEGMENT
from speakervlad.tables.columns import is_number, read_blocks


@dataclass(frozen=True)
class Enrolment:
    """The recordings of every speaker model.

    Attributes:
        recordings: utterance names by model name. A part of a recording is named
            ``path@start-end`` with its seconds, such as ``audio/lywwa.flac@72.000-77.310``.
    """

    recordings: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.recordings)


def load_enrolment(path: str | Path) -> Enrolment:
    """Read an enrolment list, recognised by its columns.

    Known: CN-Celeb ``enroll.map`` (``model utterance utterance ...``), CN-Celeb and SITW
    ``model path``, SITW assisted ``model path start end``, NIST headed ``modelid segmentid``.
    A model may have several lines.

    Raises:
        InputError: an empty file, or a line without a recording.
    """
    recordings: dict[str, list[str]] = {}
    model_column, segment_column = 0, None
    for number, row in _decoded_rows(path):
        header = [cell.lower() for cell in row]
        if not recordings and NIST_MODEL in header and NIST_SEGMENT in header:
            model_column, segment_column = header.index(NIST_MODEL), header.index(NIST_SEGMENT)
            continue
        if len(row) <= max(1, model_column, segment_column or 0):
            raise InputError(
                f"{path}, line {number}: {' '.join(row)!r} names no recording. "
                "Expected `model recording [recording ...]`."
            )
        names = recordings.setdefault(row[model_column], [])
        names.extend(_recordings_of_row(row, segment_column))
    return Enrolment({model: tuple(names) for model, names in recordings.items()})


def _decoded_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    for rows, line_numbers in read_blocks(path):
        for row, number in zip(rows, line_numbers, strict=True):
            yield number, [cell.decode() for cell in row]


def _recordings_of_row(row: list[str], segment_column: int | None) -> list[str]:
    """The recordings that one line adds to its model."""
    if segment_column is not None:
        return [row[segment_column]]
    if len(row) == 4 and is_number(row[2]) and is_number(row[3]):
        return [f"{row[1]}@{float(row[2]):.3f}-{float(row[3]):.3f}"]
    return row[1:]
