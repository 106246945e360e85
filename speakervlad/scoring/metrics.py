"""The judgement of a scored list: the error curve, every figure that it yields, their report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.scoring.points import REPORTED_POINTS, OperatingPoint

logger = logging.getLogger(__name__)

Rates = TypeVar("Rates", float, np.ndarray)

FIXED_FALSE_ACCEPT = (0.01, 0.001, 0.0001)
# Larger scores are of no system, and sums of them are of no use.
MOST_SCORE = 1e30
# Points of a curve that are worked on at once.
POINTS_PER_BLOCK = 1 << 22


@dataclass(frozen=True)
class ErrorCurve:
    """Operating points from "accept nothing" to "accept everything".

    Accept means score >= threshold.

    Attributes:
        thresholds: (num_points,) descending; the first is +inf.
        false_accept: (num_points,) false-acceptance rate, rising from 0 to 1.
        miss: (num_points,) false-rejection rate, falling from 1 to 0.
    """

    thresholds: np.ndarray
    false_accept: np.ndarray
    miss: np.ndarray

    def increments(self) -> tuple[np.ndarray, np.ndarray]:
        """(num_points - 1,) share of the targets and of the non-targets at each threshold."""
        return -np.diff(self.miss), np.diff(self.false_accept)

    def at(self, points: "slice | np.ndarray") -> "ErrorCurve":
        """Some of the points."""
        return ErrorCurve(self.thresholds[points], self.false_accept[points], self.miss[points])

    def corners(self) -> "ErrorCurve":
        """The curve without the points inside its horizontal and vertical stretches."""
        level = self.miss[1:] == self.miss[:-1]
        upright = self.false_accept[1:] == self.false_accept[:-1]
        if (level & upright).any():
            return self.at(np.append(True, ~(level & upright))).corners()
        inside = (level[1:] & level[:-1]) | (upright[1:] & upright[:-1])
        return self.at(np.concatenate([[True], ~inside, [True]]))


def error_curve(scores: np.ndarray, is_target: np.ndarray) -> ErrorCurve:
    """False acceptances and misses at every distinct score.

    Equal scores make one operating point: a tie between classes becomes a slanted stretch of the
    curve, exactly as in scikit-learn's ``roc_curve``. float32 scores stay float32, so that 1e8 of
    them are sorted within 4 GB.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    scores, is_target = check_scores(scores, is_target)
    targets, nontargets = np.sort(scores[is_target]), np.sort(scores[~is_target])
    ascending = np.sort(scores)
    thresholds = ascending[np.append(True, ascending[1:] != ascending[:-1])][::-1]
    del ascending
    return ErrorCurve(
        np.append(scores.dtype.type(np.inf), thresholds),
        np.append(
            0.0, (len(nontargets) - np.searchsorted(nontargets, thresholds)) / len(nontargets)
        ),
        np.append(1.0, np.searchsorted(targets, thresholds) / len(targets)),
    )


def mean_curve(curves: Sequence[ErrorCurve]) -> ErrorCurve:
    """The curve of lists that count equally: at every threshold the mean of their error rates."""
    thresholds = np.unique(np.concatenate([curve.thresholds for curve in curves]))[::-1]
    rates = [_errors_at(curve, thresholds) for curve in curves]
    false_accept, miss = (np.mean(kind, axis=0) for kind in zip(*rates, strict=True))
    return ErrorCurve(thresholds, false_accept, miss)


def convex_hull(curve: ErrorCurve) -> ErrorCurve:
    """The ROC convex hull: what the best monotone recalibration of the scores would reach.

    A point that lies on or below the line between its neighbours is no corner of the hull, and can
    be dropped with all others of its kind at once, until the slope falls everywhere.
    """
    curve = curve.corners()
    points = np.arange(len(curve.thresholds))
    while len(points) > 2:
        right, up = np.diff(curve.false_accept[points]), -np.diff(curve.miss[points])
        is_corner = up[:-1] * right[1:] > up[1:] * right[:-1]
        if is_corner.all():
            break
        points = points[np.concatenate([[True], is_corner, [True]])]
    return curve.at(points)


