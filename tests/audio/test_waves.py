"""What may be handed over as audio, and what of it is refused in words."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from speakervlad.audio.reading import read_speech
from speakervlad.audio.recording import Recording
from speakervlad.errors import InputError


def samples_of(audio, **options):
    wave = Recording(audio, **options).wave
    return wave.read(0, wave.num_samples)


@pytest.fixture
def speech(make_waveform):
    return make_waveform(1.0)


@pytest.mark.parametrize(
    ("dtype", "full_scale", "middle", "error"),
    [
        (np.int8, 128, 0, 1e-2),
        (np.int16, 32768, 0, 1e-4),
        (np.int32, 2**31, 0, 1e-6),
        (np.uint8, 128, 128, 1e-2),
        (np.uint16, 32768, 32768, 1e-4),
        (np.float16, 1, 0, 1e-3),
        (np.float64, 1, 0, 0),
        (">i2", 32768, 0, 1e-4),
        (">f4", 1, 0, 0),
    ],
)
def test_samples_of_other_types_are_converted(speech, dtype, full_scale, middle, error):
    samples = (speech.astype(np.float64) * full_scale + middle).astype(dtype)
    found = samples_of(samples)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, speech, atol=error)


def test_integers_are_what_their_file_holds(tmp_path, speech):
    samples = np.rint(speech * 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    np.testing.assert_array_equal(samples_of(samples), read_speech(tmp_path / "a.wav"))


def test_louder_floats_are_scaled_and_told(speech, caplog):
    found = samples_of(7 * speech / np.abs(speech).max())
    np.testing.assert_allclose(found, speech / np.abs(speech).max(), atol=1e-6)
    assert "samples up to 7, scaled down to 1" in caplog.text


def test_tensors_and_lists(speech):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(speech)
    np.testing.assert_array_equal(samples_of(tensor), speech)
    np.testing.assert_array_equal(samples_of(tensor.clone().requires_grad_()), speech)
    np.testing.assert_allclose(samples_of(speech.tolist()), speech)
    with pytest.raises(InputError, match="a Tensor cannot be taken as samples"):
        samples_of(tensor.bfloat16())


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_samples_of_another_rate(make_waveform, rate):
    samples = make_waveform(1.0, rate=rate)
    expected = soxr.resample(samples, rate, 16000)
    np.testing.assert_allclose(samples_of(samples, sample_rate=rate), expected, atol=1e-6)


@pytest.mark.parametrize("rate", [0, 99, -16000, 1e9, float("nan")])
def test_impossible_rates(speech, rate):
    with pytest.raises(InputError, match="sample_rate="):
        samples_of(speech, sample_rate=rate)


def test_content_of_a_file(tmp_path, make_wav):
    path = make_wav(tmp_path / "a.flac")
    expected = read_speech(path)
    np.testing.assert_array_equal(samples_of(path.read_bytes()), expected)
    np.testing.assert_array_equal(samples_of(io.BytesIO(path.read_bytes())), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(samples_of(file), expected)
    with pytest.raises(InputError, match=r"^audio: not an audio file"):
        samples_of(b"no audio at all")
    with pytest.raises(InputError, match="opened as text"):
        samples_of(io.StringIO("x"))


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.full(16000, np.nan), "not finite"),
        (np.full(16000, 1e20), r"samples up to 1e\+20"),
        (np.float64([1e300, -1e300] * 800), r"samples up to 1e\+300"),
        (np.arange(16000), "int64, of which the full scale is not known"),
        ([1, 2, 3] * 800, "int64"),
        (np.ones(16000, bool), "bool"),
        (np.array(["a"] * 800), "<U1"),
        (np.ones(16000, complex), "complex128"),
        (np.array([None] * 800), "object"),
        ([[0.1, 0.2], [0.3]], "a list cannot be taken as samples"),
        (np.zeros((2, 16000), np.float32), r"shape \(2, 16000\)"),
        (np.full(16000, 0.3), "holds no speech"),
        (np.zeros(16000), "silent"),
        (np.zeros(0), "too short"),
        (0.5, "shape"),
    ],
)
def test_what_is_no_speech_is_refused_in_words(samples, reason):
    with pytest.raises(InputError, match=reason):
        samples_of(samples)
