"""Voices, the search among them, and thresholds against their definitions."""

import numpy as np
import pytest

from speakervlad.encoder.encoder import load_encoder
from speakervlad.errors import InputError
from speakervlad.people.cohort import Cohort, load_cohort, make_cohort
from speakervlad.people.gallery import Gallery
from speakervlad.people.matching import quantile_of_tail
from speakervlad.people.people import PeopleStore
from speakervlad.people.voices import group
from speakervlad.tables.embeddings import Embeddings


@pytest.fixture
def where(path):
    return path


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_recordings_that_are_far_apart_become_voices_of_their_own(encoder, hear):
    sums = [hear(speaker, take).sums for speaker, take in ((0, 0), (1, 0), (0, 1), (1, 1))]
    vectors = [encoder.finish(each) for each in sums]
    apart = max(vectors[0] @ vectors[1], vectors[2] @ vectors[3]) + 0.01
    groups, voices = group(sums, encoder.finish, apart)
    assert groups == [[0, 2], [1, 3]]
    np.testing.assert_array_equal(voices[0], encoder.finish(sums[0].merge(sums[2])))
    assert len(group(sums, encoder.finish, -1)[1]) == 1


def test_gallery_finds_what_sorting_all_cosines_finds():
    rng = np.random.default_rng(0)
    gallery, known = Gallery(), {}
    for _ in range(40):
        owners = rng.choice(30, size=5, replace=False).repeat(rng.integers(1, 4, 5))
        vectors = unit(rng.standard_normal((len(owners), 8))).astype(np.float32)
        gallery.replace(owners, vectors)
        known |= {owner: vectors[owners == owner] for owner in owners.tolist()}
    queries = unit(rng.standard_normal((70, 8))).astype(np.float32)
    pairs = [(owner, vector) for owner, vectors in known.items() for vector in vectors]
    assert len(gallery) == len(pairs)
    for query, found in zip(queries, gallery.nearest(queries, 4), strict=True):
        expected = sorted(((float(query @ vector), owner) for owner, vector in pairs), reverse=True)
        np.testing.assert_allclose(
            [each.cosine for each in found], [c for c, _ in expected[:4]], atol=1e-6
        )
        assert [each.owner for each in found] == [owner for _, owner in expected[:4]]


def test_tail_is_exact_for_exponential_scores():
    scores = -np.log(1 - (np.arange(200_000) + 0.5) / 200_000)
    for rate in (0.5, 0.1, 0.01, 0.001):
        assert quantile_of_tail(scores, rate) == pytest.approx(-np.log(rate), abs=0.01)


def test_threshold_rises_with_the_store_and_with_stricter_rates(store, hear):
    thresholds = []
    for speaker in range(12):
        store.enrol(f"person {speaker}", [hear(speaker)])
        thresholds.append(store.threshold(0.05))
    assert thresholds[-1] > thresholds[0]
    assert store.threshold(0.01) > store.threshold(0.05) > store.threshold(0.5)
    for rate in (0, 1, -0.1, float("nan")):
        with pytest.raises(InputError, match="fpir"):
            store.threshold(rate)


def test_asked_rate_is_that_of_strangers_from_the_cohorts_population(path, encoder, hear):
    # People and strangers as the cohort is made: the share that is given a name is the asked one.
    rng = np.random.default_rng(3)
    with PeopleStore(path, encoder) as people:
        for speaker in range(20):
            people.enrol(f"person {speaker}", [hear(speaker)])
        cohort = people._matcher.cohort
        gallery = np.concatenate([people.show(each.name).voices for each in people.people()])
        people._matcher.cohort = unit(
            gallery[rng.integers(20, size=2000)] + rng.normal(size=(2000, 12))
        ).astype(np.float32)
        strangers = unit(gallery[rng.integers(20, size=4000)] + rng.normal(size=(4000, 12))).astype(
            np.float32
        )
        named = [answer.name is not None for answer in people.match(strangers, fpir=0.05)]
        people._matcher.cohort = cohort
    assert np.mean(named) <= 0.06


def test_another_process_change_is_seen(where, store, encoder, hear):
    store.enrol("Ada", [hear(0)])
    probe = encoder.finish(hear(1).sums)[None]
    assert store.match(probe)[0].candidates[0].name == "Ada"
    with PeopleStore(where, encoder) as other:
        other.enrol("Bob", [hear(1)])
    assert store.match(probe)[0].candidates[0].name == "Bob"
    with PeopleStore(where, encoder) as other:
        other.forget(["Bob"])
    assert store.match(probe)[0].candidates[0].name == "Ada"


def test_cohort_has_one_recording_a_speaker_from_all_groups(tmp_path, save_tiny_encoder):
    rng = np.random.default_rng(0)
    speakers = np.array([f"s{number // 2:03d}" for number in range(600)])
    groups = np.where(np.arange(600) < 40, "small", "large")
    vectors = unit(rng.standard_normal((600, 12))).astype(np.float32)
    table = Embeddings(np.array([f"u{number}" for number in range(600)]), vectors, encoder="abc")
    cohort = make_cohort(table, speakers, groups, 120)
    assert len(cohort.vectors) == 120
    rows = (cohort.vectors @ vectors.T).argmax(axis=1)
    assert len(set(speakers[rows])) == 120
    assert (groups[rows] == "small").sum() == 20
    folder = save_tiny_encoder(tmp_path / "encoder")
    fingerprint = load_encoder(folder, backend="torch").fingerprint
    cohort.save(folder / "cohort.safetensors")
    with pytest.raises(InputError, match="is of another encoder"):
        load_cohort(folder, fingerprint)
    (folder / "cohort.safetensors").write_bytes(b"no cohort")
    with pytest.raises(InputError, match="no cohort, or damaged"):
        load_cohort(folder, fingerprint)
    with pytest.raises(InputError, match="a cohort of 3 recordings is too small"):
        Cohort("abc", vectors[:3])
