"""A recording: decoded once, with options of its own; and those that were given beside audio."""

import warnings
from copy import copy

import numpy as np
import pytest
import soundfile

from speakervlad import Recording, Windows, examples, load_encoder, speech
from speakervlad.audio import reading, recording, spans
from speakervlad.audio.on_disk import FileWave, SpooledWave
from speakervlad.audio.recording import each_of, takes_old_options
from speakervlad.diarization.diarize import diarize
from speakervlad.errors import InputError
from speakervlad.people.people import PeopleStore
from speakervlad.verification.verifier import Verifier


@pytest.fixture
def opened(monkeypatch):
    """Paths of the files that were opened, one for each time."""
    found, known = [], reading.open_audio

    def counting(path):
        found.append(path)
        return known(path)

    for module in (reading, spans):
        monkeypatch.setattr(module, "open_audio", counting)
    return found


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("small")


@pytest.fixture
def call(tmp_path, make_waveform):
    """Two channels of different sound."""
    sides = [make_waveform(2.0, seed=seed) for seed in (1, 2)]
    soundfile.write(tmp_path / "call.wav", np.stack(sides, axis=1), 16000, "FLOAT")
    return tmp_path / "call.wav", sides


def samples_of(wave):
    return wave.read(0, wave.num_samples)


def test_a_channel_is_taken_by_option_or_by_name(call):
    path, sides = call
    np.testing.assert_array_equal(samples_of(Recording(path, channel=1).wave), sides[1])
    np.testing.assert_array_equal(samples_of(Recording(f"{path}:1", channel=0).wave), sides[1])
    with pytest.raises(InputError, match="channel 2 asked, has 2"):
        samples_of(Recording(path, channel=2).wave)


def test_it_is_decoded_once_whatever_is_asked(opened, encoder):
    clip = Recording(examples()["alex-1"])
    assert not opened
    one = encoder.embed(clip)
    clip.find_speech()
    assert clip.seconds == clip.whole.num_samples / 16000
    assert clip.speech.num_samples < clip.whole.num_samples
    assert sum(map(len, clip.blocks())) == clip.whole.num_samples
    np.testing.assert_array_equal(encoder.embed(clip), one)
    assert len(opened) == 1


def test_a_conversation_is_decoded_once(opened, encoder, tmp_path, monkeypatch):
    clips = [samples_of(Recording(examples()[name]).whole) for name in ("alex-1", "jo-1")]
    opened.clear()
    path = tmp_path / "talk.ogg"
    soundfile.write(path, np.concatenate(clips), 16000)
    expected = diarize(path, encoder=encoder, min_speakers=2)
    assert len(expected.speakers) == 2
    assert len(opened) == 1
    monkeypatch.setattr(recording, "MEMORY_SECONDS", 1)
    assert diarize(path, encoder=encoder, min_speakers=2).turns == expected.turns
    # The second asks whether the header counts samples.
    assert len(opened) == 3


@pytest.mark.parametrize("name", ["silent.wav", "silent.ogg"])
@pytest.mark.parametrize("memory", [300, 1])
def test_in_silence_nobody_speaks(encoder, tmp_path, monkeypatch, name, memory):
    monkeypatch.setattr(recording, "MEMORY_SECONDS", memory)
    soundfile.write(tmp_path / name, np.zeros(48000), 16000)
    silent = Recording(tmp_path / name)
    silent.decode()
    assert silent.find_speech().seconds == 3
    assert not len(speech(silent))
    assert diarize(silent, encoder=encoder).turns == ()
    with pytest.raises(InputError, match=f"{name}: silent"):
        encoder.embed(silent)


def test_long_recordings_stay_on_disk_and_hear_the_same(tmp_path, monkeypatch):
    clip = samples_of(Recording(examples()["jo-2"]).whole)
    for name in ("long.wav", "long.ogg"):
        soundfile.write(tmp_path / name, clip, 16000)
    known = [Recording(tmp_path / name) for name in ("long.wav", "long.ogg")]
    expected = [each.find_speech() for each in known]
    monkeypatch.setattr(recording, "MEMORY_SECONDS", 1)
    for name, kind, found in zip(
        ("long.wav", "long.ogg"), (FileWave, SpooledWave), expected, strict=True
    ):
        long = Recording(tmp_path / name)
        assert isinstance(long.whole, kind)
        np.testing.assert_array_equal(long.find_speech().spans, found.spans)
        np.testing.assert_array_equal(long.speech.spans, found.spans)
        assert sum(map(len, long.blocks())) == long.whole.num_samples == found.num_samples


