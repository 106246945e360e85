"""Channels that are averaged and should not be: a speaker on each side of a call, inversion."""

import logging

import numpy as np
import pytest
import soundfile

from speakervlad.audio.channels import share_of_leads
from speakervlad.audio.reading import read_speech
from speakervlad.audio.spans import load_audio

RATE = 8000


@pytest.fixture
def sides(make_waveform):
    """Two voices that speak by turns of a second, and how much of each comes to the other side."""
    one, other = (make_waveform(6.0, seed=seed, rate=RATE) for seed in (0, 1))
    turn = np.arange(len(one)) // RATE % 2 == 0
    return np.where(turn, one, 0), np.where(turn, 0, other)


@pytest.fixture
def warnings_of(tmp_path, caplog):
    def read(*channels, **options):
        path = tmp_path / "a.wav"
        soundfile.write(path, np.stack(channels, axis=1), RATE)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "speakervlad.audio.channels"):
            read_speech(path, **options)
        return [record.getMessage() for record in caplog.records if "channels" in record.name]

    return read


@pytest.mark.parametrize("crosstalk", [0, 0.1, 0.25])
def test_a_speaker_on_each_side_is_told_once(sides, warnings_of, crosstalk):
    one, other = sides
    noise = 0.002 * np.random.default_rng(0).standard_normal((2, len(one)))
    left, right = one + crosstalk * other + noise[0], other + crosstalk * one + noise[1]
    (said,) = warnings_of(left, right)
    assert "a.wav: its channels are led by turns, as by a speaker on each" in said
    assert "Choose one: --channel 0, or" in said
    assert not warnings_of(left, right, channel=0)
    assert len(warnings_of(left, right, noise[0])) == 1


def test_one_scene_on_several_channels_is_no_call(sides, warnings_of):
    scene = sides[0] + sides[1]
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, len(scene)))
    assert not warnings_of(scene, scene)
    assert not warnings_of(scene + noise[0], 0.2 * scene + noise[1])
    assert not warnings_of(scene, np.zeros_like(scene))
    assert not warnings_of(scene, np.roll(scene, 80))
    # Two speakers in one room, each nearer to one microphone by 6 dB.
    assert not warnings_of(sides[0] + 0.5 * sides[1], 0.5 * sides[0] + sides[1])


def test_inverted_channels_are_told(sides, warnings_of):
    scene = sides[0] + sides[1]
    (said,) = warnings_of(scene, -0.9 * scene)
    assert "cancel each other" in said


def test_the_share_of_leads_counts_active_frames():
    powers = np.array([[1, 0.05], [1, 0.2], [0.05, 1], [1e-6, 1e-9], [0.5, 0.01]])
    np.testing.assert_allclose(share_of_leads(powers), [0.5, 0.25])


def test_a_look_at_the_samples_alone_warns_of_nothing(sides, warnings_of, caplog, tmp_path):
    warnings_of(*sides)
    caplog.clear()
    load_audio(tmp_path / "a.wav")
    assert not caplog.records
