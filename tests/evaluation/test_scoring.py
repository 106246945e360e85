import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.evaluation import scoring
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.lists import Trials
from speakervlad.evaluation.scoring import cosine_scores


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
