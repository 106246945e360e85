"""Trials of several lists brought together: labels for scores, one order for several systems."""

import logging
from collections.abc import Sequence

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.scoring.trials import Trials
from speakervlad.tables.names import NameIndex

logger = logging.getLogger(__name__)

Scored = tuple[Trials, np.ndarray]


def with_labels(
    trials: Trials, key: Trials, source: str = "the scores", *, partial: bool = True
) -> Trials:
    """The trials with the labels that a key gives the same pairs.

    Labels that they had already give way, with a warning that names ``source`` if some differ.

    Args:
        trials: scored pairs.
        key: the list that was scored.
        source: of the scores, for warnings.
        partial: whether trials of the key may be missing; their number is warned of then.

    Raises:
        InputError: a blind key, trials that it does not have, or trials that have no score.
    """
    labels = key.labels()
    codes, problem = _codes_in(key, trials)
    key_codes = _codes(key, np.arange(len(key.names)))
    order = np.argsort(key_codes, kind="stable")
    places = np.minimum(np.searchsorted(key_codes[order], codes), len(key) - 1)
    missing = np.flatnonzero(key_codes[order][places] != codes)
    if len(missing):
        raise InputError(
            f"{len(missing)} of {len(trials)} scored trials are not in the trial list: "
            f"{first_few(map(trials.spelt, missing[:6]))}.{problem} Give the list that was scored."
        )
    without = np.flatnonzero(~np.isin(key_codes, codes))
    if len(without):
        said = (
            f"{len(without)} of {len(key)} trials of the list have no score: "
            f"{first_few(map(key.spelt, without[:6]))}."
        )
        if not partial:
            raise InputError(f"{said} Score them, or judge the others alone with --partial.")
        logger.warning("%s: %s", source, said)
    found = labels[order][places]
    differing = 0 if trials.is_target is None else int(np.sum(trials.is_target != found))
    if differing:
        logger.warning(
            "%s: %d of %d labels differ from those of the trial list, which are taken.",
            source,
            differing,
            len(trials),
        )
    return Trials(trials.names, trials.enrol, trials.test, found)


def align(systems: Sequence[Scored]) -> tuple[Trials, np.ndarray]:
    """Bring the scores of several systems into the order of the first.

    Returns:
        The trials of the first system and (num_trials, num_systems) scores.

    Raises:
        InputError: systems that scored other trials, or whose labels contradict each other.
    """
    first, _ = systems[0]
    codes = _codes(first, np.arange(len(first.names)))
    orders = [_order_like(codes, _codes_in(first, trials)[0]) for trials, _ in systems]
    different = [number for number, order in enumerate(orders, 1) if order is None]
    if different:
        raise InputError(
            f"score files {first_few(map(str, different))} hold other trials than file 1. "
            "Score the same list with all systems."
        )
    ordered = [
        (trials.is_target if trials.is_target is None else trials.is_target[order], scores[order])
        for (trials, scores), order in zip(systems, orders, strict=True)
    ]
    _check_same_labels(first, [labels for labels, _ in ordered])
    return first, np.column_stack([scores for _, scores in ordered])


def _check_same_labels(first: Trials, columns: Sequence[np.ndarray | None]) -> None:
    """Refuse systems, in the order of the first, that know other answers to the same trials."""
    known = [(number, labels) for number, labels in enumerate(columns, 1) if labels is not None]
    for number, labels in known[1:]:
        reference, expected = known[0]
        differing = np.flatnonzero(labels != expected)
        if len(differing):
            raise InputError(
                f"score files {reference} and {number} disagree about {len(differing)} of "
                f"{len(labels)} labels, first that of {first.spelt(differing[0])}. Give both the "
                "labels of one list: --trials, or `convert-scores --trials`."
            )


def _codes(trials: Trials, rows: np.ndarray) -> np.ndarray:
    """(num_trials,) int: a number per ordered pair, from rows given to the names; -1 if unknown."""
    enrol, test = rows[trials.enrol], rows[trials.test]
    return np.where((enrol < 0) | (test < 0), -1, (enrol << 32) + test)


def _codes_in(reference: Trials, trials: Trials) -> tuple[np.ndarray, str]:
    """The pair numbers of trials, in terms of the names of others; what was ambiguous, if any."""
    if trials is reference:
        return _codes(trials, np.arange(len(trials.names))), ""
    rows, problem = NameIndex(reference.names.tolist()).match(trials.names.tolist())
    return _codes(trials, rows), problem


def _order_like(codes: np.ndarray, other: np.ndarray) -> np.ndarray | slice | None:
    """Where ``other`` has the pairs of ``codes``; None if the pairs are not the same."""
    if len(codes) != len(other):
        return None
    if (codes == other).all():
        return slice(None)
    order, other_order = np.argsort(codes, kind="stable"), np.argsort(other, kind="stable")
    if (codes[order] != other[other_order]).any():
        return None
    places = np.empty_like(order)
    places[order] = other_order
    return places
