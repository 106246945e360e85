import logging

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring import scoring
from speakervlad.scoring.scoring import (
    adaptive_s_norm,
    cosine_scores,
    speaker_means,
    subtract_mean,
)
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings


def unit(rng, prefix, num, dim=8):
    vectors = rng.normal(size=(num, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(np.array([f"{prefix}{row}" for row in range(num)]), vectors)


@pytest.fixture
def table(rng):
    return unit(rng, "u", 9)


@pytest.fixture
def cohort(rng):
    return unit(rng, "c", 25)


@pytest.fixture
def trials():
    return Trials.from_ids(["u0", "u0", "u3", "u8"], ["u1", "u2", "u1", "u7"])


@pytest.mark.parametrize(("top", "used"), [(5, 5), (25, 25), (None, 25)])
@pytest.mark.parametrize("block", [2, 1024])
def test_equals_the_definition(monkeypatch, table, cohort, trials, top, used, block):
    monkeypatch.setattr(scoring, "ROWS_PER_BLOCK", block)
    vectors = dict(zip(table.ids.tolist(), table.vectors.astype(float), strict=True))
    expected = []
    for enrol, test in zip(trials.enrol_ids, trials.test_ids, strict=True):
        score, parts = vectors[enrol] @ vectors[test], []
        for side in (enrol, test):
            nearest = np.sort(cohort.vectors.astype(float) @ vectors[side])[::-1][:used]
            parts.append((score - nearest.mean()) / nearest.std())
        expected.append(sum(parts) / 2)
    result = adaptive_s_norm(table, trials, cohort, top)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-3, atol=1e-3)
    nearest = np.sort(cohort.vectors @ table.vectors[0])[::-1][:used]
    np.testing.assert_allclose(result.enrol_mean[:2], nearest.mean(), rtol=1e-4)


def test_normalisation_removes_nearness_to_everybody(rng):
    """Recordings nearer to what all voices share score higher with anyone; S-norm evens it."""
    shared = rng.normal(size=64)

    def voices(prefix, amount):
        vectors = rng.normal(size=(len(amount), 64)) + np.outer(amount, shared)
        return Embeddings(np.array([f"{prefix}{n}" for n in range(len(amount))]), vectors)

    near = np.arange(60) % 2
    table, cohort = voices("u", 0.5 + near), voices("c", np.ones(300))
    pairs = [(a, b) for a in range(0, 60, 2) for b in range(60) if a != b]
    trials = Trials.from_ids([f"u{a}" for a, _ in pairs], [f"u{b}" for _, b in pairs])
    test_is_near = np.array([near[b] for _, b in pairs]) == 1

    def advantage(scores):
        difference = scores[test_is_near].mean() - scores[~test_is_near].mean()
        return difference / scores[~test_is_near].std()

    assert advantage(cosine_scores(table, trials)) > 1
    assert abs(advantage(adaptive_s_norm(table, trials, cohort, None).scores)) < 0.5


def test_mean_subtraction_moves_the_origin(rng, table):
    other = unit(rng, "o", 30)
    moved = subtract_mean(table, other)
    np.testing.assert_allclose(moved.vectors, table.vectors - other.vectors.mean(0), atol=1e-6)


def test_speaker_means_are_unit_means(rng):
    table = unit(rng, "u", 6)
    speakers = np.array(["b", "a", "b", "a", "b", "c"])
    means = speaker_means(Embeddings(table.ids, 5 * table.vectors), speakers)
    assert means.ids.tolist() == ["a", "b", "c"]
    expected = table.vectors[speakers == "b"].mean(axis=0)
    np.testing.assert_allclose(means.vectors[1], expected / np.linalg.norm(expected), atol=1e-6)


def test_warns_of_test_recordings_in_the_cohort(table, trials, caplog):
    with caplog.at_level(logging.WARNING):
        adaptive_s_norm(table, trials, table, 5)
    assert "6 recordings of the trials are in the cohort" in caplog.text


def test_warns_of_unnormalised_embeddings(table, trials, cohort, caplog):
    with caplog.at_level(logging.WARNING):
        adaptive_s_norm(Embeddings(table.ids, 3 * table.vectors), trials, cohort, 5)
    assert "the embeddings are not length-normalised" in caplog.text


def test_clean_input_warns_of_nothing(table, trials, cohort, caplog):
    with caplog.at_level(logging.WARNING):
        adaptive_s_norm(table, trials, cohort, 5)
    assert not caplog.text


@pytest.mark.parametrize("top", [0, 1, 26])
def test_impossible_cohort_sizes_are_refused(table, trials, cohort, top):
    with pytest.raises(InputError, match=f"top {top} of a cohort of 25"):
        adaptive_s_norm(table, trials, cohort, top)


def test_a_cohort_of_copies_is_refused(table, trials, cohort):
    copies = Embeddings(cohort.ids, np.repeat(cohort.vectors[:1], 25, axis=0))
    with pytest.raises(InputError, match="all alike"):
        adaptive_s_norm(table, trials, copies, 5)


def test_other_dimensions_are_refused(rng, table, trials):
    with pytest.raises(InputError, match="the cohort have 4 dimensions, the embeddings 8"):
        adaptive_s_norm(table, trials, unit(rng, "c", 9, dim=4), 3)
