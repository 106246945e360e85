"""A hundred million scores: read as a stream, kept as float32, judged by the one curve."""

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring import metrics
from speakervlad.scoring.bootstrap import RankedTrials
from speakervlad.scoring.metrics import all_figures, error_curve, verification_report
from speakervlad.scoring.scores import read_long_scores, save_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables import columns as tables


@pytest.fixture(params=[(0.1, 6), (0.5, 6), (0.9, 6), (0.3, 1), (0.5, 0)])
def scored(request, rng):
    share, decimals = request.param
    is_target = rng.random(3000) < share
    scores = np.round(rng.normal(size=3000) + 1.5 * is_target, decimals).astype(np.float32)
    return scores, is_target


@pytest.mark.parametrize("points", [7, 100, 4_000_000])
def test_float32_equals_float64_whatever_the_block(monkeypatch, scored, points):
    monkeypatch.setattr(metrics, "POINTS_PER_BLOCK", points)
    scores, is_target = scored
    found = verification_report(scores, is_target)
    monkeypatch.undo()
    expected = verification_report(scores.astype(np.float64), is_target)
    assert error_curve(scores, is_target).thresholds.dtype == np.float32
    for name, value in expected.to_json().items():
        if name not in ("frr_at_far", "breakdown"):
            assert getattr(found, name) == pytest.approx(value, abs=1e-9), name
    assert found.frr_at_far["0.01"]["frr"] == expected.frr_at_far["0.01"]["frr"]


def test_equals_the_curve_of_weights(scored):
    scores, is_target = scored
    weighted = RankedTrials(scores, is_target).curve(np.ones(len(scores)))
    curve = error_curve(scores, is_target)
    np.testing.assert_array_equal(curve.thresholds, weighted.thresholds)
    np.testing.assert_allclose(curve.false_accept, weighted.false_accept, atol=1e-12)
    np.testing.assert_allclose(curve.miss, weighted.miss, atol=1e-12)


def test_corners_only(rng):
    scores = np.concatenate([rng.normal(6, 1, 5000), rng.normal(0, 1, 5000)]).astype(np.float32)
    curve = error_curve(scores, np.arange(10_000) < 5000)
    corners = curve.corners()
    assert len(corners.thresholds) < 200
    assert len(curve.thresholds) > 9900
    assert (np.diff(corners.false_accept) >= 0).all()
    assert (np.diff(corners.miss) <= 0).all()
    assert (np.diff(corners.thresholds[1:]) <= 0).all()
    rates = np.linspace(0, 1, 10_001)
    for one, other in ((curve, corners),):
        np.testing.assert_array_equal(
            np.interp(rates, one.false_accept, one.miss),
            np.interp(rates, other.false_accept, other.miss),
        )


def test_corners_survive_trials_without_weight(rng):
    """A point that nothing moves at stands twice; the corner there must stay."""
    scores, is_target = np.array([3.0, 2.5, 2.0, 1.0]), np.array([True, True, False, False])
    weighted = RankedTrials(scores, is_target).curve(np.array([1.0, 0.0, 1.0, 0.0]))
    assert weighted.corners().false_accept.tolist() == [0, 0, 1]
    kept = np.array([0, 2])
    expected = all_figures(error_curve(scores[kept], is_target[kept]))
    assert all_figures(weighted) == pytest.approx(expected)


@pytest.mark.parametrize("bytes_per_block", [50, 1 << 22])
def test_text_file(tmp_path, monkeypatch, scored, bytes_per_block):
    monkeypatch.setattr(tables, "BYTES_PER_BLOCK", bytes_per_block)
    scores, is_target = scored
    trials = Trials.from_ids([f"a{n}" for n in range(3000)], ["b"] * 3000, is_target)
    save_scores(tmp_path / "S.txt", trials, scores)
    values, labels = read_long_scores(tmp_path / "S.txt")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, scores)
    np.testing.assert_array_equal(labels, is_target)


@pytest.mark.parametrize("bytes_per_block", [5, 1 << 22])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b 0.5 1\na b x 0\n", "expected `enrol test score [1|0]`"),
        ("a b 0.5 1\na b 0.5 2\n", "expected `enrol test score [1|0]`"),
        ("a b 0.5 1\na b 0.5\n", "line 2: 3 columns where line 1 has 4"),
        ("a b 0.5 1\na b nan 0\n", "NaN"),
        ("a b 0.5 1\na b 0.4 1\n", "2 target and 0 non-target"),
        ("a b 0.5\na b 0.4\n", "no labels"),
    ],
)
def test_bad_text_is_refused(tmp_path, monkeypatch, text, message, bytes_per_block):
    monkeypatch.setattr(tables, "BYTES_PER_BLOCK", bytes_per_block)
    (tmp_path / "S.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        verification_report(*read_long_scores(tmp_path / "S.txt"))
    assert message in str(caught.value)
