"""Every figure that an error curve yields: EER, detection costs, Cllr, fixed operating points.

All read one ``ErrorCurve``, so a bootstrap that reweights the curve gives intervals for all.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.curves import ErrorCurve, convex_hull

Rates = TypeVar("Rates", float, np.ndarray)

FIXED_FALSE_ACCEPT = (0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class OperatingPoint:
    """What an application expects and fears.

    Attributes:
        p_target: prior probability that a trial is a target.
        c_miss: cost of rejecting a target.
        c_fa: cost of accepting a non-target.
    """

    p_target: float
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.p_target < 1 or not self.c_miss > 0 or not self.c_fa > 0:
            raise InputError(
                f"operating point {self.name}: p_target must lie between 0 and 1 and costs above 0."
            )

    @property
    def name(self) -> str:
        """``0.01``, or ``0.01,10,1`` where the costs are not 1."""
        costs = "" if self.c_miss == self.c_fa == 1 else f",{self.c_miss:g},{self.c_fa:g}"
        return f"{self.p_target:g}{costs}"

    @property
    def bayes_threshold(self) -> float:
        """The log-likelihood ratio above which accepting is cheaper."""
        return float(np.log(self.c_fa * (1 - self.p_target) / (self.c_miss * self.p_target)))

    @classmethod
    def parse(cls, text: str) -> "OperatingPoint":
        """Read ``p_target`` or ``p_target,c_miss,c_fa``.

        Raises:
            InputError: other text, or numbers out of range.
        """
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            raise InputError(
                f"operating point {text!r}: expected p_target or p_target,c_miss,c_fa, "
                "such as 0.01 or 0.01,10,1."
            )
        return cls(*numbers)


REPORTED_POINTS = (OperatingPoint(0.01), OperatingPoint(0.05))


def eer_point(curve: ErrorCurve) -> tuple[float, float]:
    """Equal error rate of a curve and the (finite) threshold that goes with it."""
    excess = curve.miss - curve.false_accept
    right = int(np.argmax(excess <= 0))
    left = right - 1
    share = excess[left] / (excess[left] - excess[right])
    step = curve.false_accept[right] - curve.false_accept[left]
    eer = float(curve.false_accept[left] + share * step)
    if excess[right] == 0:
        return eer, float((curve.thresholds[right] + curve.thresholds[right + 1]) / 2)
    if left == 0:
        return eer, float(curve.thresholds[right])
    span = curve.thresholds[right] - curve.thresholds[left]
    return eer, float(curve.thresholds[left] + share * span)


def detection_cost(miss: Rates, false_accept: Rates, point: OperatingPoint) -> Rates:
    """Normalised detection cost at every pair of error rates (NIST SRE).

    ``(c_miss p_target FRR + c_fa (1 - p_target) FAR) / min(c_miss p_target, c_fa (1 - p_target))``:
    1 is what a system gets that answers without listening.
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
    accepted = int(np.searchsorted(-curve.thresholds, -point.bayes_threshold, side="right")) - 1
    return float(detection_cost(curve.miss[accepted], curve.false_accept[accepted], point))


def cllr_of_curve(curve: ErrorCurve) -> float:
    """Cost of the log-likelihood ratios over all priors, in bits (Brummer and du Preez, 2006)."""
    hits, false_alarms = curve.increments()
    ratios = curve.thresholds[1:]
    target_costs = np.logaddexp(0, -ratios)
    # No ``@``: a threaded BLAS costs more than it saves on arrays of this size.
    costs = np.sum(hits * target_costs) + np.sum(false_alarms * (target_costs + ratios))
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
        return 1.0, float(np.nextafter(curve.thresholds[1], np.inf))
    return float(curve.miss[point]), float(curve.thresholds[point])


def measurable_rates(num_nontarget: int) -> tuple[float, ...]:
    """The fixed false-acceptance rates that are no finer than one of so many non-target trials."""
    return tuple(rate for rate in FIXED_FALSE_ACCEPT if rate * num_nontarget >= 1)


def all_figures(
    curve: ErrorCurve,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    false_accept_rates: tuple[float, ...] = FIXED_FALSE_ACCEPT,
) -> dict[str, float]:
    """Every figure by name: ``eer``, ``min_dcf 0.01``, ``act_dcf 0.01``, ``frr at far 0.01``..."""
    hull = convex_hull(curve)
    figures = {
        "eer": eer_point(curve)[0],
        "eer_convex_hull": eer_point(hull)[0],
        "cllr": cllr_of_curve(curve),
        "min_cllr": min_cllr_of_hull(hull),
    }
    for point in points:
        figures[f"min_dcf {point.name}"] = min_dcf_point(curve, point)[0]
        figures[f"act_dcf {point.name}"] = actual_dcf(curve, point)
    for rate in false_accept_rates:
        figures[f"frr at far {rate:g}"] = miss_at_false_accept(curve, rate)[0]
    return figures
