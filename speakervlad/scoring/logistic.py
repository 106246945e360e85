"""Calibration and fusion learnt: logistic regression with weighed classes."""

import logging

import numpy as np

from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration, expit, logit
from speakervlad.scoring.metrics import check_scores
from speakervlad.scoring.points import OperatingPoint

logger = logging.getLogger(__name__)

REGULARISATION = 1e-4
MAX_STEPS = 100
MAX_HALVINGS = 30
TOLERANCE = 1e-10


def fit_calibration(
    scores: np.ndarray,
    is_target: np.ndarray,
    *,
    quality: dict[str, np.ndarray] | None = None,
    p_target: float = 0.5,
    shares: np.ndarray | None = None,
) -> Calibration:
    """Train calibration, or fusion when there are several systems, by logistic regression.

    The classes are weighed as if a share ``p_target`` of the trials were targets, which lowers the
    detection cost near that prior; the prior's log odds are then taken out, so that the result is a
    likelihood ratio. Features are standardised inside and lightly regularised, so that separable
    trials still give finite weights.

    Args:
        scores: (num_trials,) or (num_trials, num_systems).
        is_target: (num_trials,) bool.
        quality: (num_trials,) measures by name.
        p_target: prior to train for.
        shares: (num_trials,) of each trial in its class, up to a factor; all alike by default.

    Raises:
        InputError: scores that are not finite, one class only, or a score that never varies.
    """
    measures = quality or {}
    systems = np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)
    labels = is_target
    for system in systems.T:
        _, labels = check_scores(system, is_target)
    features = np.column_stack([systems, *measures.values()])
    centre, spread = features.mean(axis=0), features.std(axis=0)
    _check_features(features, spread, systems.shape[1], measures)
    prior = OperatingPoint(p_target).p_target
    num_target = int(labels.sum())
    num_nontarget = len(labels) - num_target
    shares = np.ones(len(labels)) if shares is None else shares
    of_class = np.where(labels, shares[labels].sum(), shares[~labels].sum())
    weights = np.where(labels, prior, 1 - prior) * shares / of_class
    slopes, intercept = fit_logistic((features - centre) / spread, labels, weights, REGULARISATION)
    slopes = slopes / spread
    if slopes[: systems.shape[1]].min() < 0:
        logger.warning("a system has a negative weight: higher scores speak against the target.")
    return Calibration(
        weights=tuple(slopes.tolist()),
        bias=float(intercept - centre @ slopes - logit(prior)),
        quality=tuple(measures),
        p_target=prior,
        num_target=num_target,
        num_nontarget=num_nontarget,
    )


def _check_features(
    features: np.ndarray, spread: np.ndarray, num_systems: int, measures: dict[str, np.ndarray]
) -> None:
    """Refuse columns that no weight can be learnt for."""
    names = [f"system {number + 1}" for number in range(num_systems)] + list(measures)
    for name, column, deviation in zip(names, features.T, spread, strict=True):
        if not np.isfinite(column).all():
            raise InputError(f"{name} holds NaN or infinite values. Compute it again.")
        if deviation == 0:
            raise InputError(f"{name} is the same for all trials. Leave it out.")


def fit_logistic(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, regularisation: float
) -> tuple[np.ndarray, float]:
    """Minimise ``sum(weights * loss) + regularisation / 2 * |slopes|^2``; it has one minimum.

    Args:
        features: (num_trials, num_features), about standardised.
        labels: (num_trials,) bool.
        weights: (num_trials,) of the trials, with sum 1.
        regularisation: positive; keeps the slopes of separable classes finite.

    Returns:
        (num_features,) slopes, and the intercept, which is not regularised.
    """
    design = np.column_stack([features, np.ones(len(features))])
    signs = np.where(labels, 1.0, -1.0)
    ridge = np.append(np.full(features.shape[1], regularisation), 0.0)

    def loss(solution: np.ndarray) -> float:
        losses = np.logaddexp(0, -signs * (design @ solution))
        return float(weights @ losses + 0.5 * ridge @ solution**2)

    solution = np.zeros(design.shape[1])
    current = loss(solution)
    for _ in range(MAX_STEPS):
        chance = expit(design @ solution)
        gradient = design.T @ (weights * (chance - labels)) + ridge * solution
        if np.abs(gradient).max() < TOLERANCE:
            break
        curvature = design.T @ (design * (weights * chance * (1 - chance))[:, None])
        step = np.linalg.solve(curvature + np.diag(ridge + TOLERANCE), gradient)
        for _ in range(MAX_HALVINGS):
            if (proposed := loss(solution - step)) <= current:
                break
            step = step / 2
        else:
            break
        solution, current = solution - step, proposed
    return solution[:-1], float(solution[-1])
