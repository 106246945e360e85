"""Error rates of a verification system: EER, minimum detection cost, and their report."""

from dataclasses import asdict, dataclass, field

import numpy as np

from speakervlad.evaluation.curves import ErrorCurve, check_scores, error_curve

REPORTED_PRIORS = (0.01, 0.05)


@dataclass(frozen=True)
class VerificationReport:
    """What a trial list says about a system.

    Attributes:
        eer: equal error rate, a fraction.
        threshold: score at the equal error rate; accept means score >= threshold. Always finite.
        num_target: trials of the same speaker.
        num_nontarget: trials of different speakers.
        min_dcf: normalised minimum detection cost by target prior, e.g. ``{"0.01": 0.23}``.
    """

    eer: float
    threshold: float
    num_target: int
    num_nontarget: int
    min_dcf: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain numbers and dictionaries, ready for ``json.dumps``."""
        return asdict(self)


def verification_report(
    scores: np.ndarray,
    is_target: np.ndarray,
    p_targets: tuple[float, ...] = REPORTED_PRIORS,
) -> VerificationReport:
    """EER, its threshold, counts and minDCF at each prior of one scored list.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    scores, is_target = check_scores(scores, is_target)
    curve = error_curve(scores, is_target)
    eer, threshold = eer_point(curve)
    num_target = int(is_target.sum())
    return VerificationReport(
        eer=eer,
        threshold=threshold,
        num_target=num_target,
        num_nontarget=len(scores) - num_target,
        min_dcf={f"{prior:g}": min_dcf_point(curve, prior)[0] for prior in p_targets},
    )


def equal_error_rate(scores: np.ndarray, is_target: np.ndarray) -> float:
    """The rate, a fraction, where the linearly interpolated ROC has FAR = FRR.

    It is the root of ``1 - x - ROC(x)`` that most speaker toolkits look for by bisection, in closed
    form. A system with all answers reversed has an EER of 1, a constant score one of 0.5.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    return eer_point(error_curve(scores, is_target))[0]


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


def min_dcf(
    scores: np.ndarray,
    is_target: np.ndarray,
    p_target: float,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """Smallest normalised detection cost over all thresholds (NIST SRE).

    ``(c_miss p_target FRR + c_fa (1 - p_target) FAR) / min(c_miss p_target, c_fa (1 - p_target))``:
    1 is what a system gets that answers without listening.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    return min_dcf_point(error_curve(scores, is_target), p_target, c_miss=c_miss, c_fa=c_fa)[0]


def min_dcf_point(
    curve: ErrorCurve, p_target: float, *, c_miss: float = 1.0, c_fa: float = 1.0
) -> tuple[float, int]:
    """Minimum normalised detection cost of a curve, and the index of its operating point."""
    costs = detection_cost(curve.miss, curve.false_accept, p_target, c_miss=c_miss, c_fa=c_fa)
    best = int(np.argmin(costs))
    return float(costs[best]), best


def detection_cost(
    miss: np.ndarray,
    false_accept: np.ndarray,
    p_target: float,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> np.ndarray:
    """Normalised detection cost at every operating point."""
    cost_of_misses, cost_of_false_accepts = c_miss * p_target, c_fa * (1 - p_target)
    costs = cost_of_misses * miss + cost_of_false_accepts * false_accept
    return costs / min(cost_of_misses, cost_of_false_accepts)
