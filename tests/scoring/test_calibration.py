import json
import logging

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration, load_calibration, save_calibration
from speakervlad.scoring.fusion import calibrate, fuse
from speakervlad.scoring.logistic import fit_calibration
from speakervlad.scoring.metrics import act_dcf, cllr, equal_error_rate, min_cllr, min_dcf
from speakervlad.scoring.points import OperatingPoint
from speakervlad.scoring.trials import Trials


def test_recovers_the_likelihood_ratio_of_gaussians(gaussian_scores):
    """Two unit Gaussians d apart: llr = d s - d^2 / 2 whatever the class sizes and the prior."""
    scores, is_target = gaussian_scores(2.0, 3000, 9000)
    for p_target in (0.5, 0.05):
        found = fit_calibration(0.1 * scores + 0.6, is_target, p_target=p_target)
        llrs = found.log_likelihood_ratio(0.1 * scores + 0.6)
        np.testing.assert_allclose(llrs, 2 * scores - 2, atol=0.15)


def test_calibration_repairs_cllr_and_actual_cost(rng):
    is_target = rng.random(4000) < 0.3
    scores = 0.5 + 0.1 * rng.normal(size=4000) + 0.2 * is_target
    train, test = np.arange(4000) < 2000, np.arange(4000) >= 2000
    llrs = fit_calibration(scores[train], is_target[train]).log_likelihood_ratio(scores[test])
    assert cllr(scores[test], is_target[test]) > 0.9
    best = min_cllr(scores[test], is_target[test])
    assert cllr(llrs, is_target[test]) == pytest.approx(best, abs=0.03)
    assert act_dcf(llrs, is_target[test], 0.1) == pytest.approx(
        min_dcf(scores[test], is_target[test], 0.1), abs=0.08
    )
    assert equal_error_rate(llrs, is_target[test]) == equal_error_rate(
        scores[test], is_target[test]
    )


def test_fusion_beats_both_systems(rng):
    is_target = rng.random(4000) < 0.5
    systems = rng.normal(size=(4000, 2)) + 1.5 * is_target[:, None]
    fused = fit_calibration(systems, is_target)
    assert fused.num_systems == 2
    eer = equal_error_rate(fused.log_likelihood_ratio(systems), is_target)
    assert eer < 0.9 * min(equal_error_rate(system, is_target) for system in systems.T)


def test_quality_measures_help_when_they_tell_something(rng):
    is_target = rng.random(4000) < 0.5
    quality = rng.normal(size=4000)
    scores = 2.0 * is_target + rng.normal(size=4000) + 2 * quality
    with_quality = fit_calibration(scores, is_target, quality={"duration_low": quality})
    assert with_quality.quality == ("duration_low",)
    llrs = with_quality.log_likelihood_ratio(scores, quality[:, None])
    assert equal_error_rate(llrs, is_target) < 0.7 * equal_error_rate(scores, is_target)
    with pytest.raises(InputError, match="expects 1 systems and the quality"):
        with_quality.log_likelihood_ratio(scores)


