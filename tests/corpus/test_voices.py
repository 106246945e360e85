import numpy as np
import pytest
import soundfile

from speakervlad.audio.quality import is_band_limited
from speakervlad.audio.spans import load_audio
from speakervlad.corpus.voices import Channel, Voice, make_corpus, synthesise
from speakervlad.errors import InputError
from speakervlad.progress import tracked_by


def voices(count):
    return [Voice.draw(np.random.default_rng(seed)) for seed in range(count)]


def speech(voice, seconds=2.0, seed=0):
    return synthesise(voice, np.random.default_rng(seed), seconds)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.345])
def test_length_level_and_determinism(seconds):
    voice = voices(1)[0]
    waveform = speech(voice, seconds)
    assert waveform.shape == (round(seconds * 16000),)
    assert waveform.dtype == np.float32
    assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.1, rel=1e-3)
    np.testing.assert_array_equal(waveform, speech(voice, seconds))
    assert not np.array_equal(waveform, speech(voice, seconds, seed=1))


@pytest.mark.parametrize("seed", range(6))
def test_pitch_is_the_speakers(seed):
    """An independent pitch tracker finds the speaker's pitch in the voiced part."""
    import librosa

    voice = voices(seed + 1)[seed]
    track, voiced, _ = librosa.pyin(speech(voice, 3.0), fmin=50, fmax=500, sr=16000)
    assert voiced.mean() > 0.4
    semitones = 12 * np.log2(np.median(track[voiced]) / voice.pitch_hertz)
    assert abs(semitones) < 3.5


def long_term_spectrum(waveform):
    frames = waveform[: len(waveform) // 512 * 512].reshape(-1, 512) * np.hanning(512)
    return np.square(np.abs(np.fft.rfft(frames, axis=1))).mean(axis=0)


def test_spectrum_falls_like_speech_and_fills_the_band():
    for voice in voices(8):
        waveform = speech(voice, 4.0)
        power = long_term_spectrum(waveform)
        low, high = power[3:32].mean(), power[140:240].mean()  # 0.1-1 kHz, 4.4-7.5 kHz
        assert 10 < 10 * np.log10(low / high) < 60
        assert not is_band_limited(waveform)


def test_shorter_tract_moves_the_formants_up():
    from dataclasses import replace

    voice = replace(voices(1)[0], breath=0.5, pause=0.0)
    centroids = []
    for tract in (0.9, 1.2):
        power = long_term_spectrum(speech(replace(voice, tract=tract), 6.0))[3:120]
        centroids.append(np.average(np.arange(3, 120), weights=power))
    assert centroids[1] > 1.1 * centroids[0]


def test_speech_has_pauses_and_loud_vowels():
    waveform = speech(voices(1)[0], 8.0)
    level = np.sqrt(np.mean(waveform[: 8 * 16000].reshape(-1, 320) ** 2, axis=1))
    assert np.mean(level < 0.1 * level.max()) > 0.1
    assert np.mean(level > 0.3 * level.max()) > 0.3


def test_channel_has_its_noise_and_level():
    silence_then_tone = np.zeros(32000, np.float32)
    silence_then_tone[16000:] = np.sin(2 * np.pi * 1000 / 16000 * np.arange(16000))
    flat = Channel(
        gains_db=np.zeros(32),
        reverb_seconds=0.1,
        direct_db=40.0,
        snr_db=20.0,
        noise_slope=0.0,
        level_db=-30.0,
    )
    recorded = flat.apply(silence_then_tone, np.random.default_rng(0))
    assert 10 * np.log10(np.mean(recorded**2)) == pytest.approx(-30, abs=0.2)
    noise, tone = (np.mean(part**2) for part in (recorded[:16000], recorded[16000:]))
    assert 10 * np.log10((tone - noise) / noise) == pytest.approx(23, abs=1)  # half is silence


def test_sessions_differ_in_channel():
    draws = [Channel.draw(np.random.default_rng(seed)) for seed in range(20)]
    assert np.std([draw.gains_db[16] - draw.gains_db[8] for draw in draws]) > 0.5
    assert np.std([draw.snr_db for draw in draws]) > 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return make_corpus(
        folder, num_speakers=2, num_sessions=2, utterances_per_session=2, max_seconds=2.5, seed=7
    )


def test_corpus_layout(corpus):
    assert len(corpus) == 8
    assert corpus.speaker_names == ["speaker000", "speaker001"]
    assert corpus.utterance_ids[3] == "speaker000/session1/001"
    assert corpus.sessions[3] == "speaker000/session1"
    for index in range(8):
        info = soundfile.info(corpus.path(index))
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.frames == corpus.num_samples[index]
        assert 2.0 <= info.duration <= 2.5


def test_corpus_is_the_same_alone_larger_and_in_workers(corpus, tmp_path):
    larger = make_corpus(
        tmp_path,
        num_speakers=4,
        num_sessions=3,
        utterances_per_session=6,
        max_seconds=2.5,
        seed=7,
        num_workers=2,
    )
    for name, index in zip(corpus.utterance_ids, range(8), strict=True):
        row = list(larger.utterance_ids).index(name)
        assert larger.path(row).read_bytes() == corpus.path(index).read_bytes()


def test_other_prefixes_are_other_people(corpus, tmp_path):
    other = make_corpus(
        tmp_path, num_speakers=1, num_sessions=1, utterances_per_session=1, seed=7,
        max_seconds=2.5, speaker_prefix="test",
    )  # fmt: skip
    ours, theirs = load_audio(corpus.path(0)), load_audio(other.path(0))
    size = min(len(ours), len(theirs))
    assert abs(np.corrcoef(ours[:size], theirs[:size])[0, 1]) < 0.5


def test_progress_counts_utterances(tmp_path):
    seen = []

    def track(items, description, total=None):
        for item in items:
            seen.append((description, total))
            yield item

    with tracked_by(track):
        make_corpus(tmp_path, num_speakers=1, num_sessions=1, utterances_per_session=2, seed=0)
    assert seen == [("Generating voices", 2)] * 2


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        make_corpus(tmp_path / "file" / "x", num_speakers=1)
