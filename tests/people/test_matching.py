"""Voices, the search among them, and thresholds against their definitions."""

import numpy as np
import pytest

from speakervlad.encoder.encoder import load_encoder
from speakervlad.errors import InputError
from speakervlad.people.cohort import Cohort, load_cohort, make_cohort
from speakervlad.people.gallery import Gallery
from speakervlad.people.matching import Matcher, quantile_of_tail
from speakervlad.people.people import PeopleStore
from speakervlad.people.records import Header, Match
from speakervlad.people.voices import group
from speakervlad.scoring.calibration import Calibration
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


class Vectors:
    """A store of unit vectors, each a person's, asked as a store is."""

    where = "vectors"

    def __init__(self, names, vectors):
        self.names, self.vectors = names, vectors

    def header(self):
        return Header(None, "", 0, 0, len(self.names))

    def voices(self, count):
        return list(zip(self.names, self.vectors, strict=True))[:count]

    def nearest(self, vectors, count):
        cosines = vectors @ self.vectors.T
        rows = np.argsort(-cosines, axis=1)[:, :count]
        return [
            [Match(self.names[row], float(cosines[query, row]), self.vectors[row]) for row in of_it]
            for query, of_it in enumerate(rows.tolist())
        ]


DIM = 24


@pytest.fixture(scope="module")
def population():
    """``population(people, duplicates)``: a matcher, questions, and who asks them.

    Voices in 24 dimensions; the last of the people are enrolled under a second name too.
    """
    rng = np.random.default_rng(4)
    known = unit(rng.standard_normal((500, DIM)))
    pairs = np.sort((known @ known.T)[np.triu_indices(500, 1)])

    def same_voice(rate):
        return float(np.quantile(pairs, 1 - rate))

    def make(people, duplicates):
        rng = np.random.default_rng(people)
        voices = unit(rng.standard_normal((people, DIM)))

        def takes(rows):
            return unit(voices[rows] + 0.12 * rng.standard_normal((len(rows), DIM)))

        enrolled = [*range(people), *range(duplicates)]
        names = [f"person {row}{'b' * (place >= people)}" for place, row in enumerate(enrolled)]
        asked = np.arange(people).repeat(5)
        store = Vectors(names, takes(enrolled))
        return Matcher(store, known, same_voice=same_voice), takes(asked), asked

    return make


@pytest.mark.parametrize("people", [3, 5, 10, 30, 60])
@pytest.mark.parametrize("duplicates", [1, 2])
def test_one_voice_under_two_names_changes_nothing_for_the_others(population, people, duplicates):
    named = []
    for twice in (0, duplicates):
        matcher, questions, asked = population(people, twice)
        answers = matcher.identify(questions.astype(np.float32), 0.01, 3)
        rest = asked >= duplicates
        right = [answer.name == f"person {row}" for answer, row in zip(answers, asked, strict=True)]
        named.append(np.array(right)[rest].mean())
    assert named[0] > 0.9
    assert named[1] >= named[0] - max(0.02, 1 / rest.sum())


def test_a_few_odd_pairs_do_not_decide_where_no_same_voice_level_is_known(population):
    matcher, _, _ = population(30, 0)
    plain = matcher.threshold(0.01)
    twice, _, _ = population(30, 1)
    twice.same_voice = lambda _: None
    assert abs(twice.threshold(0.01) - plain) < 0.1


@pytest.mark.parametrize("fpir", [0.01, 1e-6, 1e-300])
def test_no_threshold_is_higher_than_a_cosine(population, fpir):
    for people, duplicates in ((2, 2), (6, 1), (30, 3)):
        assert population(people, duplicates)[0].threshold(fpir) <= 1


def test_the_threshold_of_live_speech_is_where_a_person_is_as_probable_as_a_stranger(population):
    matcher, _, _ = population(20, 0)
    assert matcher.live_threshold(0.01) == matcher.threshold(0.01)
    matcher.calibration = Calibration((20.0,), -6.0)
    even = matcher.live_threshold(0.01)
    assert even == pytest.approx((6.0 + np.log(20)) / 20)
    assert even < matcher.threshold(0.01)
    # One who is there is as probable then as that nobody is; half as many may be wrong.
    one = matcher._probabilities(np.array([even]))[0]
    assert one == pytest.approx(0.5)
    assert matcher.live_threshold(0.005) == pytest.approx(even + np.log(2) / 20)
    matcher.calibration = Calibration((1.0,), -6.0)
    assert matcher.live_threshold(0.01) == matcher.threshold(0.01)
