"""An encoder in miniature, and recordings as its sums, without any audio."""

import hashlib

import numpy as np
import pytest

from speakervlad.inference.engine import load_encoder
from speakervlad.models.sums import PoolingSums
from speakervlad.people.cohort import COHORT_NAME, Cohort
from speakervlad.people.people import Heard, PeopleStore


@pytest.fixture(scope="session")
def encoder(tmp_path_factory, save_tiny_encoder):
    """With random impostors as its cohort."""
    folder = save_tiny_encoder(tmp_path_factory.mktemp("people") / "encoder")
    embedder = load_encoder(folder, backend="torch")
    vectors = np.random.default_rng(9).standard_normal((120, embedder.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    Cohort(embedder.fingerprint, vectors).save(folder / COHORT_NAME)
    return embedder


@pytest.fixture(scope="session")
def hear(encoder):
    """``hear(speaker, take)``: what a recording of somebody would add up to."""
    pooling = encoder.backend.ends.pooling
    clusters, dim = pooling.centers.shape

    def make(speaker, take=0, seconds=3.0):
        voice = np.random.default_rng((1, speaker)).standard_normal((dim, 1))
        rng = np.random.default_rng((2, speaker, take))
        frames = voice + 0.3 * rng.standard_normal((dim, 40))
        weights = np.abs(rng.standard_normal((clusters + pooling.num_clusters, 40)))
        sums = PoolingSums.empty(pooling).add(frames, weights)
        digest = hashlib.sha256(f"{speaker} {take}".encode()).hexdigest()
        return Heard(f"{speaker}-{take}.wav", digest, sums, seconds)

    return make


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.db"


@pytest.fixture
def store(path, encoder):
    with PeopleStore(path, encoder) as people:
        yield people
