"""Recordings of few windows, alike or not, whatever the graph of their neighbours looks like."""

import warnings

import numpy as np
import pytest

from speakervlad import diarize, examples
from speakervlad.diarization.clustering import METHODS, Limits, cluster

# How windows may lie: anywhere, all in one place, in two places, all equally far from each other.
KINDS = {
    "anywhere": lambda rng, count: rng.standard_normal((count, 8)),
    "one place": lambda rng, count: np.ones((count, 8)),
    "two places": lambda rng, count: np.eye(8)[np.arange(count) % 2],
    "equally far": lambda rng, count: np.eye(count),
    "two opposite": lambda rng, count: np.outer((-1.0) ** np.arange(count), np.ones(8)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_windows_is_clustered(kind, method):
    rng = np.random.default_rng(0)
    for count in (*range(1, 13), 19, 20, 40):
        vectors = KINDS[kind](rng, count)
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        for least, most in ((1, 20), (2, 2), (1, 1), (8, 8)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                labels = cluster(
                    vectors, np.full(count, 0.75), Limits(least, most, 0.75), method, spare=3
                )
            assert labels.shape == (count,)
            assert labels.min() >= -1
            assert 0 <= labels.max() < count


def test_every_example_is_diarized(encoder):
    found = {name: diarize(path, encoder=encoder) for name, path in examples().items()}
    assert [name for name, turns in found.items() if len(turns.speakers) != 1] == []
    assert all(turns.speakers for turns in found.values())
