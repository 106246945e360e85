"""Confidence intervals by resampling speakers: the trials of one speaker are not independent."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from speakervlad.errors import InputError
from speakervlad.progress import track
from speakervlad.scoring.metrics import (
    FIXED_FALSE_ACCEPT,
    ErrorCurve,
    VerificationReport,
    all_figures,
    check_scores,
    error_curve,
    measurable_rates,
)
from speakervlad.scoring.points import REPORTED_POINTS, OperatingPoint
from speakervlad.scoring.speakers import MIN_SPEAKERS, TrialSpeakers

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95


class RankedTrials:
    """Trials sorted once, so that many weightings of them cost a cumulative sum each.

    Equal scores make one operating point, as in ``error_curve``.
    """

    def __init__(self, scores: np.ndarray, is_target: np.ndarray) -> None:
        scores, is_target = check_scores(scores, is_target)
        self.order = np.argsort(-scores, kind="stable")
        descending = scores[self.order]
        self.is_target = is_target[self.order]
        self.tie_ends = np.append(
            np.flatnonzero(descending[1:] != descending[:-1]), len(scores) - 1
        )
        self.thresholds = np.append(np.inf, descending[self.tie_ends].astype(np.float64))

    def curve(self, weights: np.ndarray) -> ErrorCurve:
        """The error curve, each trial counted ``weights`` times.

        Raises:
            InputError: the weights leave no target or no non-target trial.
        """
        ordered = weights[self.order]
        hits = np.cumsum(np.where(self.is_target, ordered, 0.0))[self.tie_ends]
        false_alarms = np.cumsum(np.where(self.is_target, 0.0, ordered))[self.tie_ends]
        if hits[-1] <= 0 or false_alarms[-1] <= 0:
            raise InputError("the weights leave only one class of trials. Use more speakers.")
        return ErrorCurve(
            self.thresholds,
            np.append(0.0, false_alarms / false_alarms[-1]),
            np.append(1.0, 1.0 - hits / hits[-1]),
        )


@dataclass(frozen=True)
class Comparison:
    """System B against system A on the same trials, one figure.

    Attributes:
        first: the figure of system A.
        second: the figure of system B.
        difference: second - first.
        interval: confidence bounds of the difference.
        p_value: two-sided bootstrap p-value of "no difference".
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    p_value: float


def with_intervals(
    report: VerificationReport,
    scores: np.ndarray,
    is_target: np.ndarray,
    speakers: TrialSpeakers,
    *,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> VerificationReport:
    """The report with a percentile interval for every figure in it.

    Raises:
        InputError: fewer than ``MIN_SPEAKERS`` speakers.
    """
    draws = resampled_figures(
        [scores], is_target, speakers, points, num_resamples=num_resamples, seed=seed
    )
    return attach_intervals(report, of_system(draws, 0), confidence)


def attach_intervals(
    report: VerificationReport, draws: dict[str, np.ndarray], confidence: float = CONFIDENCE
) -> VerificationReport:
    """The report with percentile intervals from (num_resamples,) figures by name."""
    kept = {f"frr at far {rate}" for rate in report.frr_at_far}
    intervals = {
        name: percentile_interval(values, confidence)
        for name, values in draws.items()
        if not name.startswith("frr at far") or name in kept
    }
    return replace(report, intervals=intervals, confidence=confidence)


def compare_systems(
    first: np.ndarray,
    second: np.ndarray,
    is_target: np.ndarray,
    speakers: TrialSpeakers,
    *,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Paired comparison: both systems see the same resampled speakers, so what they share cancels.

    False-acceptance rates finer than one non-target trial are left out, as in a report.

    Raises:
        InputError: fewer than ``MIN_SPEAKERS`` speakers, or scores that do not fit the labels.
    """
    draws = resampled_figures(
        [first, second],
        is_target,
        speakers,
        points,
        num_resamples=num_resamples,
        seed=seed,
    )
    rates = measurable_rates(int(np.sum(~is_target)))
    return paired(
        all_figures(error_curve(first, is_target), points, rates),
        all_figures(error_curve(second, is_target), points, rates),
        of_system(draws, 0),
        of_system(draws, 1),
        confidence,
    )


def paired(
    first: dict[str, float],
    second: dict[str, float],
    first_draws: dict[str, np.ndarray],
    second_draws: dict[str, np.ndarray],
    confidence: float = CONFIDENCE,
) -> dict[str, Comparison]:
    """Compare figures of two systems, given both on the same (num_resamples,) resamples.

    The draws may hold more figures than are compared.
    """
    comparisons = {}
    for name in first:
        differences = second_draws[name] - first_draws[name]
        comparisons[name] = Comparison(
            first=first[name],
            second=second[name],
            difference=second[name] - first[name],
            interval=percentile_interval(differences, confidence),
            p_value=two_sided_p_value(differences),
        )
    return comparisons


def of_system(draws: dict[str, np.ndarray], system: int) -> dict[str, np.ndarray]:
    """The draws of one system."""
    return {name: values[system] for name, values in draws.items()}


def resampled_figures(
    systems: list[np.ndarray],
    is_target: np.ndarray,
    speakers: TrialSpeakers,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Every figure of every system on every resample of the speakers.

    Returns:
        (num_systems, num_resamples) arrays by figure name.
    """
    ranked = [RankedTrials(scores, is_target) for scores in systems]
    columns: dict[str, list[list[float]]] = {}
    weightings = trial_weights(speakers, is_target, num_resamples, seed)
    for weights in track(weightings, "bootstrap", total=num_resamples):
        per_system = [
            all_figures(trials.curve(weights), points, FIXED_FALSE_ACCEPT) for trials in ranked
        ]
        for name in per_system[0]:
            columns.setdefault(name, []).append([figures[name] for figures in per_system])
    return {name: np.array(rows).T for name, rows in columns.items()}


def trial_weights(
    speakers: TrialSpeakers, is_target: np.ndarray, num_resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """(num_trials,) weights of each resample, keyed by ``(seed, resample)``.

    Speakers are drawn with replacement. A speaker drawn c times brings c times its target trials,
    and a pair of speakers drawn c and d times brings c * d times its non-target trials (the
    pigeonhole bootstrap of Owen, 2007). A draw that leaves only one class is drawn again.

    Raises:
        InputError: fewer than ``MIN_SPEAKERS`` speakers: their spread cannot be judged.
    """
    if speakers.num_speakers < MIN_SPEAKERS:
        raise InputError(
            f"{speakers.num_speakers} speakers are too few for confidence intervals. "
            f"Use a list of at least {MIN_SPEAKERS}."
        )
    same = speakers.enrol == speakers.test
    for resample in range(num_resamples):
        rng = np.random.default_rng((seed, resample))
        while True:
            draw = rng.integers(speakers.num_speakers, size=speakers.num_speakers)
            counts = np.bincount(draw, minlength=speakers.num_speakers).astype(np.float64)
            weights = counts[speakers.enrol] * np.where(same, 1.0, counts[speakers.test])
            if weights[is_target].any() and weights[~is_target].any():
                break
        yield weights


def percentile_interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Lower and upper bound that leave ``(1 - confidence) / 2`` outside on either side."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def two_sided_p_value(differences: np.ndarray) -> float:
    """Twice the share of resamples on the far side of zero, never below what they can resolve."""
    num_below, num_above = np.sum(differences <= 0), np.sum(differences >= 0)
    return float(min(1.0, 2 * (min(num_below, num_above) + 1) / (len(differences) + 1)))
