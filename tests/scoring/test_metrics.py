import json

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.special import ndtr
from sklearn.metrics import det_curve, roc_curve

from speakervlad.errors import InputError
from speakervlad.scoring.metrics import equal_error_rate, min_dcf, verification_report


def eer_by_bisection(scores, is_target):
    false_accept, hit, _ = roc_curve(is_target, scores)
    return brentq(lambda x: 1.0 - x - interp1d(false_accept, hit)(x), 0.0, 1.0)


def min_dcf_by_definition(scores, is_target, p_target, c_miss, c_fa):
    costs = []
    for threshold in np.append(np.unique(scores), np.inf):
        miss = np.mean(scores[is_target] < threshold)
        false_accept = np.mean(scores[~is_target] >= threshold)
        costs.append(c_miss * p_target * miss + c_fa * (1 - p_target) * false_accept)
    return min(costs) / min(c_miss * p_target, c_fa * (1 - p_target))


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
def test_eer_of_two_gaussians_has_a_closed_form(gaussian_scores, distance):
    scores, is_target = gaussian_scores(distance, 4000, 3000)
    assert equal_error_rate(scores, is_target) == pytest.approx(ndtr(-distance / 2), abs=2e-4)


def test_min_dcf_of_two_gaussians_has_a_closed_form(gaussian_scores):
    scores, is_target = gaussian_scores(3.0, 20_000, 20_000)
    p_target, distance = 0.05, 3.0
    best = np.log((1 - p_target) / p_target) / distance + distance / 2
    cost = p_target * ndtr(best - distance) + (1 - p_target) * ndtr(-best)
    assert min_dcf(scores, is_target, p_target) == pytest.approx(cost / p_target, abs=2e-3)


@pytest.mark.parametrize(
    ("scores", "labels", "eer", "threshold"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.0, 0.5),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 1.0, None),
        ([0.5, 0.5, 0.5], [1, 0, 0], 0.5, 0.5),
        ([0.8, 0.4], [1, 0], 0.0, 0.6),
    ],
    ids=["perfect", "reversed", "constant", "two trials"],
)
def test_extreme_systems(scores, labels, eer, threshold):
    report = verification_report(np.array(scores), np.array(labels))
    assert report.eer == pytest.approx(eer, abs=1e-12)
    assert np.isfinite(report.threshold)
    if threshold is not None:
        assert report.threshold == pytest.approx(threshold)


def test_equals_the_original_function(shared_reference):
    sets = np.load(shared_reference / "eer/eer_sets.npz")
    expected = json.loads((shared_reference / "eer/eer.json").read_text())["py311"]["eer"]
    for name, (eer, _) in expected.items():
        name = name.removesuffix("__nodrop")
        ours = verification_report(sets[f"{name}__scores"], sets[f"{name}__labels"])
        assert ours.eer == pytest.approx(eer, abs=1e-9), name
        assert np.isfinite(ours.threshold), name


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("am_adam0111", 3.6638),
        ("am_sgd0117", 5.3128),
        ("am_sgd0121", 3.9820),
        ("sm_ohem2", 3.3139),
        ("sm_ohem3", 3.5578),
        ("sm_vlad12", 3.9767),
    ],
)
def test_published_scores_of_voxceleb1(shared_reference, name, percent):
    labels = np.load(shared_reference / "vox1_scores/labels.npy")
    scores = np.load(shared_reference / f"vox1_scores/{name}.npy")
    assert 100 * equal_error_rate(scores, labels) == pytest.approx(percent, abs=1e-3)


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize("num", [3, 20, 501])
def test_equals_scikit_learn_with_and_without_ties(rng, num, decimals):
    is_target = rng.permutation(np.arange(num) < max(1, num // 3))
    scores = np.round(rng.normal(size=num) + is_target, decimals)
    assert equal_error_rate(scores, is_target) == pytest.approx(
        eer_by_bisection(scores, is_target), abs=1e-9
    )
    for p_target, c_miss, c_fa in [(0.01, 1, 1), (0.05, 10, 1), (0.5, 1, 1)]:
        assert min_dcf(scores, is_target, p_target, c_miss=c_miss, c_fa=c_fa) == pytest.approx(
            min_dcf_by_definition(scores, is_target, p_target, c_miss, c_fa)
        )


def test_min_dcf_equals_scikit_learns_det_curve(rng):
    is_target = rng.random(5000) < 0.1
    scores = rng.normal(size=5000) + 2 * is_target
    false_accept, miss, _ = det_curve(is_target, scores)
    expected = np.min(0.01 * miss + 0.99 * false_accept) / 0.01
    assert min_dcf(scores, is_target, 0.01) == pytest.approx(min(expected, 1.0))


def test_threshold_splits_the_trials_at_the_eer(gaussian_scores):
    scores, is_target = gaussian_scores(2.0, 1000, 3000)
    report = verification_report(scores, is_target)
    assert np.mean(scores[is_target] < report.threshold) == pytest.approx(report.eer, abs=2e-3)
    assert np.mean(scores[~is_target] >= report.threshold) == pytest.approx(report.eer, abs=2e-3)


def test_monotone_maps_change_nothing_but_the_threshold(rng):
    is_target = rng.random(400) < 0.5
    scores = rng.normal(size=400) + is_target
    before, after = (verification_report(s, is_target) for s in (scores, np.exp(scores)))
    assert before.eer == after.eer
    assert before.min_dcf == after.min_dcf


def test_report_is_json_with_the_contracted_keys(gaussian_scores):
    report = json.loads(json.dumps(verification_report(*gaussian_scores(2.0, 30, 40)).to_json()))
    assert set(report) >= {"eer", "threshold", "num_target", "num_nontarget", "min_dcf"}
    assert (report["num_target"], report["num_nontarget"]) == (30, 40)
    assert set(report["min_dcf"]) == {"0.01", "0.05"}


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "2 target and 0 non-target"),
        ([0.1, 0.2], [0, 0], "0 target and 2 non-target"),
        ([0.1, np.nan, np.inf], [1, 0, 1], r"2 of 3 scores are NaN or infinite \(trials 2, 3"),
        ([0.1, 0.2], [1, 2], "neither 0 nor 1"),
        ([0.1, 0.2], [1, 0, 1], "do not fit"),
        ([], [], "0 target and 0 non-target"),
    ],
)
def test_refuses_what_has_no_error_rate(scores, labels, message):
    with pytest.raises(InputError, match=message):
        equal_error_rate(np.array(scores), np.array(labels))
