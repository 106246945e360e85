"""Speech is found where it is, whatever surrounds it and however it arrives."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from speakervlad import Windows, load_encoder, speech
from speakervlad.audio.recording import Recording
from speakervlad.audio.speech import SpeechFinder, speech_spans
from speakervlad.audio.waves import SampleWave, SpeechWave
from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.errors import InputError

RATE = 16000
# Where a voice speaks in the recording of the fixture, in seconds.
SPOKEN = np.array([[1.0, 3.5], [5.0, 6.5], [7.5, 9.0]])
SECONDS = 10.0


@pytest.fixture(scope="module")
def recording():
    rng = np.random.default_rng(0)
    samples = 1e-3 * rng.standard_normal(round(SECONDS * RATE))
    voice = Voice.draw(np.random.default_rng(1))
    for begin, end in SPOKEN:
        said = synthesise(voice, rng, end - begin)
        first = round(begin * RATE)
        samples[first : first + len(said)] += 0.3 * said / np.abs(said).max()
    return samples.astype(np.float32)


@pytest.fixture
def file(recording, tmp_path):
    soundfile.write(tmp_path / "a.wav", recording, RATE)
    return tmp_path / "a.wav"


def active(segments):
    """Whether somebody speaks, every 10 ms."""
    moments = np.arange(0, SECONDS, 0.01) + 0.005
    return ((segments[:, :1] <= moments) & (moments < segments[:, 1:])).any(axis=0)


def test_segments_lie_where_somebody_speaks(recording):
    segments = speech(recording)
    assert segments.dtype == np.float64
    assert (np.diff(segments.ravel()) > 0).all()
    assert (active(segments) != active(SPOKEN)).mean() < 0.08
    outside = ~active(SPOKEN + np.array([-0.15, 0.15]))
    assert not (active(segments) & outside).any()


def test_a_file_its_content_and_other_rates_give_the_same(recording, file):
    segments = speech(recording)
    for audio in (file, str(file), file.read_bytes(), file.open("rb")):
        np.testing.assert_allclose(speech(audio), segments, atol=0.05)
    slower = speech(Recording(recording[::2], sample_rate=8000))
    assert (active(slower) != active(segments)).mean() < 0.05


@pytest.mark.parametrize(
    "sound",
    [
        lambda rng, time: 0 * time,
        lambda rng, time: 0 * time + 0.1,
        lambda rng, time: rng.choice([-1, 1], len(time)) / 32768,
        lambda rng, time: 0.05 * rng.standard_normal(len(time)),
        lambda rng, time: np.cumsum(rng.standard_normal(len(time))) / 1000,
        lambda rng, time: 0.3 * np.sin(2 * np.pi * 440 * time),
        lambda rng, time: 0.3 * np.sign(np.sin(2 * np.pi * 50 * time)),
    ],
    ids=["zeros", "constant", "one bit", "white noise", "brown noise", "tone", "hum"],
)
def test_nobody_speaks_where_nobody_does(sound):
    samples = sound(np.random.default_rng(0), np.arange(5 * RATE) / RATE)
    assert speech(np.clip(samples, -1, 1).astype(np.float32)).shape == (0, 2)


def test_channel_is_the_one_asked_for(recording, tmp_path):
    path = tmp_path / "stereo.flac"
    soundfile.write(path, np.stack([0 * recording, recording], axis=1), RATE)
    assert len(speech(Recording(path, channel=0))) == 0
    assert len(speech(Recording(path, channel=1))) >= len(SPOKEN)


@pytest.mark.parametrize("sizes", [(1, 100), (2000, 30000), (70000, 150000)])
def test_how_samples_arrive_changes_nothing(recording, sizes):
    whole = list(speech_spans([recording]))
    finder, rng, arrived, found = SpeechFinder(), np.random.default_rng(0), 0, []
    early = recording[: round(SECONDS / 2 * RATE)] if sizes[0] == 1 else recording
    while arrived < len(early):
        block = early[arrived : arrived + rng.integers(*sizes)]
        found += finder.add(block)
        arrived += len(block)
    assert found == whole[: len(found)]
    assert len(found) >= 1
    if early is recording:
        assert [*found, *finder.finish()] == whole
        assert finder.num_samples == len(recording)


def test_speech_at_the_end_and_shorter_than_a_frame(recording):
    cut = recording[: 3 * RATE]
    assert speech(cut)[-1, 1] == 3.0
    assert speech(cut[:400]).shape == (0, 2)


def test_memory_does_not_grow_with_the_recording(recording):
    tracemalloc.start()
    spans = list(speech_spans(recording for _ in range(20)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(spans) >= 40
    assert peak < 4 * recording.nbytes


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ([], "holds no samples"),
        (np.zeros((2, 400), np.float32), "one dimension"),
        (np.full(400, np.nan), "not finite"),
        (b"none", "not an audio file"),
        ("missing.wav", "missing.wav: no such file"),
    ],
)
def test_what_is_no_audio_is_refused(audio, message):
    with pytest.raises(InputError, match=message):
        speech(audio)


def test_speech_of_a_wave_is_its_spans_one_behind_the_other(recording):
    spans = [(100, 5000), (5000, 5001), (20000, 60000)]
    wave = SpeechWave(SampleWave(recording), spans)
    whole = np.concatenate([recording[start:stop] for start, stop in spans])
    assert wave.num_samples == len(whole)
    for start, stop in ((0, len(whole)), (0, 1), (4899, 4902), (4900, 4900), (4000, 30000)):
        np.testing.assert_array_equal(wave.read(start, stop), whole[start:stop])


def test_speech_only_leaves_out_the_rest(recording, file):
    wave = Recording(file, speech_only=True).wave
    lengths = np.diff(speech(file), axis=1)
    assert wave.num_samples == round(lengths.sum() * RATE)
    silence = 1e-3 * np.random.default_rng(1).standard_normal(2 * RATE)
    quiet = Recording(silence.astype(np.float32), speech_only=True)
    with pytest.raises(InputError, match=r"audio: 0\.00 s of speech found in 2\.00 s"):
        quiet.wave.read(0, 1)


def test_speech_only_is_what_is_embedded_at_every_door(recording, file):
    encoder = load_encoder("small")
    spoken = Recording(file, speech_only=True)
    wave = spoken.wave
    alone = encoder.embed(wave.read(0, wave.num_samples))
    for found in (
        encoder.embed(spoken),
        encoder.enrol([spoken]),
        encoder.finish(encoder.sums(spoken)),
        encoder.embed_files([spoken])[0],
    ):
        np.testing.assert_allclose(found, alone, atol=1e-5)
    assert encoder.embed(file) @ alone < 0.999


def test_windows_of_speech_are_those_in_which_somebody_speaks(file):
    encoder, windows = load_encoder("small"), Windows(0.5, 0.25)
    whole = encoder.embed_windows(file, windows)
    found = encoder.embed_windows(Recording(file, speech_only=True), windows)
    assert found.seconds == SECONDS
    told = np.array([active(span[None] + [-1e-9, 0]) for span in whole.spans])
    kept = (told & active(speech(file))).sum(axis=1) >= 25
    np.testing.assert_array_equal(found.spans, whole.spans[kept])
    np.testing.assert_array_equal(found.vectors, whole.vectors[kept])
