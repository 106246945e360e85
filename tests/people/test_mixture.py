"""Two voices in one recording: found, with their times, in the pass that makes its sums."""

import numpy as np
import pytest

from speakervlad import Recording, examples, load_encoder
from speakervlad.people.mixture import Frames, find_mixture, listen


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


def heard_in(encoder, recording):
    return find_mixture(listen(encoder.frames, recording)[1], encoder.thresholds.eer)


def samples(*names):
    waves = [Recording(examples()[name]).whole for name in names]
    return np.concatenate([wave.read(0, wave.num_samples) for wave in waves])


@pytest.mark.parametrize("speech_only", [False, True])
@pytest.mark.parametrize("pair", [("alex-1", "kim-1"), ("jo-1", "sam-1"), ("robin-1", "alex-2")])
def test_two_people_in_a_recording_are_found_with_their_times(encoder, pair, speech_only):
    joint = len(samples(pair[0])) / 16000
    found = heard_in(encoder, Recording(samples(*pair), speech_only=speech_only))
    first, second = found.spans
    assert found.cosine < encoder.thresholds.eer
    assert max(end for _, end in first) == pytest.approx(joint, abs=1.5)
    assert max(end for _, end in second) > joint + 2
    assert sum(end - max(begin, joint) for begin, end in second if end > joint) > 2
    assert "two voices, one at" in found.words


@pytest.mark.parametrize("name", sorted(examples()))
def test_one_person_is_one_voice(encoder, name):
    assert heard_in(encoder, Recording(examples()[name])) is None


def test_several_recordings_of_one_person_are_one_voice(encoder):
    assert heard_in(encoder, Recording(samples("kim-1", "kim-2", "kim-3"))) is None


@pytest.mark.parametrize("speech_only", [False, True])
@pytest.mark.parametrize("name", ["kim-3", "sam-1"])
def test_its_sums_are_those_of_the_encoder_bit_for_bit(encoder, name, speech_only):
    recording = Recording(examples()[name], speech_only=speech_only)
    np.testing.assert_array_equal(
        encoder.finish(listen(encoder.frames, recording)[0]), encoder.embed(recording)
    )


def test_frames_lie_where_somebody_speaks(encoder):
    for speech_only in (False, True):
        recording = Recording(examples()["kim-2"], speech_only=speech_only)
        frames = listen(encoder.frames, recording)[1]
        spans = recording.speech.spans / 16000
        inside = [((spans[:, 0] - 0.02 <= t) & (t <= spans[:, 1])).any() for t in frames.times]
        assert all(inside)
        assert len(frames.times) * frames.step == pytest.approx(
            float((spans[:, 1] - spans[:, 0]).sum()), abs=0.1 * len(spans)
        )
        assert (np.diff(frames.times) > 0).all()


def test_hours_are_looked_at_in_so_many_windows(encoder):
    frames = listen(encoder.frames, Recording(examples()["kim-2"]))[1]
    copies = 20_000 // len(frames.times)
    long = Frames(
        frames.encoder,
        np.tile(frames.descriptors, copies),
        np.tile(frames.weights, copies),
        np.arange(copies * len(frames.times)) * frames.step,
        frames.step,
    )
    assert find_mixture(long, encoder.thresholds.eer) is None


def test_nothing_is_looked_for_where_no_threshold_is_known(encoder):
    frames = listen(encoder.frames, Recording(samples("alex-1", "kim-1")))[1]
    assert find_mixture(frames, -1.0) is None


def test_the_case_of_two_voices(encoder, shared_cases):
    found = heard_in(encoder, Recording(shared_cases / "two_voices.opus"))
    assert found is not None
    assert found.spans[0][0][1] == pytest.approx(found.spans[1][0][0], abs=1)
