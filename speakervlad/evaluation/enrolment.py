"""Speaker models made of several recordings: who enrols with what."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.scoring import unit_vectors
from speakervlad.evaluation.text_table import is_number, read_rows
from speakervlad.evaluation.trial_formats import NIST_MODEL, NIST_SEGMENT
from speakervlad.evaluation.trials import Trials

logger = logging.getLogger(__name__)


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


def read_enrolment(path: str | Path) -> Enrolment:
    """Read an enrolment list, recognised by its columns.

    Known: CN-Celeb ``enroll.map`` (``model utterance utterance ...``), CN-Celeb and SITW
    ``model path``, SITW assisted ``model path start end``, NIST headed ``modelid segmentid``.
    A model may have several lines.

    Raises:
        InputError: an empty file, or a line without a recording.
    """
    rows, line_numbers = read_rows(path)
    header = [cell.lower() for cell in rows[0]]
    columns = (0, None)
    if NIST_MODEL in header and NIST_SEGMENT in header:
        columns = header.index(NIST_MODEL), header.index(NIST_SEGMENT)
        rows, line_numbers = rows[1:], line_numbers[1:]
    recordings: dict[str, list[str]] = {}
    for row, number in zip(rows, line_numbers, strict=True):
        if len(row) < 2:
            raise InputError(
                f"{path}, line {number}: {' '.join(row)!r} names no recording. "
                "Expected `model recording [recording ...]`."
            )
        recordings.setdefault(row[columns[0]], []).extend(_recordings_of_row(row, columns[1]))
    return Enrolment({model: tuple(names) for model, names in recordings.items()})


def _recordings_of_row(row: list[str], segment_column: int | None) -> list[str]:
    """The recordings that one line adds to its model."""
    if segment_column is not None:
        return [row[segment_column]]
    if len(row) == 4 and is_number(row[2]) and is_number(row[3]):
        return [f"{row[1]}@{float(row[2]):.3f}-{float(row[3]):.3f}"]
    return row[1:]


def with_models(embeddings: Embeddings, enrolment: Enrolment, trials: Trials) -> Embeddings:
    """The embeddings, and one for every model that the trials name.

    A model is the mean of the length-normalised embeddings of its recordings. Where an embedding of
    a part is missing, that of the whole recording stands in, and a warning says so.

    Raises:
        InputError: models that are not enrolled (looks swapped when they stand on the test side),
            recordings without an embedding, or a model named like an utterance.
    """
    models = [name for name in trials.enrol_names.tolist() if name not in embeddings.index.exact]
    unknown = [name for name in models if name not in enrolment.recordings]
    if unknown:
        raise _unknown_models(unknown, models, enrolment, trials)
    if not models:
        return embeddings
    recordings = [enrolment.recordings[model] for model in models]
    rows = _rows_of(embeddings, [name for names in recordings for name in names])
    lengths = np.array([len(names) for names in recordings])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    sums = np.add.reduceat(unit_vectors(embeddings)[rows], starts, axis=0)
    return Embeddings(
        np.concatenate([embeddings.ids, np.array(models)]),
        np.concatenate([embeddings.vectors, sums / lengths[:, None]]),
    )


def _unknown_models(
    unknown: list[str], models: list[str], enrolment: Enrolment, trials: Trials
) -> InputError:
    on_test_side = sum(name in enrolment.recordings for name in trials.test_names.tolist())
    if len(unknown) == len(models) and on_test_side:
        return InputError(
            f"the models stand in the test column of the trials ({on_test_side} of them, such as "
            f"{trials.test_names[0]}). Swap the columns: enrolment first."
        )
    return InputError(
        f"{len(unknown)} of {len(models)} models are not in the enrolment list: "
        f"{first_few(unknown)}. Give the list that belongs to these trials."
    )


def _rows_of(embeddings: Embeddings, names: list[str]) -> np.ndarray:
    """Rows of recordings; a part that has no embedding falls back to its whole recording."""
    rows = embeddings.index.find(names)
    parts = [position for position in np.flatnonzero(rows < 0) if "@" in names[position]]
    if parts:
        logger.warning(
            "%d enrolment segments have no embedding; the whole recordings stand in: %s",
            len(parts),
            first_few(names[position] for position in parts),
        )
    whole = list(names)
    for position in parts:
        whole[position] = names[position].rpartition("@")[0]
    return embeddings.rows(whole)