def test_separable_trials_give_finite_weights():
    found = fit_calibration(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    assert np.isfinite([*found.weights, found.bias]).all()
    assert found.weights[0] > 0


def test_probability_is_bayes_rule():
    calibration = Calibration((2.0,), -1.0)
    assert calibration.probability(0.0, 0.01) == pytest.approx(0.01)
    assert calibration.probability(np.log(99), 0.01) == pytest.approx(0.5)


def test_threshold_is_where_the_ratio_meets_the_prior():
    calibration, point = Calibration((4.0,), -1.0), OperatingPoint(0.01, 10, 1)
    raw = calibration.threshold(point)
    assert calibration.log_likelihood_ratio(raw) == pytest.approx(point.bayes_threshold)


def test_a_single_score_gives_a_single_ratio():
    assert Calibration((2.0,), -1.0).log_likelihood_ratio(0.75) == pytest.approx(0.5)
    assert Calibration((2.0,), -1.0).log_likelihood_ratio(np.ones(3)).shape == (3,)


def test_save_and_load(tmp_path, gaussian_scores):
    found = fit_calibration(*gaussian_scores(2.0, 50, 80), p_target=0.05)
    save_calibration(tmp_path / "calibration.json", found)
    assert load_calibration(tmp_path / "calibration.json") == found
    assert found.num_target == 50


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"weights": [1]}', "null"),
        "[" * 100_000,
        '{"weights":' * 100_000,
        '{"weights": [1%s], "bias": 0, "quality": [], "p_target": 0.5, "num_target": 1, '
        '"num_nontarget": 1}' % ("0" * 400),
        '{"weights": [1], "bias": 0, "quality": [], "p_target": 7, "num_target": 1, '
        '"num_nontarget": 1}',
        '{"weights": [], "bias": 0, "quality": [], "p_target": 0.5, "num_target": 1, '
        '"num_nontarget": 1}',
    ],
    ids=lambda text: text[:12],
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no calibration"):
        load_calibration(path)


def test_infinite_weights_are_refused(tmp_path):
    path = tmp_path / "calibration.json"
    save_calibration(path, Calibration((1.0,), 0.0))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bias": float("nan")}))
    with pytest.raises(InputError, match="not finite"):
        load_calibration(path)


def test_reversed_scores_are_warned_of(gaussian_scores, caplog):
    scores, is_target = gaussian_scores(2.0, 100, 100)
    with caplog.at_level(logging.WARNING):
        fit_calibration(-scores, is_target)
    assert "negative weight" in caplog.text


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.5, 0.5], [1, 0], "system 1 is the same"),
        ([0.5, 0.6], [1, 1], "2 target and 0 non-target"),
        ([0.5, np.nan], [1, 0], "1 of 2 scores are NaN"),
    ],
)
def test_untrainable_scores_are_refused(scores, labels, message):
    with pytest.raises(InputError, match=message):
        fit_calibration(np.array(scores), np.array(labels))


def test_fusion_goes_by_names_not_by_order(rng):
    """On 0.1.0 `fuse b a` after `calibrate a b` gave 17.4 instead of 3.8 % EER without a word."""
    is_target = rng.random(3000) < 0.5
    trials = Trials.from_ids([f"e{n}" for n in range(3000)], ["t"] * 3000, is_target)
    good = rng.normal(size=3000) + 3 * is_target
    systems = {"a": good, "b": 40 * rng.normal(size=3000) + 5 * is_target}
    found, ratios = calibrate(trials, systems)
    assert found.systems == ("a", "b")
    swapped = {"b": systems["b"], "a": systems["a"]}
    np.testing.assert_array_equal(fuse(found, trials, swapped), ratios)
    with pytest.raises(InputError, match=r"of 2 systems \(a, b\), not of a, c\. .* a=FILE b=FILE"):
        fuse(found, trials, {"a": good, "c": good})
    with pytest.raises(InputError, match=r"of 2 systems \(a, b\), not of a\."):
        fuse(found, trials, {"a": good})


def test_a_calibration_of_one_system_takes_any_name(rng):
    is_target = np.arange(100) < 50
    trials = Trials.from_ids([f"e{n}" for n in range(100)], ["t"] * 100, is_target)
    scores = rng.normal(size=100) + is_target
    found, ratios = calibrate(trials, {"dev": scores})
    np.testing.assert_array_equal(fuse(found, trials, {"eval": scores}), ratios)


def test_files_without_names_of_systems_are_read(tmp_path, caplog):
    path = tmp_path / "calibration.json"
    save_calibration(path, Calibration((1.0, 2.0), 0.0))
    values = json.loads(path.read_text())
    del values["systems"]
    path.write_text(json.dumps(values))
    trials = Trials.from_ids("a", "b")
    old = load_calibration(path)
    assert fuse(old, trials, {"x": np.ones(1), "y": np.ones(1)}).tolist() == [3.0]
    assert "names no systems" in caplog.text
