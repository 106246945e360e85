"""Error rates as a function of the threshold: the one curve that all metrics read."""

from dataclasses import dataclass

import numpy as np

from speakervlad.errors import InputError, first_few


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


class RankedTrials:
    """Trials sorted once, so that many weightings of them cost a cumulative sum each.

    Equal scores make one operating point: a tie between classes becomes a slanted stretch of the
    curve, exactly as in scikit-learn's ``roc_curve``.
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

    def curve(self, weights: np.ndarray | None = None) -> ErrorCurve:
        """The error curve, each trial counted ``weights`` times (once by default).

        Raises:
            InputError: the weights leave no target or no non-target trial.
        """
        ordered = np.ones(len(self.order)) if weights is None else weights[self.order]
        hits = np.cumsum(np.where(self.is_target, ordered, 0.0))[self.tie_ends]
        false_alarms = np.cumsum(np.where(self.is_target, 0.0, ordered))[self.tie_ends]
        if hits[-1] <= 0 or false_alarms[-1] <= 0:
            raise InputError("the weights leave only one class of trials. Use more speakers.")
        return ErrorCurve(
            self.thresholds,
            np.append(0.0, false_alarms / false_alarms[-1]),
            np.append(1.0, 1.0 - hits / hits[-1]),
        )


def error_curve(scores: np.ndarray, is_target: np.ndarray) -> ErrorCurve:
    """False acceptances and misses at every distinct score.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    return RankedTrials(scores, is_target).curve()


def convex_hull(curve: ErrorCurve) -> ErrorCurve:
    """The ROC convex hull: what the best monotone recalibration of the scores would reach.

    A point that lies on or below the line between its neighbours is no corner of the hull, and can
    be dropped with all others of its kind at once, until the slope falls everywhere.
    """
    hits, false_alarms = curve.increments()
    points = np.append(0, np.flatnonzero(hits + false_alarms > 0) + 1)
    while len(points) > 2:
        right, up = np.diff(curve.false_accept[points]), -np.diff(curve.miss[points])
        is_corner = up[:-1] * right[1:] > up[1:] * right[:-1]
        if is_corner.all():
            break
        points = points[np.concatenate([[True], is_corner, [True]])]
    return ErrorCurve(curve.thresholds[points], curve.false_accept[points], curve.miss[points])


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
