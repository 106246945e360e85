import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.special import ndtr
from sklearn.isotonic import IsotonicRegression

from speakervlad.errors import InputError
from speakervlad.scoring.metrics import (
    act_dcf,
    actual_dcf,
    all_figures,
    cllr,
    convex_hull,
    equal_error_rate,
    error_curve,
    min_cllr,
    min_dcf,
    miss_at_false_accept,
    verification_report,
)
from speakervlad.scoring.points import OperatingPoint


@pytest.fixture
def noisy(rng):
    is_target = rng.random(600) < 0.3
    return np.round(rng.normal(size=600) + 1.5 * is_target, 2), is_target


def test_cllr_is_its_definition(noisy):
    llrs, is_target = noisy
    expected = np.mean(np.log2(1 + np.exp(-llrs[is_target])))
    expected += np.mean(np.log2(1 + np.exp(llrs[~is_target])))
    assert cllr(llrs, is_target) == pytest.approx(expected / 2)


def test_scores_without_information_cost_one_bit():
    assert cllr(np.zeros(10), np.arange(10) < 3) == pytest.approx(1)
    assert min_cllr(np.ones(10), np.arange(10) < 3) == pytest.approx(1)


def test_min_cllr_of_perfect_scores_is_zero():
    assert min_cllr(np.array([3.0, 2.0, 1.0]), np.array([1, 1, 0])) == pytest.approx(0)


def test_min_cllr_equals_pav_calibration_of_equal_classes(noisy):
    scores, is_target = noisy
    weights = np.where(is_target, 1 / is_target.sum(), 1 / (~is_target).sum())
    posteriors = IsotonicRegression(y_min=1e-12, y_max=1 - 1e-12).fit_transform(
        scores, is_target, sample_weight=weights
    )
    llrs = np.log(posteriors / (1 - posteriors))
    assert min_cllr(scores, is_target) == pytest.approx(cllr(llrs, is_target), abs=1e-6)


def test_min_cllr_of_calibrated_gaussians_equals_cllr(gaussian_scores):
    scores, is_target = gaussian_scores(2.0, 5000, 5000)
    llrs = 2.0 * scores - 2.0
    assert min_cllr(scores, is_target) == pytest.approx(cllr(llrs, is_target), abs=1e-3)
    assert act_dcf(llrs, is_target, 0.05) == pytest.approx(min_dcf(llrs, is_target, 0.05), abs=1e-2)


def test_hull_equals_qhull(noisy):
    curve = error_curve(*noisy)
    hull = convex_hull(curve)
    corners = np.column_stack([curve.false_accept, 1 - curve.miss])
    vertices = ConvexHull(np.vstack([corners, [1.0, 0.0]])).vertices
    expected = corners[np.sort(vertices[vertices < len(corners)])]
    rates = np.linspace(1e-3, 1, 500)
    np.testing.assert_allclose(
        np.interp(rates, hull.false_accept, 1 - hull.miss), np.interp(rates, *expected.T)
    )
    assert equal_error_rate(*noisy, use_convex_hull=True) <= equal_error_rate(*noisy)


def test_act_dcf_decides_at_the_bayes_threshold(noisy):
    llrs, is_target = noisy
    threshold = np.log(10 * 0.95 / 0.05)
    miss, false_accept = (
        np.mean(llrs[is_target] < threshold),
        np.mean(llrs[~is_target] >= threshold),
    )
    expected = (0.05 * miss + 10 * 0.95 * false_accept) / 0.05
    assert act_dcf(llrs, is_target, 0.05, c_fa=10) == pytest.approx(expected)


def test_act_dcf_below_all_scores_accepts_everything(noisy):
    scores, is_target = noisy
    point = OperatingPoint(0.5)
    assert actual_dcf(error_curve(scores + 100, is_target), point) == pytest.approx(1)
    assert actual_dcf(error_curve(scores - 100, is_target), point) == pytest.approx(1)


@pytest.mark.parametrize("rate", [0.2, 0.1, 0.01])
def test_miss_at_fixed_false_accept(noisy, rate):
    scores, is_target = noisy
    miss, threshold = miss_at_false_accept(error_curve(scores, is_target), rate)
    assert np.mean(scores[~is_target] >= threshold) <= rate
    assert np.mean(scores[is_target] < threshold) == pytest.approx(miss)
    lower = scores[scores < threshold].max()
    assert np.mean(scores[~is_target] >= lower) > rate or miss == np.mean(scores[is_target] < lower)


def test_miss_at_false_accept_of_two_gaussians(gaussian_scores):
    curve = error_curve(*gaussian_scores(3.0, 20_000, 20_000))
    assert miss_at_false_accept(curve, 0.01)[0] == pytest.approx(ndtr(2.3263 - 3), abs=1e-3)


def test_unreachable_false_accept_rejects_all_at_a_finite_threshold():
    miss, threshold = miss_at_false_accept(
        error_curve(np.array([3.0, 2.0, 1.0]), np.array([0, 1, 0])), 0.1
    )
    assert miss == 1
    assert 3 < threshold < 3.1


def test_rates_finer_than_the_list_are_left_out(noisy):
    assert set(verification_report(*noisy).frr_at_far) == {"0.01"}


def test_operating_points_with_costs(noisy):
    report = verification_report(*noisy, (OperatingPoint(0.01, 10, 1), OperatingPoint(0.5)))
    assert set(report.min_dcf) == {"0.01,10,1", "0.5"}
    assert all(report.act_dcf[name] >= cost for name, cost in report.min_dcf.items())


def test_all_figures_of_a_reversed_system_are_finite(noisy):
    scores, is_target = noisy
    figures = all_figures(error_curve(-scores, is_target))
    assert np.isfinite(list(figures.values())).all()
    assert figures["min_dcf 0.01"] == pytest.approx(1)
    assert figures["eer"] > 0.5
    assert figures["eer_convex_hull"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("text", "point"),
    [("0.01", OperatingPoint(0.01)), ("0.05,10,1", OperatingPoint(0.05, 10, 1))],
)
def test_operating_points_are_read(text, point):
    assert OperatingPoint.parse(text) == point
    assert OperatingPoint.parse(point.name) == point


@pytest.mark.parametrize(
    "text",
    [
        *("0", "1.5", "high", "0.1,2", "0.01,-1,1", "nan"),
        *("0.5,inf,inf", "0.5,1,inf", "0.5,nan,1", "0.5,1e308,1e-308", "0.5,1e-308,1", "1e-300"),
    ],
)
def test_impossible_operating_points_are_refused(text):
    with pytest.raises(InputError, match="operating point"):
        OperatingPoint.parse(text)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.25, 1.3, 9.0, -9.0])
def test_error_rates_at_a_chosen_threshold(noisy, threshold):
    scores, is_target = noisy
    found = verification_report(scores, is_target, threshold=threshold).at_threshold
    assert found["threshold"] == threshold
    assert found["far"] == pytest.approx(np.mean(scores[~is_target] >= threshold))
    assert found["frr"] == pytest.approx(np.mean(scores[is_target] < threshold))


def test_a_threshold_that_is_no_number_is_refused(noisy):
    with pytest.raises(InputError, match="no number"):
        verification_report(*noisy, threshold=float("nan"))
    assert verification_report(*noisy).at_threshold == {}
