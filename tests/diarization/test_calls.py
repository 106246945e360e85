"""Calls with a speaker on each channel, of which each channel hears the other one too."""

import numpy as np
import pytest
import soundfile

from speakervlad import InputError, Recording, diarization_errors, diarize
from speakervlad.diarization.calls import own_speech
from speakervlad.diarization.turns import Turn, Turns

RATE = 16000


def decibel(value):
    return 10 ** (value / 20)


@pytest.fixture(scope="module")
def talk(make_talk):
    return make_talk("ghghghghgh")


@pytest.fixture(scope="module")
def sides(talk):
    """Two voices that take turns, each alone, (samples, 2), and who speaks when."""
    samples, reference = talk
    both = np.zeros((len(samples), 2), np.float32)
    for start, end, name in reference.turns:
        span = slice(round(start * RATE), round(end * RATE))
        both[span, 0 if name == "g" else 1] = samples[span]
    return both, reference


def with_crosstalk(sides, level, gains=(0, 0), noise=-60):
    rng = np.random.default_rng(0)
    heard = sides + decibel(level) * sides[:, ::-1]
    heard = heard + decibel(noise) * sides.std() * rng.standard_normal(sides.shape)
    return (heard * [decibel(gain) for gain in gains]).astype(np.float32)


def call(tmp_path, samples):
    path = tmp_path / "call.wav"
    soundfile.write(path, samples * (0.9 / np.abs(samples).max()), RATE)
    return path


@pytest.mark.parametrize(
    ("level", "gains"), [(-60, (0, 0)), (-30, (0, 0)), (-16, (0, 0)), (-16, (12, 0)), (-14, (0, 9))]
)
def test_the_louder_channel_has_what_both_hear(level, gains, sides, encoder, tmp_path, caplog):
    samples, reference = sides
    path = call(tmp_path, with_crosstalk(samples, level, gains))
    turns = diarize(path, encoder=encoder, separate=True)
    assert list(turns.speakers) == ["speaker_1", "speaker_2"]
    assert diarization_errors(reference, turns, collar=0.5).der < 0.1
    assert "every turn stands twice" not in caplog.text


def test_who_never_speaks_has_no_turns(sides, encoder, tmp_path):
    samples = sides[0].copy()
    samples[:, 1] = 0
    turns = diarize(call(tmp_path, with_crosstalk(samples, -16)), encoder=encoder, separate=True)
    assert list(turns.speakers) == ["speaker_1"]


def test_two_who_speak_at_once_keep_their_turns(encoder, tmp_path, make_talk):
    one, other = (make_talk(name, turn=5.0)[0] for name in "gh")
    length = max(len(one), len(other)) + 2 * RATE
    both = np.zeros((length, 2), np.float32)
    both[: len(one), 0] = one
    both[2 * RATE : 2 * RATE + len(other), 1] = other
    turns = diarize(call(tmp_path, with_crosstalk(both, -16)), encoder=encoder, separate=True)
    reference = Turns("call", (Turn(0.5, 5.5, "g"), Turn(2.5, 7.5, "h")))
    assert diarization_errors(reference, turns, collar=0.5).der < 0.15


def test_one_scene_by_two_microphones_is_told(talk, encoder, tmp_path, caplog):
    samples, _ = talk
    diarize(call(tmp_path, np.stack([samples, 0.7 * samples], axis=1)), encoder=encoder,
            separate=True)  # fmt: skip
    assert "call.wav: channels 0 and 1 have their speech at the same times" in caplog.text


def test_names_of_the_store_are_those_of_their_own_speech(sides, encoder, tmp_path):
    """What is matched holds nothing of the other side, however loud that is heard."""
    asked = []

    class Store:
        def match(self, vectors, *, fpir, top):
            asked.extend(vectors)
            return [type("Answer", (), {"name": None})]

    path = call(tmp_path, with_crosstalk(sides[0], -16))
    diarize(path, encoder=encoder, separate=True, store=Store())
    alone = call(tmp_path, sides[0])
    for number, vector in enumerate(asked):
        own = encoder.embed(Recording(alone, channel=number, speech_only=True))
        other = encoder.embed(Recording(alone, channel=1 - number, speech_only=True))
        assert vector @ own > vector @ other
        assert vector @ own > 0.85


def test_a_channel_of_a_call_cannot_be_chosen_as_well(sides, encoder, tmp_path):
    path = call(tmp_path, sides[0])
    for audio in (Recording(path, channel=1), f"{path}:1"):
        with pytest.raises(InputError, match="all channels are taken, so none can be chosen"):
            diarize(audio, encoder=encoder, separate=True)


def test_own_speech_by_hand():
    loud, heard = 1.0, decibel(-16) ** 2
    powers = np.full((100, 2), 1e-9)
    powers[10:40] = loud, heard
    powers[60:90] = heard, loud
    spans = [np.array([[1.0, 4.0], [6.0, 9.0]])] * 2
    one, other = own_speech(powers, spans, 0.1)
    assert one.tolist() == [[1.0, 4.0]]
    assert other.tolist() == [[6.0, 9.0]]
    assert own_speech(powers[:0], [np.zeros((0, 2))], 0.1)[0].shape == (0, 2)
    silent = [np.array([[1.0, 4.0]]), np.zeros((0, 2))]
    assert [each.tolist() for each in own_speech(powers, silent, 0.1)] == [[[1.0, 4.0]], []]


def test_recordings_of_any_length_and_number_of_channels():
    rng = np.random.default_rng(0)
    for count in range(15):
        for channels in (1, 2, 3):
            spans = [np.array([[0.0, 0.1 * count]]) if count else np.zeros((0, 2))] * channels
            found = own_speech(rng.random((count, channels)), spans, 0.1)
            assert all(each.shape[1] == 2 for each in found)
            assert channels > 1 or np.array_equal(found[0], spans[0])
