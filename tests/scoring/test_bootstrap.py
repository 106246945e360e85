import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.bootstrap import (
    RankedTrials,
    compare_systems,
    trial_weights,
    with_intervals,
)
from speakervlad.scoring.metrics import all_figures, error_curve, verification_report
from speakervlad.scoring.speakers import TrialSpeakers


def simulated_list(rng, num_speakers, spread=0.7, num_target=10, num_nontarget=20):
    """Scores with an effect of every speaker, so that trials of one speaker are alike."""
    enrol = np.repeat(np.arange(num_speakers), num_target + num_nontarget)
    is_target = np.tile(np.arange(num_target + num_nontarget) < num_target, num_speakers)
    other = (enrol + rng.integers(1, num_speakers, size=len(enrol))) % num_speakers
    test = np.where(is_target, enrol, other)
    ease, impostor = rng.normal(0, spread, num_speakers), rng.normal(0, spread, num_speakers)
    effect = np.where(is_target, ease[enrol], (impostor[enrol] + impostor[test]) / np.sqrt(2))
    scores = 3.0 * is_target + effect + rng.normal(0, np.sqrt(1 - spread**2), len(enrol))
    return scores, is_target, TrialSpeakers(enrol, test, num_speakers)


def test_weights_are_repeated_trials(rng):
    scores, is_target, _ = simulated_list(rng, 8)
    weights = rng.integers(0, 3, len(scores))
    repeated = error_curve(np.repeat(scores, weights), np.repeat(is_target, weights))
    weighted = RankedTrials(scores, is_target).curve(weights.astype(float))
    expected, found = all_figures(repeated), all_figures(weighted)
    assert found == pytest.approx(expected)


def test_weights_come_from_the_speakers(rng):
    _, is_target, speakers = simulated_list(rng, 6)
    for weights in trial_weights(speakers, is_target, 20, seed=3):
        counts = np.zeros(6)
        for speaker in range(6):
            counts[speaker] = weights[is_target & (speakers.enrol == speaker)][0]
        assert counts.sum() == 6
        expected = counts[speakers.enrol] * np.where(is_target, 1, counts[speakers.test])
        np.testing.assert_array_equal(weights, expected)


def test_same_seed_same_intervals(rng):
    scores, is_target, speakers = simulated_list(rng, 10)
    report = verification_report(scores, is_target)
    first, again, other = (
        with_intervals(report, scores, is_target, speakers, num_resamples=30, seed=seed).intervals
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_intervals_hold_the_figures_and_widen_with_confidence(rng):
    scores, is_target, speakers = simulated_list(rng, 40)
    report = verification_report(scores, is_target)
    narrow, wide = (
        with_intervals(
            report, scores, is_target, speakers, num_resamples=200, confidence=confidence
        )
        for confidence in (0.5, 0.95)
    )
    assert wide.confidence == 0.95
    low, high = wide.intervals["eer"]
    assert low < report.eer < high
    assert high - low > narrow.intervals["eer"][1] - narrow.intervals["eer"][0]
    fixed = {name for name in wide.intervals if name.startswith("frr")}
    assert fixed == {f"frr at far {rate}" for rate in report.frr_at_far}


def test_coverage_of_the_true_eer():
    """Speakers matter: their resampling covers the truth about as often as it says."""
    truth_scores, truth_labels, _ = simulated_list(np.random.default_rng(0), 1000)
    truth = all_figures(error_curve(truth_scores, truth_labels))["eer"]
    covered = []
    for repetition in range(40):
        rng = np.random.default_rng((5, repetition))
        scores, is_target, speakers = simulated_list(rng, 30)
        report = verification_report(scores, is_target)
        report = with_intervals(
            report, scores, is_target, speakers, num_resamples=80, confidence=0.9
        )
        low, high = report.intervals["eer"]
        covered.append(low <= truth <= high)
    assert 0.75 <= np.mean(covered) <= 0.99


def test_a_system_does_not_differ_from_itself(rng):
    scores, is_target, speakers = simulated_list(rng, 20)
    result = compare_systems(scores, 2 * scores, is_target, speakers, num_resamples=50)["eer"]
    assert result.difference == 0
    assert result.interval == (0, 0)
    assert result.p_value == 1


def test_pairing_shows_what_single_intervals_hide(rng):
    scores, is_target, speakers = simulated_list(rng, 40)
    worse = scores + rng.normal(0, 0.6, len(scores))
    result = compare_systems(scores, worse, is_target, speakers, num_resamples=200)["eer"]
    assert result.difference == pytest.approx(result.second - result.first)
    assert result.interval[0] > 0
    assert result.p_value < 0.05
    report = verification_report(scores, is_target)
    alone = with_intervals(report, scores, is_target, speakers, num_resamples=200)
    low, high = alone.intervals["eer"]
    assert result.interval[1] - result.interval[0] < high - low


def test_rates_finer_than_a_trial_are_not_compared(rng):
    scores, is_target, speakers = simulated_list(rng, 10)
    found = compare_systems(scores, scores, is_target, speakers, num_resamples=5)
    reported = verification_report(scores, is_target).frr_at_far
    assert list(reported) == ["0.01"]
    assert [name for name in found if name.startswith("frr")] == ["frr at far 0.01"]


def test_too_few_speakers_are_refused(rng):
    scores, is_target, speakers = simulated_list(rng, 4)
    with pytest.raises(InputError, match="4 speakers are too few"):
        compare_systems(scores, scores, is_target, speakers)
