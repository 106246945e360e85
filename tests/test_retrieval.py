"""Figures of retrieval, which recipes/images judges NetVLAD with."""

import doctest
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA


@pytest.fixture(scope="module")
def retrieval(load_script):
    return load_script("recipes/images/retrieval.py")


@pytest.fixture
def vectors():
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(6, 6))
    return 3 + rng.normal(size=(40, 6)) @ mixing, 3 + rng.normal(size=(9, 6)) @ mixing


def test_nearest_are_those_of_a_full_distance_table(retrieval, vectors, monkeypatch):
    database, queries = vectors
    table = np.linalg.norm(queries[:, None] - database, axis=2)
    expected = table.argsort(axis=1)
    np.testing.assert_array_equal(retrieval.nearest(queries, database, 40), expected)
    monkeypatch.setattr(retrieval, "BLOCK_VALUES", 100)
    np.testing.assert_array_equal(retrieval.nearest(queries, database, 5), expected[:, :5])


def test_recall_is_the_share_of_queries_with_a_match_among_the_nearest(retrieval, vectors):
    database, queries = vectors
    matches = np.random.default_rng(5).random((9, 40)) < 0.1
    matches[:, 0] = True
    table = np.linalg.norm(queries[:, None] - database, axis=2)
    for n in (1, 3, 40):
        found = [matches[q, table[q].argsort()[:n]].any() for q in range(9)]
        assert retrieval.recall_at(n, queries, database, matches) == np.mean(found)
    assert retrieval.recall_at(40, queries, database, matches) == 1


@pytest.mark.parametrize("num_dims", [None, 2, 6])
def test_whitening_is_that_of_scikit_learn(retrieval, vectors, num_dims):
    train, others = vectors
    theirs = PCA(num_dims, whiten=True, svd_solver="full").fit(train).transform(others)
    ours = retrieval.whiten(others, train, num_dims)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)
    assert {tuple(signs) for signs in np.sign(ours * theirs)} <= {
        tuple(np.sign(ours[0] * theirs[0]))
    }


def test_whitened_training_vectors_are_uncorrelated(retrieval, vectors):
    train, _ = vectors
    white = retrieval.whiten(train.astype(np.float32), train.astype(np.float32), 4)
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=1e-3)


def test_fewer_training_vectors_than_dimensions(retrieval, vectors):
    train, others = vectors
    assert retrieval.whiten(others, train[:4]).shape == (9, 3)
    with pytest.raises(ValueError, match=r"num_dims=4: train of shape \(4, 6\) determines 1 to 3"):
        retrieval.whiten(others, train[:4], 4)
    with pytest.raises(ValueError, match="varies along fewer axes"):
        retrieval.whiten(others, np.repeat(train[:1], 9, axis=0), 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r, q, d, m: r.recall_at(0, q, d, m), "n=0: must be from 1 to the 40 rows"),
        (lambda r, q, d, m: r.recall_at(41, q, d, m), "n=41"),
        (
            lambda r, q, d, m: r.recall_at(1, q, d[:, :5], m),
            r"\(9, 6\) and database of shape \(40, 5\)",
        ),
        (
            lambda r, q, d, m: r.recall_at(1, q, d, m.T),
            r"matches of shape \(40, 9\): expected 9 queries",
        ),
        (lambda r, q, d, m: r.recall_at(1, q, d, m & False), "9 queries have no match, such as 0"),
        (lambda r, q, d, m: r.recall_at(1, q * np.nan, d, m), r"queries of shape \(9, 6\): .*NaN"),
        (lambda r, q, d, m: r.whiten(q[:0], d), "none empty"),
        (lambda r, q, d, m: r.whiten(q, d * np.inf), r"train of shape \(40, 6\): .*infinite"),
    ],
)
def test_what_does_not_fit_is_named_with_its_shape(retrieval, vectors, call, words):
    database, queries = vectors
    with pytest.raises(ValueError, match=words):
        call(retrieval, queries, database, np.ones((9, 40), bool))


@pytest.mark.parametrize("name", ["recall_at", "whiten"])
def test_the_examples_run(retrieval, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "retrieval", retrieval)
    example = doctest.DocTestParser().get_doctest(
        getattr(retrieval, name).__doc__, {}, name, None, None
    )
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
