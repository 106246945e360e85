import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from speakervlad.models.frontend import FRONT_ENDS, mel_filters, normalise
from speakervlad.models.spectrogram import Spectrogram

NORMALISATIONS = ("frequency", "none", "time", "time_mean")


def LinearSpectrogram(**options):  # noqa: N802 - a row of the table
    return Spectrogram(FRONT_ENDS["linear"](**options))


def LogMelSpectrogram(num_mels=80, normalise="time_mean"):  # noqa: N802
    return Spectrogram(FRONT_ENDS["log_mel"](num_mels=num_mels, normalise=normalise))


@pytest.fixture
def waveform():
    rng = np.random.default_rng(11)
    time = np.arange(16000) / 16000
    tone = 0.3 * np.sin(2 * np.pi * 440 * time * (1 + time))
    return (tone + 0.05 * rng.standard_normal(16000)).astype(np.float32)


def raw(**options):
    return LinearSpectrogram(normalise="none", **options).eval()


def close(ours, theirs, tolerance=1e-4):
    theirs = np.asarray(theirs)
    assert tuple(ours.shape) == theirs.shape
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("num_samples", [512, 1000, 1600, 15999, 16000])
def test_magnitudes_equal_librosas_with_reflection(waveform, num_samples):
    waveform = waveform[:num_samples]
    spectrum = librosa.stft(
        waveform, n_fft=512, hop_length=160, win_length=400, window="hann", pad_mode="reflect"
    )
    ours = raw()(torch.from_numpy(waveform)[None])[0]
    assert ours.shape == (257, 1 + num_samples // 160)
    close(ours, np.abs(spectrum), 1e-6)


def test_magnitudes_equal_scipys(waveform):
    window = np.zeros(512)
    window[56:456] = scipy.signal.windows.hann(400, sym=False)
    transform = scipy.signal.ShortTimeFFT(window, hop=160, fs=16000)
    spectrum = transform.stft_detrend(waveform, None, p0=0, p1=101, padding="even")
    close(raw()(torch.from_numpy(waveform)[None])[0], np.abs(spectrum), 1e-6)


def test_full_scale_sine_peaks_at_a_quarter_of_the_window():
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    assert raw()(sine[None])[0, :, 50].max().item() == pytest.approx(100, rel=1e-3)


def test_mirror_appends_the_reversed_signal_in_evaluation_only(waveform):
    signal = torch.from_numpy(waveform)[None]
    mirrored = torch.cat([signal, signal.flip(-1)], dim=-1)
    front_end = raw(mirror=True)
    assert torch.equal(front_end(signal), raw()(mirrored))
    assert torch.equal(front_end.train()(signal), raw().train()(signal))


def test_a_training_crop_equals_the_inner_frames_of_the_whole(waveform):
    """Frame t of the centred transform covers samples 160 t - 256 to 160 t + 256."""
    signal = torch.from_numpy(waveform)[None]
    front_end = raw()
    whole = front_end(signal)
    start, count = 7, 40
    offset = 160 * start - 256
    crop = signal[:, offset : offset + front_end.spec.crop_samples(count)]
    frames = front_end.train()(crop)
    assert frames.shape == (1, 257, count)
    torch.testing.assert_close(frames, whole[:, :, start : start + count], atol=1e-5, rtol=1e-4)


def test_short_signals_are_repeated(waveform):
    short = torch.from_numpy(waveform[:300])[None]
    assert torch.equal(raw()(short), raw()(short.repeat(1, 2)[:, :512]))
    longer = raw(min_seconds=0.5)(short)
    assert longer.shape[-1] == 1 + 8000 // 160
    assert torch.equal(longer, raw()(short.repeat(1, 27)[:, :8000]))
    assert torch.isfinite(LinearSpectrogram().eval()(torch.ones(1, 1))).all()


def test_frequency_normalisation_standardises_every_frame(waveform):
    magnitudes = raw()(torch.from_numpy(waveform)[None])[0].numpy()
    mean, deviation = magnitudes.mean(axis=0), magnitudes.std(axis=0)
    ours = LinearSpectrogram().eval()(torch.from_numpy(waveform)[None])[0]
    close(ours, (magnitudes - mean) / (deviation + 1e-5), 1e-6)


def test_time_normalisations_work_per_bin():
    spectrogram = 3 + 2 * torch.rand(2, 5, 40)
    values = spectrogram.numpy()
    centred = values - values.mean(axis=2, keepdims=True)
    close(normalise(spectrogram, "time_mean"), centred, 1e-6)
    scaled = centred / (values.std(axis=2, keepdims=True) + 1e-5)
    close(normalise(spectrogram, "time"), scaled, 1e-5)
    assert normalise(spectrogram, "none") is spectrogram


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_silence_stays_finite(normalise):
    silence = torch.zeros(1, 4000)
    for front_end in (LinearSpectrogram, LogMelSpectrogram):
        assert torch.isfinite(front_end(normalise=normalise).eval()(silence)).all()


@pytest.mark.parametrize("num_mels", [40, 64, 80])
@pytest.mark.parametrize(("f_min", "f_max"), [(0.0, 8000.0), (20.0, 7600.0)])
def test_mel_filters_equal_librosas(num_mels, f_min, f_max):
    theirs = librosa.filters.mel(
        sr=16000, n_fft=512, n_mels=num_mels, fmin=f_min, fmax=f_max, htk=True, norm=None
    )
    close(mel_filters(num_mels, 512, f_min, f_max), theirs, 1e-5)


def test_log_mel_equals_librosas(waveform):
    powers = librosa.feature.melspectrogram(
        y=waveform, sr=16000, n_fft=512, hop_length=160, win_length=400, pad_mode="reflect",
        n_mels=64, fmin=20, fmax=7600, htk=True, norm=None,
    )  # fmt: skip
    ours = LogMelSpectrogram(64, normalise="none").eval()(torch.from_numpy(waveform)[None])[0]
    close(ours, np.log(powers + 1e-6), 1e-5)


def test_a_fixed_channel_gain_vanishes_from_centred_log_mels(waveform):
    front_end = LogMelSpectrogram(40).eval()
    loud = torch.from_numpy(waveform)[None]
    torch.testing.assert_close(front_end(loud), front_end(0.5 * loud), atol=1e-2, rtol=0)


def test_spectrograms_are_float32_under_autocast(waveform):
    signal = torch.from_numpy(waveform)[None]
    for front_end in (LinearSpectrogram().eval(), LogMelSpectrogram().eval()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under_autocast = front_end(signal)
        assert torch.equal(under_autocast, front_end(signal))


def test_rows_of_a_batch_do_not_touch_each_other(waveform):
    signals = torch.from_numpy(waveform[:8000])[None] * torch.tensor([[1.0], [0.3], [0.0]])
    front_end = LinearSpectrogram(mirror=True).eval()
    together = front_end(signals)
    alone = torch.cat([front_end(signal[None]) for signal in signals])
    torch.testing.assert_close(together, alone)


def test_a_relative_floor_makes_the_level_an_offset_that_normalisation_takes_away(waveform):
    """At -60 dB, where the absolute floor alone changes the spectrogram by far more."""
    waveform = waveform * np.linspace(0.2, 1, 16000, dtype=np.float32)
    low = FRONT_ENDS["log_mel"](num_mels=40, normalise="none", log_floor=1e-10, relative_floor=1e-5)
    plain = FRONT_ENDS["log_mel"](num_mels=40, normalise="none")
    changes = [
        np.ptp(front_end.features(waveform) - front_end.features(waveform / 1000))
        for front_end in (low, plain)
    ]
    assert changes[0] < 0.1 < 2 < changes[1]
    band = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    depth = np.ptp(low.features(band)[:, 50])
    assert depth == pytest.approx(np.log(40 / 1e-5), abs=1)
    torch_features = Spectrogram(low).eval()(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(low.features(waveform), torch_features, atol=2e-3)
