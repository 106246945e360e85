"""The rows of FRONT_ENDS against the packages whose features they are, and against themselves."""

import math

import numpy as np
import pytest
import torch
from torchaudio.compliance import kaldi

from speakervlad import examples
from speakervlad.audio.spans import load_audio
from speakervlad.models.frontend import (
    BLOCK_FRAMES,
    FRONT_ENDS,
    FrontEnd,
    normalise,
    spectra,
)
from speakervlad.models.spectrogram import Spectrogram

# What would make every value depend on the whole signal.
UNLIMITED = {"speechbrain_fbank": {"range_db": 0.0}}


@pytest.fixture(scope="module")
def recordings():
    """Ten of those that come with the package."""
    return [load_audio(path) for path in list(examples().values())[:10]]


def torchaudios(samples, scale=1.0, **options):
    options = {"num_mel_bins": 80, "sample_frequency": 16000, "dither": 0.0} | options
    return kaldi.fbank(scale * torch.from_numpy(samples)[None], **options).T.numpy()


def exactly(samples):
    """In float64: at 16-bit scale float32 alone moves a logarithm of torchaudio's by up to 3e-3."""
    return samples.astype(np.float64)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"scale": 32768.0}, {"scale": 32768.0}),
        ({"scale": 32768.0, "window": "hamming"}, {"scale": 32768.0, "window_type": "hamming"}),
        ({"num_mels": 40, "f_max": 7600.0}, {"num_mel_bins": 40, "high_freq": 7600.0}),
        ({"preemphasis": 0.0, "f_min": 50.0}, {"preemphasis_coefficient": 0.0, "low_freq": 50.0}),
    ],
)
def test_kaldi_fbank_equals_torchaudios(recordings, ours, theirs):
    front_end = FRONT_ENDS["kaldi_fbank"](normalise="none", **ours)
    module = Spectrogram(front_end).eval()
    assert len(recordings) == 10
    for samples in recordings:
        expected = torchaudios(exactly(samples), **theirs)
        assert expected.shape == (front_end.num_bins, front_end.num_frames(len(samples)))
        np.testing.assert_allclose(front_end.features(samples), expected, atol=1e-3)
        np.testing.assert_allclose(module(torch.from_numpy(samples)[None])[0], expected, atol=1e-3)


def test_kaldi_fbank_less_its_mean_is_what_3d_speaker_takes(recordings):
    module = Spectrogram(FRONT_ENDS["kaldi_fbank"]()).eval()
    for samples in recordings[:3]:
        expected = torchaudios(samples)
        expected -= expected.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(module(torch.from_numpy(samples)[None])[0], expected, atol=1e-3)


def test_kaldi_fbank_equals_kaldi_native_fbanks(recordings):
    native = pytest.importorskip("kaldi_native_fbank")
    options = native.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = 16000
    options.mel_opts.num_bins = 80
    front_end = FRONT_ENDS["kaldi_fbank"](normalise="none")
    for samples in recordings:
        online = native.OnlineFbank(options)
        online.accept_waveform(16000, samples.tolist())
        online.input_finished()
        frames = [online.get_frame(number) for number in range(online.num_frames_ready)]
        np.testing.assert_allclose(front_end.features(samples), np.stack(frames).T, atol=1e-3)


def naive_speechbrain(samples):
    """``Fbank(n_mels=80)`` of SpeechBrain 1.0 by its parts: STFT, Filterbank, amplitude to dB."""
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.concatenate([np.zeros(200), samples.astype(np.float64), np.zeros(200)])
    starts = range(0, len(padded) - 399, 160)
    powers = np.stack([np.abs(np.fft.rfft(window * padded[t : t + 400])) ** 2 for t in starts])
    top = 2595 * math.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, 82) / 2595) - 1)
    filters = np.zeros((201, 80))
    for number, hertz in enumerate(np.linspace(0, 8000, 201)):
        for mel in range(80):
            slope = (hertz - edges[mel + 1]) / (edges[mel + 1] - edges[mel])
            filters[number, mel] = max(0.0, min(slope + 1, -slope + 1))
    levels = 10 * np.log10(np.maximum(powers @ filters, 1e-10))
    levels = np.maximum(levels, levels.max() - 80)
    return (levels - levels.mean(axis=0)).T


def test_speechbrain_fbank_equals_its_definition(recordings):
    """In dB: a hundredth of one is far below what a network notices."""
    front_end = FRONT_ENDS["speechbrain_fbank"]()
    module = Spectrogram(front_end).eval()
    for samples in [*recordings[:4], recordings[4] * np.float32(1e-4)]:
        expected = naive_speechbrain(samples)
        ours = normalise(front_end.features(samples), front_end.normalise)
        np.testing.assert_allclose(ours, expected, atol=5e-3)
        np.testing.assert_allclose(module(torch.from_numpy(samples)[None])[0], expected, atol=5e-3)


def test_speechbrain_fbank_equals_the_installed_package(recordings):
    features = pytest.importorskip("speechbrain.lobes.features")
    theirs = features.Fbank(n_mels=80)
    front_end = FRONT_ENDS["speechbrain_fbank"](normalise="none")
    for samples in recordings:
        expected = theirs(torch.from_numpy(samples)[None])[0].T.numpy()
        np.testing.assert_allclose(front_end.features(samples), expected, atol=5e-3)


