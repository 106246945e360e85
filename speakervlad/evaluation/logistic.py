"""Logistic regression by Newton's method, for the few features that calibration has."""

import numpy as np

MAX_STEPS = 100
MAX_HALVINGS = 30
TOLERANCE = 1e-10


def expit(values: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, without overflow."""
    return np.exp(-np.logaddexp(0, -values))


def logit(probability: float) -> float:
    """``log(p / (1 - p))``."""
    return float(np.log(probability) - np.log1p(-probability))


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