def check_scores(scores: np.ndarray, is_target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as 1-D arrays (floating, bool) that an error rate can be computed from.

    Raises:
        InputError: different lengths, NaN or infinite scores, or a missing class, with counts.
    """
    scores, is_target = np.asarray(scores), np.asarray(is_target)
    if scores.shape != is_target.shape or scores.ndim != 1:
        raise InputError(
            f"scores of shape {scores.shape} and labels of shape {is_target.shape} do not fit. "
            "Give one label per score."
        )
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if is_target.dtype != np.bool_:
        is_target = _as_labels(is_target)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise InputError(
            f"{len(bad)} of {len(scores)} scores are NaN or infinite (trials "
            f"{first_few(bad + 1)}, counted from 1). Compute these again."
        )
    if max(scores.max(initial=0), -scores.min(initial=0)) > MOST_SCORE:
        far = np.flatnonzero(np.abs(scores) > MOST_SCORE)
        raise InputError(
            f"{len(far)} of {len(scores)} scores are beyond {MOST_SCORE:g} (trials "
            f"{first_few(far + 1)}, counted from 1), which no system gives. Compute these again."
        )
    num_target = int(is_target.sum())
    if num_target in (0, len(scores)):
        raise InputError(
            f"{num_target} target and {len(scores) - num_target} non-target trials: "
            "an error rate needs both classes."
        )
    return scores, is_target


def _as_labels(labels: np.ndarray) -> np.ndarray:
    if not np.isin(labels, (0, 1)).all():
        raise InputError("labels are neither 0 nor 1. Write 1 for target and 0 for non-target.")
    return labels.astype(bool)


def eer_point(curve: ErrorCurve) -> tuple[float, float]:
    """Equal error rate of a curve and the (finite) threshold that goes with it."""
    excess = curve.miss - curve.false_accept
    right = int(np.argmax(excess <= 0))
    left = right - 1
    share = excess[left] / (excess[left] - excess[right])
    step = curve.false_accept[right] - curve.false_accept[left]
    eer = float(curve.false_accept[left] + share * step)
    if excess[right] == 0:
        return eer, float(curve.thresholds[right : right + 2].mean(dtype=np.float64))
    below = float(curve.thresholds[right])
    if left == 0:
        return eer, below
    above = float(curve.thresholds[left])
    return eer, above + float(share) * (below - above)


def detection_cost(miss: Rates, false_accept: Rates, point: OperatingPoint) -> Rates:
    """Normalised detection cost at every pair of error rates (NIST SRE).

    ``(c_miss p_target FRR + c_fa (1 - p_target) FAR) / min(c_miss p_target, c_fa (1 - p_target))``:
    1 is the cost of always giving the same answer.
    """
    cost_of_misses, cost_of_false_accepts = (
        point.c_miss * point.p_target,
        point.c_fa * (1 - point.p_target),
    )
    costs = cost_of_misses * miss + cost_of_false_accepts * false_accept
    return costs / min(cost_of_misses, cost_of_false_accepts)


def min_dcf_point(curve: ErrorCurve, point: OperatingPoint) -> tuple[float, int]:
    """Minimum normalised detection cost of a curve, and the index of its operating point."""
    costs = detection_cost(curve.miss, curve.false_accept, point)
    best = int(np.argmin(costs))
    return float(costs[best]), best


def actual_dcf(curve: ErrorCurve, point: OperatingPoint) -> float:
    """Detection cost at the Bayes threshold, the scores being read as log-likelihood ratios."""
    false_accept, miss = errors_at(curve, point.bayes_threshold)
    return detection_cost(miss, false_accept, point)


def cllr_of_curve(curve: ErrorCurve) -> float:
    """Cost of the log-likelihood ratios over all priors, in bits (Brummer and du Preez, 2006)."""
    costs = 0.0
    for start in range(0, len(curve.thresholds) - 1, POINTS_PER_BLOCK):
        block = curve.at(slice(start, start + POINTS_PER_BLOCK + 1))
        hits, false_alarms = block.increments()
        ratios = block.thresholds[1:].astype(np.float64)
        target_costs = np.logaddexp(0, -ratios)
        # No ``@``: a threaded BLAS costs more than it saves on arrays of this size.
        costs += np.sum(hits * target_costs) + np.sum(false_alarms * (target_costs + ratios))
    return float(costs / (2 * np.log(2)))


def min_cllr_of_hull(hull: ErrorCurve) -> float:
    """Cllr after the best monotone recalibration, in bits: the hull's slopes are its ratios."""
    hits, false_alarms = hull.increments()
    with np.errstate(divide="ignore", invalid="ignore"):
        target_costs = np.where(hits > 0, hits * np.log2(1 + false_alarms / hits), 0)
        nontarget_costs = np.where(
            false_alarms > 0, false_alarms * np.log2(1 + hits / false_alarms), 0
        )
    return float((target_costs.sum() + nontarget_costs.sum()) / 2)


def miss_at_false_accept(curve: ErrorCurve, rate: float) -> tuple[float, float]:
    """Lowest false-rejection rate with a false-acceptance rate of at most ``rate``; threshold."""
    point = int(np.searchsorted(curve.false_accept, rate * (1 + 1e-12), side="right")) - 1
    if point == 0:
        return 1.0, float(np.nextafter(float(curve.thresholds[1]), np.inf))
    return float(curve.miss[point]), float(curve.thresholds[point])


def errors_at(curve: ErrorCurve, threshold: float) -> tuple[float, float]:
    """False-acceptance and false-rejection rate where scores >= ``threshold`` are accepted."""
    false_accept, miss = _errors_at(curve, np.asarray(threshold))
    return float(false_accept), float(miss)


def _errors_at(curve: ErrorCurve, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from_below = np.searchsorted(curve.thresholds[::-1], thresholds, side="left")
    accepted = len(curve.thresholds) - 1 - from_below
    return curve.false_accept[accepted], curve.miss[accepted]


def measurable_rates(num_nontarget: int) -> tuple[float, ...]:
    """The fixed false-acceptance rates that are no finer than one of so many non-target trials."""
    return tuple(rate for rate in FIXED_FALSE_ACCEPT if rate * num_nontarget >= 1)


def all_figures(
    curve: ErrorCurve,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    false_accept_rates: tuple[float, ...] = FIXED_FALSE_ACCEPT,
) -> dict[str, float]:
    """Every figure by name: ``eer``, ``min_dcf 0.01``, ``act_dcf 0.01``, ``frr at far 0.01``..."""
    corners = curve.corners()
    hull = convex_hull(corners)
    figures = {
        "eer": eer_point(curve)[0],
        "eer_convex_hull": eer_point(hull)[0],
        "cllr": cllr_of_curve(curve),
        "min_cllr": min_cllr_of_hull(hull),
    }
    for point in points:
        figures[f"min_dcf {point.name}"] = min_dcf_point(corners, point)[0]
        figures[f"act_dcf {point.name}"] = actual_dcf(curve, point)
    for rate in false_accept_rates:
        figures[f"frr at far {rate:g}"] = miss_at_false_accept(curve, rate)[0]
    return figures


@dataclass(frozen=True)
class VerificationReport:
    """What a trial list says about a system.

    Attributes:
        eer: equal error rate, a fraction.
        threshold: score at the equal error rate; accept means score >= threshold. Always finite.
        num_target: trials of the same speaker.
        num_nontarget: trials of different speakers.
        min_dcf: normalised minimum detection cost by operating point, e.g. ``{"0.01": 0.23}``.
        act_dcf: detection cost at the Bayes threshold, the scores read as log-likelihood ratios.
        eer_convex_hull: equal error rate of the ROC convex hull.
        cllr: cost of the scores as log-likelihood ratios, in bits; 1 is no information.
        min_cllr: the same after the best monotone recalibration.
        frr_at_far: lowest false-rejection rate and its threshold by false-acceptance rate; a rate
            finer than one non-target trial is left out.
        intervals: lower and upper confidence bound by figure, when a bootstrap was run.
        confidence: level of the intervals.
        at_threshold: a chosen threshold and the error rates there, ``threshold``, ``far`` and
            ``frr``; empty if none was chosen.
        breakdown: by what the list was broken down by, reports by group; None where a group has
            one class only.
    """

    eer: float
    threshold: float
    num_target: int
    num_nontarget: int
    min_dcf: dict[str, float]
    act_dcf: dict[str, float]
    eer_convex_hull: float
    cllr: float
    min_cllr: float
    frr_at_far: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    confidence: float | None = None
    at_threshold: Mapping[str, float] = field(default_factory=dict)
    breakdown: "Mapping[str, Mapping[str, VerificationReport | None]]" = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain numbers and dictionaries, ready for ``json.dumps``."""
        return asdict(self)


def verification_report(
    scores: np.ndarray,
    is_target: np.ndarray,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    threshold: float | None = None,
) -> VerificationReport:
    """Every figure of one scored list, and the error rates at a threshold if one is given.

    Raises:
        InputError: scores that are not finite, one class only, or a threshold that is no number.
    """
    if threshold is not None and np.isnan(threshold):
        raise InputError("a threshold that is no number decides nothing. Give a score.")
    scores, is_target = check_scores(scores, is_target)
    curve, num_target = error_curve(scores, is_target), int(is_target.sum())
    num_nontarget = len(scores) - num_target
    figures, chosen = all_figures(curve, points, ()), {}
    if threshold is not None:
        far, frr = errors_at(curve, threshold)
        chosen = {"threshold": threshold, "far": far, "frr": frr}
    fixed = {
        f"{rate:g}": miss_at_false_accept(curve, rate) for rate in measurable_rates(num_nontarget)
    }
    return VerificationReport(
        eer=figures["eer"],
        threshold=eer_point(curve)[1],
        num_target=num_target,
        num_nontarget=num_nontarget,
        min_dcf={point.name: figures[f"min_dcf {point.name}"] for point in points},
        act_dcf={point.name: figures[f"act_dcf {point.name}"] for point in points},
        eer_convex_hull=figures["eer_convex_hull"],
        cllr=figures["cllr"],
        min_cllr=figures["min_cllr"],
        frr_at_far={
            rate: {"frr": miss, "threshold": place} for rate, (miss, place) in fixed.items()
        },
        at_threshold=chosen,
    )


def hint_at_reversed(report: VerificationReport) -> str | None:
    """A sentence if scores are higher for different speakers, as distances are; None otherwise."""
    if report.eer <= 0.5:
        return None
    return (
        f"an EER of {report.eer:.1%} is worse than guessing: these scores look reversed. Higher "
        "must mean the same speaker (negate distances), and label 1 as well."
    )


def warn_of_reversed(report: VerificationReport) -> None:
    """Log that scores are higher for different speakers, if they are."""
    if (hint := hint_at_reversed(report)) is not None:
        logger.warning("%s", hint)


def equal_error_rate(
    scores: np.ndarray, is_target: np.ndarray, *, use_convex_hull: bool = False
) -> float:
    """The rate, a fraction, where the linearly interpolated ROC has FAR = FRR.

    It is the root of ``1 - x - ROC(x)`` that most speaker toolkits look for by bisection, in closed
    form. A system with all answers reversed has an EER of 1, a constant score one of 0.5. With
    ``use_convex_hull`` the ROC is replaced by its convex hull, as BOSARIS and NIST tools do.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    curve = error_curve(scores, is_target)
    return eer_point(convex_hull(curve) if use_convex_hull else curve)[0]


def min_dcf(
    scores: np.ndarray,
    is_target: np.ndarray,
    p_target: float,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """Smallest normalised detection cost over all thresholds (see ``detection_cost``).

    Raises:
        InputError: scores that are not finite, one class only, or an impossible operating point.
    """
    point = OperatingPoint(p_target, c_miss, c_fa)
    return min_dcf_point(error_curve(scores, is_target), point)[0]


def act_dcf(
    llrs: np.ndarray,
    is_target: np.ndarray,
    p_target: float,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """Normalised detection cost of deciding at the Bayes threshold of ``p_target`` and the costs.

    Args:
        llrs: (num_trials,) natural-log likelihood ratios, such as calibrated scores.
        is_target: (num_trials,) bool.
        p_target: prior probability of a target.
        c_miss: cost of rejecting a target.
        c_fa: cost of accepting a non-target.

    Raises:
        InputError: scores that are not finite, one class only, or an impossible operating point.
    """
    return actual_dcf(error_curve(llrs, is_target), OperatingPoint(p_target, c_miss, c_fa))


def cllr(llrs: np.ndarray, is_target: np.ndarray) -> float:
    """Cost of natural-log likelihood ratios over all priors, in bits; 1 is no information.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    return cllr_of_curve(error_curve(llrs, is_target))


def min_cllr(scores: np.ndarray, is_target: np.ndarray) -> float:
    """``cllr`` after the best monotone recalibration of the scores, in bits.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    return min_cllr_of_hull(convex_hull(error_curve(scores, is_target)))
