"""Score files brought together with labels, speakers and each other."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.bootstrap import MIN_SPEAKERS, with_intervals
from speakervlad.evaluation.figures import REPORTED_POINTS, OperatingPoint
from speakervlad.evaluation.metrics import VerificationReport, verification_report
from speakervlad.evaluation.names import NameIndex
from speakervlad.evaluation.score_files import read_scores
from speakervlad.evaluation.speakers import (
    TrialSpeakers,
    speakers_from_manifest,
    speakers_from_names,
)
from speakervlad.evaluation.trials import Trials
from speakervlad.progress import Track, silent

logger = logging.getLogger(__name__)

Scored = tuple[Trials, np.ndarray]


def read_scored(path: str | Path, key: Trials | None = None) -> Scored:
    """Read a score file and take the labels from a key, where one is given.

    A ``.npy`` file holds scores in the order of the key.

    Raises:
        InputError: a ``.npy`` file without a key or of another length; trials that the key misses.
    """
    path = Path(path)
    if path.suffix == ".npy":
        return _read_array(path, key)
    trials, scores = read_scores(path)
    if key is None:
        return trials, scores
    try:
        return with_labels(trials, key, str(path)), scores
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_array(path: Path, key: Trials | None) -> Scored:
    if key is None:
        raise InputError(f"{path}: scores without names. Give the trial list with --trials.")
    try:
        scores = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: no array of scores ({error}). Save it with np.save.") from error
    if scores.shape != (len(key),):
        raise InputError(
            f"{path}: scores of shape {scores.shape} for {len(key)} trials. "
            "Give the list that they belong to."
        )
    return key, scores


def with_labels(trials: Trials, key: Trials, source: str = "the scores") -> Trials:
    """The trials with the labels that a key gives the same pairs.

    Labels that they had already give way, with a warning that names ``source`` if some differ.

    Raises:
        InputError: a blind key, or trials that it does not have.
    """
    labels = key.labels()
    codes = _codes_in(key, trials)
    key_codes = _codes(key, np.arange(len(key.names)))
    order = np.argsort(key_codes, kind="stable")
    places = np.minimum(np.searchsorted(key_codes[order], codes), len(key) - 1)
    missing = np.flatnonzero(key_codes[order][places] != codes)
    if len(missing):
        named = [f"{trials.enrol_ids[t]} {trials.test_ids[t]}" for t in missing[:6]]
        raise InputError(
            f"{len(missing)} of {len(trials)} scored trials are not in the trial list: "
            f"{first_few(named)}. Give the list that was scored."
        )
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
    orders = [_order_like(codes, _codes_in(first, trials)) for trials, _ in systems]
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
            pair = f"{first.enrol_ids[differing[0]]} {first.test_ids[differing[0]]}"
            raise InputError(
                f"score files {reference} and {number} disagree about {len(differing)} of "
                f"{len(labels)} labels, first that of {pair}. Give both the labels of one list: "
                "--trials, or `convert-scores --trials`."
            )


def _codes(trials: Trials, rows: np.ndarray) -> np.ndarray:
    """(num_trials,) int: a number per ordered pair, from rows given to the names; -1 if unknown."""
    enrol, test = rows[trials.enrol], rows[trials.test]
    return np.where((enrol < 0) | (test < 0), -1, (enrol << 32) + test)


def _codes_in(reference: Trials, trials: Trials) -> np.ndarray:
    """The pair numbers of trials, in terms of the names of others."""
    if trials is reference:
        return _codes(trials, np.arange(len(trials.names)))
    return _codes(trials, NameIndex(reference.names.tolist()).find(trials.names.tolist()))


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


def speakers_if_known(trials: Trials, manifest: Manifest | None) -> TrialSpeakers | None:
    """The speakers of the trials: from the manifest, or else from the names if these tell them.

    Raises:
        InputError: the manifest does not fit the trials.
    """
    if manifest is not None:
        return speakers_from_manifest(trials, manifest)
    try:
        speakers = speakers_from_names(trials)
    except InputError as error:
        logger.info("no confidence intervals: %s", error)
        return None
    if speakers.num_speakers < MIN_SPEAKERS:
        logger.info("no confidence intervals: only %d speakers.", speakers.num_speakers)
        return None
    return speakers


def judge(
    trials: Trials,
    scores: np.ndarray,
    speakers: TrialSpeakers | None,
    *,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    num_resamples: int = 1000,
    seed: int = 0,
    track: Track = silent,
) -> VerificationReport:
    """Every figure, with intervals where speakers are known and resamples are asked for.

    Raises:
        InputError: no labels, scores that are not finite, or one class only.
    """
    report = verification_report(scores, trials.labels(), points)
    if speakers is None or not num_resamples:
        return report
    return with_intervals(
        report,
        scores,
        trials.labels(),
        speakers,
        points=points,
        num_resamples=num_resamples,
        seed=seed,
        track=track,
    )
