"""Names that come with the speech: who of a store speaks in a stream."""

import numpy as np
import pytest

from speakervlad import PeopleStore, examples, load_audio, load_encoder
from speakervlad.errors import InputError
from speakervlad.people.live import threshold_for

RATE = 16000


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("small")


@pytest.fixture
def store(encoder, tmp_path):
    """Alex and Jo are enrolled, Sam is not."""
    with PeopleStore(tmp_path / "people.db", encoder) as people:
        for name in ("alex", "jo"):
            people.add(name, [examples()[f"{name}-1"]])
        yield people


@pytest.fixture(scope="module")
def talk():
    """Alex, Jo and Sam one after the other, without a pause, and when each begins."""
    parts = [load_audio(examples()[name]) for name in ("alex-2", "jo-2", "sam-1")]
    begins = np.cumsum([0, *map(len, parts)])[:-1] / RATE
    return np.concatenate(parts), begins


def test_people_are_named_as_they_speak_and_strangers_stay_unknown(store, talk, in_pieces):
    samples, begins = talk
    answers = in_pieces(store.listen(), samples, 1600)
    new = [answer for answer in answers if answer.is_new]
    assert [answer.name for answer in new] == ["alex", "jo", None]
    for answer, begin in zip(new, begins, strict=True):
        # Speech begins up to 1.3 s behind the begin of a file.
        assert begin - 0.6 < answer.start < begin + 2.0
        assert answer.end < begin + 4.0
    known = [answer for answer in answers if answer.name]
    assert all(answer.probability > 0.5 for answer in known if answer.is_new)
    assert [answer.end for answer in answers] == sorted(answer.end for answer in answers)


def test_how_samples_are_cut_changes_nothing(store, talk, in_pieces):
    samples, _ = talk
    whole = in_pieces(store.listen(), samples, 10**9)
    assert in_pieces(store.listen(), samples, 160) == whole
    assert in_pieces(store.listen(), samples, 7001) == whole


def test_a_name_does_not_flicker(store, in_pieces):
    samples = np.concatenate([load_audio(examples()[f"alex-{take}"]) for take in (2, 3, 2)])
    answers = in_pieces(store.listen(), samples, 1600)
    assert sum(answer.is_new for answer in answers) == 1


def test_a_stream_that_runs_already_is_listened_to(store, talk, encoder, in_pieces):
    samples, _ = talk
    stream = encoder.stream()
    stream.add(samples[: 2 * RATE])
    listener = store.listen(stream)
    in_pieces(listener, samples[2 * RATE :], 1600)
    assert stream.seconds == len(samples) / RATE
    assert stream.embedding is not None
    with pytest.raises(InputError, match="has ended"):
        listener.add(samples)


def test_other_encoders_and_empty_stores_are_refused(store, encoder, tmp_path):
    with pytest.raises(InputError, match="another encoder"):
        store.listen(load_encoder("default").stream())
    with (
        PeopleStore(tmp_path / "empty.db", encoder) as empty,
        pytest.raises(InputError, match="nobody is enrolled"),
    ):
        empty.listen()


def test_less_speech_needs_a_lower_cosine():
    assert threshold_for(0.6, 5.0) == threshold_for(0.6, 50.0) == pytest.approx(0.558)
    thresholds = [threshold_for(0.6, seconds) for seconds in (0.5, 1.0, 1.5, 3.0, 5.0)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] > 0.4
