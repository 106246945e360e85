"""The judgement of a scored list: single figures, and the report that holds them all."""

from dataclasses import asdict, dataclass, field

import numpy as np

from speakervlad.evaluation.curves import ErrorCurve, check_scores, convex_hull, error_curve
from speakervlad.evaluation.figures import (
    REPORTED_POINTS,
    OperatingPoint,
    actual_dcf,
    all_figures,
    cllr_of_curve,
    eer_point,
    measurable_rates,
    min_cllr_of_hull,
    min_dcf_point,
    miss_at_false_accept,
)


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

    def to_json(self) -> dict[str, object]:
        """Plain numbers and dictionaries, ready for ``json.dumps``."""
        return asdict(self)


def verification_report(
    scores: np.ndarray,
    is_target: np.ndarray,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
) -> VerificationReport:
    """Every figure of one scored list.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    scores, is_target = check_scores(scores, is_target)
    num_target = int(is_target.sum())
    return report_of_curve(
        error_curve(scores, is_target), num_target, len(scores) - num_target, points
    )


def report_of_curve(
    curve: ErrorCurve,
    num_target: int,
    num_nontarget: int,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
) -> VerificationReport:
    """Every figure of one error curve."""
    figures = all_figures(curve, points, ())
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
            rate: {"frr": miss, "threshold": threshold} for rate, (miss, threshold) in fixed.items()
        },
    )


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
