"""Half seconds of speech whose sums add up to those of any window."""

import numpy as np
import pytest

from speakervlad import examples, load_audio, load_encoder
from speakervlad.audio.waves import SampleWave
from speakervlad.encoder.hops import HOP, WINDOW, Hops, last_sums

RATE = 16000


@pytest.fixture(scope="module", params=["small", "default"])
def encoder(request):
    return load_encoder(request.param)


@pytest.fixture(scope="module")
def samples():
    return load_audio(examples()["alex-2"])[RATE : RATE + round(WINDOW * RATE)]


def test_the_last_frames_and_those_before_are_all(encoder, samples):
    frames = encoder.frames
    whole = last_sums(frames, samples, len(samples))
    last = last_sums(frames, samples, RATE // 2)
    assert whole.num_frames == frames.ends.grid.num_frames(len(samples))
    share = last.num_frames / whole.num_frames
    assert share == pytest.approx(1 / 3, abs=0.1)
    found = [np.concatenate(each, axis=1) for each in zip(
        *frames.frames_of(SampleWave(samples), mirror=False), strict=True)]  # fmt: skip
    by_hand = (
        type(whole).empty(frames.ends.pooling).add(*(each[:, -last.num_frames :] for each in found))
    )
    np.testing.assert_allclose(last.row(), by_hand.row(), rtol=1e-9, atol=1e-9)


def test_hops_are_of_half_a_second_and_begin_behind_pauses(encoder):
    talk = [load_audio(examples()[name]) for name in ("alex-2", "jo-2")]
    samples = np.concatenate([talk[0], np.zeros(RATE, np.float32), talk[1]])
    stream = encoder.stream()
    hops = Hops(encoder.frames, stream)
    found = [*hops.add(samples), *hops.finish()]
    assert found[0].begins
    assert any(hop.begins and hop.start > len(talk[0]) / RATE for hop in found)
    assert max(hop.seconds for hop in found) == HOP
    assert sum(hop.seconds for hop in found) == pytest.approx(stream.speech_seconds, abs=1.0)
    together = found[0].sums
    for hop in found[1:]:
        together = together.merge(hop.sums)
    alike = encoder.finish(together) @ encoder.finish(stream.sums)
    # Half seconds are heard with a second before them, not with all of a piece.
    assert alike > 0.7
