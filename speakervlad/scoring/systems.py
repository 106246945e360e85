"""Score files of one or several systems brought together with the labels of their trials."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.scoring.align import Scored, align, with_labels
from speakervlad.scoring.scores import read_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.arrays import load_npy

logger = logging.getLogger(__name__)


def load_scores(
    path: str | Path, key: Trials | None = None, *, form: str | None = None, partial: bool = False
) -> Scored:
    """Read a score file and take the labels from a key, where one is given.

    A ``.npy`` file holds scores in the order of the key.

    Args:
        path: the file.
        key: the trial list that was scored.
        form: as for ``read_scores``.
        partial: whether trials of the key may have no score.

    Raises:
        InputError: a ``.npy`` file without a key or of another length; trials that the key misses,
            or that have no score.
    """
    path = Path(path)
    if path.suffix == ".npy":
        return _read_array(path, key)
    trials, scores = read_scores(path, form)
    if key is None:
        return trials, scores
    try:
        return with_labels(trials, key, str(path), partial=partial), scores
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_array(path: Path, key: Trials | None) -> Scored:
    if key is None:
        raise InputError(f"{path}: scores without names. Give the trial list with --trials.")
    scores = load_npy(path)
    if scores.dtype.kind not in "fiu":
        raise InputError(f"{path}: {scores.dtype} is no type of scores. Save plain numbers.")
    if scores.shape != (len(key),):
        raise InputError(
            f"{path}: scores of shape {scores.shape} for {len(key)} trials. "
            "Give the list that they belong to."
        )
    return key, scores


def load_systems(
    paths: Sequence[str | Path],
    key: Trials | None = None,
    *,
    form: str | None = None,
    partial: bool = False,
) -> tuple[Trials, dict[str, np.ndarray]]:
    """Read the score files of several systems on the same trials.

    Args:
        paths: the files, or ``NAME=FILE`` to name the system.
        key: as for ``load_scores``.
        form: of all files, as for ``read_scores``.
        partial: as for ``load_scores``.

    Returns:
        The trials in the order of the first file, and (num_trials,) scores by the name of the
        system: the given one, its file's stem, or the whole path where stems repeat.

    Raises:
        InputError: as ``load_scores`` and ``align``.
    """
    named = [_name_and_file(str(path)) for path in paths]
    stems = [name for name, _ in named]
    names: list[str] = []
    for name, file in named:
        distinct = name if stems.count(name) == 1 else str(file)
        names.append(f"{distinct} ({len(names) + 1})" if distinct in names else distinct)
    scored = [load_scores(file, key, form=form, partial=partial) for _, file in named]
    trials, scores = align(scored)
    return trials, dict(zip(names, scores.T, strict=True))


def _name_and_file(text: str) -> tuple[str, Path]:
    """``NAME=FILE``, or a file and its stem."""
    name, given, file = text.partition("=")
    if given and name and file and not Path(text).exists():
        return name, Path(file)
    return Path(text).stem, Path(text)
