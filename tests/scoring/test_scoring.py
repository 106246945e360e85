from dataclasses import replace

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring import scoring
from speakervlad.scoring.scoring import (
    cosine_scores,
    score,
    speaker_means,
    subtract_mean,
)
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings


@pytest.fixture
def table(rng):
    return Embeddings(np.array([f"u{n}" for n in range(30)]), rng.normal(size=(30, 16)))


@pytest.fixture
def trials(rng):
    sides = [[f"u{n}" for n in rng.integers(30, size=100)] for _ in range(2)]
    return Trials.from_ids(*sides)


@pytest.mark.parametrize("block", [7, 100, 8192])
def test_equals_the_definition_whatever_the_block(monkeypatch, table, trials, block):
    monkeypatch.setattr(scoring, "BLOCK", block)
    rows = {name: vector for name, vector in zip(table.ids, table.vectors, strict=True)}
    expected = [
        rows[a] @ rows[b] / np.linalg.norm(rows[a]) / np.linalg.norm(rows[b])
        for a, b in zip(trials.enrol_ids, trials.test_ids, strict=True)
    ]
    np.testing.assert_allclose(cosine_scores(table, trials), expected, atol=1e-6)


def test_length_of_the_vectors_does_not_matter(table, trials):
    longer = Embeddings(table.ids, 7 * table.vectors)
    np.testing.assert_allclose(
        cosine_scores(longer, trials), cosine_scores(table, trials), atol=1e-6
    )


def test_zero_vectors_are_named(table, trials):
    vectors = table.vectors.copy()
    vectors[3] = 0
    with pytest.raises(InputError, match="1 embeddings are all zeros: u3"):
        cosine_scores(Embeddings(table.ids, vectors), trials)


def test_unknown_utterances_are_counted(table):
    with pytest.raises(InputError, match="2 of 3 utterances have no embedding: x, y"):
        cosine_scores(table, Trials.from_ids(["u0", "u0"], ["x", "y"]))


def test_other_encoders_are_refused_and_unknown_ones_warned_of(table, trials, rng, caplog):
    cohort = Embeddings(np.array([f"c{n}" for n in range(9)]), rng.normal(size=(9, 16)))
    known, same = replace(table, encoder="1f3a"), replace(cohort, encoder="1f3a")
    np.testing.assert_array_equal(
        score(trials, known, cohort=same, top=5), score(trials, table, cohort=cohort, top=5)
    )
    with pytest.raises(InputError, match="different encoders: embeddings of 1f3a, cohort of 77"):
        score(trials, known, cohort=replace(cohort, encoder="77"), top=5)
    with pytest.raises(InputError, match="different encoders: embeddings of 1f3a, mean of 77"):
        score(trials, known, mean_of=replace(cohort, encoder="77"))
    caplog.clear()
    score(trials, known, cohort=cohort, mean_of=same, top=5)
    told = [line for line in caplog.messages if "does not say which encoder" in line]
    assert len(told) == 1
    assert told[0].startswith("cohort: ")
    caplog.clear()
    score(trials, table)
    assert "which encoder" not in caplog.text


def test_derived_embeddings_keep_their_encoder(table):
    known = replace(table, encoder="1f3a")
    assert subtract_mean(known, known).encoder == "1f3a"
    assert speaker_means(known, np.repeat(["a", "b"], 15)).encoder == "1f3a"
