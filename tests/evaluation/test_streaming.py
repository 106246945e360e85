import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.evaluation import streaming
from speakervlad.evaluation.curves import error_curve
from speakervlad.evaluation.metrics import verification_report
from speakervlad.evaluation.score_files import write_scores
from speakervlad.evaluation.streaming import (
    curve_of_sorted,
    stream_arrays,
    stream_score_file,
    streamed_report,
)
from speakervlad.evaluation.trials import Trials


@pytest.fixture(params=[(0.1, 6), (0.5, 6), (0.9, 6), (0.3, 1), (0.5, 0)])
def scored(request, rng):
    share, decimals = request.param
    is_target = rng.random(3000) < share
    scores = np.round(rng.normal(size=3000) + 1.5 * is_target, decimals).astype(np.float32)
    return scores, is_target


@pytest.mark.parametrize("rows", [7, 100, 4_000_000])
def test_equals_the_curve_in_memory(monkeypatch, scored, rows):
    monkeypatch.setattr(streaming, "ROWS_PER_BLOCK", rows)
    scores, is_target = scored
    blocks = [(scores[n::3], is_target[n::3]) for n in range(3)]
    found, expected = streamed_report(blocks), verification_report(scores, is_target)
    for name, value in expected.to_json().items():
        if name not in ("threshold", "frr_at_far", "intervals", "confidence"):
            assert getattr(found, name) == pytest.approx(value, abs=1e-9), name
    assert found.frr_at_far["0.01"]["frr"] == expected.frr_at_far["0.01"]["frr"]
    if len(np.unique(scores)) > 1000:
        assert found.threshold == pytest.approx(expected.threshold, abs=0.02)


def test_corners_only(rng):
    scores = np.concatenate([rng.normal(6, 1, 5000), rng.normal(0, 1, 5000)]).astype(np.float32)
    is_target = np.arange(10_000) < 5000
    curve = curve_of_sorted(np.sort(scores[is_target]), np.sort(scores[~is_target]))
    assert len(curve.thresholds) < 200
    assert len(error_curve(scores, is_target).thresholds) > 9900
    assert (np.diff(curve.false_accept) >= 0).all()
    assert (np.diff(curve.miss) <= 0).all()
    assert (np.diff(curve.thresholds[1:]) <= 0).all()


def test_npy_files(tmp_path, scored):
    scores, is_target = scored
    np.save(tmp_path / "s.npy", scores)
    np.save(tmp_path / "l.npy", is_target.astype(np.int64))
    report = streamed_report(stream_arrays(tmp_path / "s.npy", tmp_path / "l.npy"))
    assert report.eer == pytest.approx(verification_report(scores, is_target).eer)


@pytest.mark.parametrize("labels", [np.array([0, 2, 1]), np.array([0, 1])])
def test_npy_files_that_do_not_fit(tmp_path, labels):
    np.save(tmp_path / "s.npy", np.zeros(3, np.float32))
    np.save(tmp_path / "l.npy", labels)
    with pytest.raises(InputError, match=r"l\.npy"):
        streamed_report(stream_arrays(tmp_path / "s.npy", tmp_path / "l.npy"))


def test_text_file(tmp_path, scored):
    pytest.importorskip("pyarrow")
    scores, is_target = scored
    trials = Trials.from_ids([f"a{n}" for n in range(3000)], ["b"] * 3000, is_target)
    write_scores(tmp_path / "S.txt", trials, scores)
    report = streamed_report(stream_score_file(tmp_path / "S.txt"))
    assert report.eer == pytest.approx(verification_report(scores, is_target).eer)
    assert report.num_target == is_target.sum()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b 0.5 1\na b x 0\n", "expected `enrol test score 1|0`"),
        ("a b 0.5 1\na b 0.5 2\n", "expected `enrol test score 1|0`"),
        ("a b 0.5 1\na b 0.5\n", "expected `enrol test score 1|0`"),
        ("a b 0.5 1\na b nan 0\n", "NaN"),
        ("a b 0.5 1\na b 0.4 1\n", "2 target and 0 non-target"),
    ],
)
def test_bad_text_is_refused(tmp_path, text, message):
    pytest.importorskip("pyarrow")
    (tmp_path / "S.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        streamed_report(stream_score_file(tmp_path / "S.txt"))
    assert message in str(caught.value)
