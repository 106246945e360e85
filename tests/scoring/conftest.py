"""Fixtures of the scoring room."""

import numpy as np
import pytest


@pytest.fixture
def gaussian_scores():
    """Scores and labels of two unit Gaussians ``distance`` apart, at their quantiles (no noise)."""
    from scipy.special import ndtri

    def make(distance, num_target=2000, num_nontarget=2000):
        def quantiles(num):
            return ndtri((np.arange(num) + 0.5) / num)

        scores = np.concatenate([quantiles(num_target) + distance, quantiles(num_nontarget)])
        return scores, np.arange(len(scores)) < num_target

    return make
