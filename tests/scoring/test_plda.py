"""PLDA against its definition, and its file."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from speakervlad.errors import InputError
from speakervlad.scoring.metrics import verification_report
from speakervlad.scoring.plda import fit_plda, load_plda, save_plda
from speakervlad.scoring.scoring import cosine_scores, score
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings

DIM = 6


def draw(num_speakers, each, seed=0):
    """Speakers that differ along some directions, and sessions that differ more along others."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(DIM, DIM))
    means = rng.normal(size=(num_speakers, DIM)) * [2, 2, 2, 1, 0.2, 0.2]
    vectors = np.repeat(means, each, 0)
    vectors = vectors + rng.normal(size=vectors.shape) * [0.5, 0.5, 0.5, 1, 4, 4]
    return (vectors + 3) @ mixing, np.repeat(np.arange(num_speakers), each)


@pytest.fixture(scope="module")
def model():
    return fit_plda(*draw(400, 5))


def test_scores_are_the_log_likelihood_ratios_of_the_definition(model):
    left, right = (model.project(draw(9, 1, seed)[0]) for seed in (1, 2))
    total, between = np.diag(1 + model.between), np.diag(model.between)
    together = multivariate_normal(
        np.zeros(2 * DIM), np.block([[total, between], [between, total]])
    )
    alone = multivariate_normal(np.zeros(DIM), total)
    expected = together.logpdf(np.hstack([left, right])) - alone.logpdf(left) - alone.logpdf(right)
    np.testing.assert_allclose(model.scores(left, right), expected, rtol=1e-9)


def test_covariances_are_those_of_the_model_where_lengths_do_not_matter(monkeypatch):
    from speakervlad.scoring import plda

    monkeypatch.setattr(plda, "_one_length", lambda vectors: vectors)
    model = fit_plda(*draw(4000, 4), iterations=200)
    expected = np.sort([16, 16, 16, 1, 0.0025, 0.0025])[::-1]
    np.testing.assert_allclose(model.between, expected, rtol=0.1, atol=0.03)
    projected = model.project(draw(3000, 2, seed=5)[0])
    apart = (projected[::2] - projected[1::2]) / np.sqrt(2)
    np.testing.assert_allclose(np.cov(apart.T), np.eye(DIM), atol=0.12)


def table_and_trials(num_speakers=60, each=3):
    vectors, speakers = draw(num_speakers, each, seed=3)
    ids = [f"u{number}" for number in range(len(vectors))]
    pairs = [(a, b) for a in range(len(ids)) for b in range(a)]
    labels = np.array([speakers[a] == speakers[b] for a, b in pairs])
    trials = Trials.from_ids([ids[a] for a, _ in pairs], [ids[b] for _, b in pairs], labels)
    return Embeddings(np.array(ids), vectors), trials


@pytest.mark.parametrize("lda", [None, 4])
def test_plda_beats_the_cosine_where_sessions_differ_along_directions_of_their_own(lda):
    model = fit_plda(*draw(400, 5), lda=lda)
    table, trials = table_and_trials()
    labels = trials.labels()
    ours = verification_report(model.trial_scores(table, trials), labels).eer
    assert ours < verification_report(cosine_scores(table, trials), labels).eer - 0.1


def test_a_model_survives_its_file(model, tmp_path):
    save_plda(tmp_path / "p.npz", model)
    again = load_plda(tmp_path / "p.npz")
    table, trials = table_and_trials(6)
    assert np.array_equal(again.trial_scores(table, trials), model.trial_scores(table, trials))
    assert again.encoder is None


def test_what_is_no_model_is_refused(model, tmp_path):
    np.savez(tmp_path / "p.npz", kind="plda", encoder="", centre=model.centre)
    with pytest.raises(InputError, match=r"p\.npz: holds no PLDA"):
        load_plda(tmp_path / "p.npz")
    arrays = {name: value for name, value in vars(model).items() if name != "encoder"}
    np.savez(tmp_path / "p.npz", kind="plda", encoder="", **(arrays | {"between": -model.between}))
    with pytest.raises(InputError, match="holds no PLDA"):
        load_plda(tmp_path / "p.npz")
    with pytest.raises(InputError, match="PLDA of 6 dimensions, embeddings of 3"):
        model.project(np.zeros((2, 3)))
    with pytest.raises(InputError, match="two speakers or more"):
        fit_plda(np.eye(3), np.arange(3))
    with pytest.raises(InputError, match="LDA to 9 dimensions: choose 1 to 6"):
        fit_plda(*draw(20, 3), lda=9)


def test_score_takes_a_model_instead_of_the_cosine(model):
    table, trials = table_and_trials(6)
    assert np.array_equal(score(trials, table, plda=model), model.trial_scores(table, trials))
    with pytest.raises(InputError, match="PLDA has a mean of its own"):
        score(trials, table, plda=model, cohort=table)
    other = replace(model, encoder="another")
    with pytest.raises(InputError, match="made by different encoders"):
        score(trials, replace(table, encoder="one"), plda=other)