def test_every_row_computes_the_same_in_numpy_and_torch(recordings):
    for row in FRONT_ENDS.values():
        front_end = row(normalise="none")
        for samples in (recordings[0], recordings[1][: front_end.min_samples]):
            ours = front_end.features(samples)
            theirs = Spectrogram(front_end).eval()(torch.from_numpy(samples)[None])[0].numpy()
            assert ours.shape == (front_end.num_bins, front_end.num_frames(len(samples)))
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_training_crops_are_frames_of_the_signal(recordings, name):
    """Equal to those of the whole signal, of which the crop is a part."""
    front_end = FRONT_ENDS[name](normalise="none", **UNLIMITED.get(name, {}))
    module, samples = Spectrogram(front_end), torch.from_numpy(recordings[0])[None]
    whole = module.eval()(samples)
    first, count = 9, 40
    offset = first * front_end.hop_length - front_end.extension[0] - front_end.crop_margin
    crop = samples[:, offset : offset + front_end.crop_samples(count)]
    frames = module.train()(crop)
    assert frames.shape == (1, front_end.num_bins, count)
    torch.testing.assert_close(frames, whole[:, :, first : first + count], atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"num_mels": 64}, {"window": "povey", "periodic": False}])
def test_folded_transforms_equal_the_matrix(recordings, options):
    """What inference computes where the window is even, against what every row is made of."""
    front_end = FrontEnd(**options)
    frames = np.lib.stride_tricks.sliding_window_view(recordings[0], 400)[: 160 * 128 : 160]
    assert front_end._folds
    expected = spectra(frames.astype(np.float64), front_end.analysis, front_end.filters)
    np.testing.assert_allclose(front_end._spectra(frames), expected, rtol=1e-4, atol=1e-6)


def test_windows_that_are_not_even_are_not_folded():
    assert not FRONT_ENDS["kaldi_fbank"]()._folds  # pre-emphasis
    assert not FRONT_ENDS["speechbrain_fbank"]()._folds  # a periodic window that is not zero
    assert not FrontEnd(win_length=401)._folds


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_bits_depend_neither_on_cuts_nor_on_company(recordings, name):
    """A frame is the same bits at any place of a block, in a block that is full or is not."""
    front_end = FRONT_ENDS[name](**UNLIMITED.get(name, {}))
    samples = recordings[0]
    whole = front_end.features(samples)
    inside = -(-front_end.extension[0] // front_end.hop_length)
    for first, count in ((1, 2), (7, BLOCK_FRAMES), (65, BLOCK_FRAMES + 1), (90, 30)):
        start = first * front_end.hop_length
        stop = start + front_end.framing.num_samples(count)
        part = front_end.features(samples[start:stop])
        kept = slice(inside, count - inside)
        assert part.shape[1] == count
        np.testing.assert_array_equal(part[:, kept], whole[:, first : first + count][:, kept])


def test_frames_of_fewest_samples():
    for row in FRONT_ENDS.values():
        framing = row().framing
        for count in (1, 2, 55):
            assert framing.num_frames(framing.num_samples(count)) == count
            assert framing.num_frames(framing.num_samples(count) - 1) == count - 1


def test_values_far_below_the_loudest_are_raised():
    loud = np.sin(np.arange(16000) * 0.3).astype(np.float32)
    loud[8000:] = 0
    features = FRONT_ENDS["speechbrain_fbank"](range_db=30.0).features(loud)
    assert features.max() - features.min() == pytest.approx(30, abs=1e-3)
    assert FRONT_ENDS["speechbrain_fbank"]().whole
    assert not FRONT_ENDS["speechbrain_fbank"](range_db=0.0).whole


def test_with_a_peak_the_level_of_a_recording_does_not_matter(recordings):
    front_end = FRONT_ENDS["kaldi_fbank"](peak=0.3)
    plain = FRONT_ENDS["kaldi_fbank"]()
    assert front_end.whole
    assert not plain.whole
    loud = recordings[0]
    quiet = loud * np.float32(10 ** (-46 / 20))
    levelled = loud * np.float32(0.3 / np.abs(loud).max())
    features = front_end.features(loud)
    np.testing.assert_allclose(front_end.features(quiet), features, atol=1e-3)
    np.testing.assert_allclose(plain.features(levelled), features, atol=1e-3)
    assert np.abs(plain.features(quiet) - plain.features(loud) + math.log(10) * 9.2).max() > 1
    module = Spectrogram(front_end).eval()
    both = module.features(torch.from_numpy(np.stack([loud, quiet])))
    for one in both.numpy():
        np.testing.assert_allclose(one, features, atol=1e-3)
    silence = np.zeros(16000, np.float32)
    assert np.isfinite(front_end.features(silence)).all()


def test_short_signals_are_repeated_until_a_trunk_can_take_them():
    for row in FRONT_ENDS.values():
        front_end = row().of_at_least(7)
        assert front_end.num_frames(front_end.min_samples) >= 7
        assert front_end.num_frames(front_end.min_samples - 1) < 7
        assert front_end.of_at_least(3) is front_end
    centred = FRONT_ENDS["linear"]()
    assert centred.of_at_least(4) is centred
