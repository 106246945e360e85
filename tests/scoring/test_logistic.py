"""Logistic regression against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from speakervlad.scoring.calibration import expit, logit
from speakervlad.scoring.logistic import fit_logistic


@pytest.mark.parametrize("distance", [0.0, 2.0, 40.0])
@pytest.mark.parametrize("num_features", [1, 3])
def test_equals_scikit_learn(rng, num_features, distance):
    labels = np.arange(600) < 100
    features = rng.normal(size=(600, num_features)) + distance * labels[:, None]
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    weights = np.where(labels, 0.05 / 100, 0.95 / 500)
    oracle = LogisticRegression(C=1e4, tol=1e-10, max_iter=10_000)
    oracle.fit(features, labels, sample_weight=weights)
    slopes, intercept = fit_logistic(features, labels, weights, 1e-4)
    np.testing.assert_allclose(slopes, oracle.coef_[0], rtol=1e-4, atol=1e-5)
    assert intercept == pytest.approx(oracle.intercept_[0], rel=1e-4)


def test_probabilities_never_overflow():
    np.testing.assert_array_equal(expit(np.array([-1e9, 0.0, 1e9])), [0.0, 0.5, 1.0])
    assert expit(np.array(logit(0.01))) == pytest.approx(0.01)