def test_lists_let_go_of_what_they_decoded(encoder):
    clips = [Recording(path) for path in list(examples().values())[:3]]
    together = encoder.embed_files(clips)
    for each in each_of(clips):
        each.decode()
    assert all(vars(clip)["_kept"] is None for clip in clips)
    np.testing.assert_allclose(together[0], encoder.embed(clips[0]), atol=1e-6)
    assert clips[0].decode() is copy(clips[0]).decode()


def test_messages_call_it_by_its_name(encoder):
    for audio, why in (
        (np.zeros(16000), "call of Ada: silent"),
        (np.full(16000, np.nan), "call of Ada: some samples are not finite"),
        (b"none", "call of Ada: not an audio file"),
    ):
        with pytest.raises(InputError, match=why):
            encoder.embed(Recording(audio, name="call of Ada"))


def test_a_recording_of_a_recording_is_refused():
    with pytest.raises(InputError, match=r"a\.wav: is a Recording"):
        Recording(Recording("a.wav"), channel=1)


def old_ways(encoder, path, store):
    """Every function that took options of a recording, called as in 0.2.0."""
    options = {"channel": 1, "speech_only": True}
    verifier = Verifier(encoder)
    return {
        "embed": lambda: encoder.embed(path, **options),
        "windows": lambda: encoder.embed_windows(path, Windows(1.0, 0.5), channel=1),
        "enrol": lambda: encoder.enrol([path], **options),
        "sums": lambda: encoder.sums(path, **options),
        "assignments": lambda: encoder.assignments(path, channel=1),
        "and_assign": lambda: encoder.embed_and_assign(path, channel=1),
        "files": lambda: encoder.embed_files([path], **options),
        "each": lambda: encoder.embed_each([path], **options),
        "stream": lambda: list(encoder.embed_stream([path], 1, **options)),
        "verify": lambda: encoder.verify(path, path, channel=1, threshold=0.5),
        "pairs": lambda: list(verifier.verify_pairs([(path, path)], channel=1)),
        "speech": lambda: speech(path, channel=1),
        "diarize": lambda: diarize(path, encoder=encoder, channel=1),
        "add": lambda: store.add("Ada", [path], **options),
        "identify": lambda: store.identify([path], channel=1),
        "hear": lambda: store.hear(path, channel=1),
    }


def test_options_beside_audio_work_as_before_and_are_deprecated(encoder, tmp_path):
    left, right = (samples_of(Recording(examples()[n]).whole)[:40000] for n in ("jo-1", "kim-1"))
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], axis=1), 16000, "FLOAT")
    path = tmp_path / "call.wav"
    with PeopleStore(tmp_path / "people.db", encoder) as store:
        for call in old_ways(encoder, path, store).values():
            with pytest.warns(DeprecationWarning, match=r"Recording\(audio, channel=1"):
                call()
    with pytest.warns(DeprecationWarning, match="options of a recording"):
        old = encoder.embed(path, channel=1, speech_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = encoder.embed(Recording(path, channel=1, speech_only=True))
    np.testing.assert_array_equal(old, new)
    with pytest.warns(DeprecationWarning, match="options of a recording"):
        slow = encoder.embed(left[::2], sample_rate=8000)
    np.testing.assert_array_equal(slow, encoder.embed(Recording(left[::2], sample_rate=8000)))


def test_other_options_are_no_options(encoder):
    with pytest.raises(TypeError, match="chanel"):
        encoder.embed("a.wav", chanel=1)


def test_pairs_share_the_recordings_that_are_named_twice():
    seen = []

    @takes_old_options
    def compare(pairs):
        seen.extend(pairs)

    with pytest.warns(DeprecationWarning, match="options of a recording"):
        compare([("a.wav", "b.wav"), ("a.wav", "c.wav")], channel=1)
    assert seen[0][0] is seen[1][0]
    assert seen[0][0].channel == 1
