"""Sound from a pipe, whose end nobody knows."""

import io

import numpy as np
import pytest
import soundfile

from speakervlad.audio.pipe import ENCODINGS, decode_samples, piped
from speakervlad.errors import InputError

SAMPLES = (0.5 * np.sin(np.arange(4000) / 7)).astype(np.float32)


class Slow(io.BytesIO):
    """Gives three bytes at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(min(3, size) if size > 0 else size)

    read1 = read


def wav(subtype, channels=1):
    file = io.BytesIO()
    soundfile.write(file, np.stack([SAMPLES] * channels, 1), 8000, subtype, format="WAV")
    return file.getvalue()


def heard(content, kind=io.BytesIO, **options):
    sound = piped(kind(content), **options)
    return sound.sample_rate, np.concatenate([np.zeros(0, np.float32), *sound.blocks])


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-6), ("PCM_U8", 0.01), ("FLOAT", 0),
     ("ULAW", 0.02), ("ALAW", 0.02)],
)  # fmt: skip
@pytest.mark.parametrize("kind", [io.BytesIO, Slow])
def test_wav_of_every_encoding(subtype, tolerance, kind):
    content = wav(subtype)
    rate, samples = heard(content, kind)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 8000
    np.testing.assert_allclose(samples[:4000], expected, atol=1e-6)
    np.testing.assert_allclose(samples[:4000], SAMPLES, atol=tolerance)


def test_a_length_that_the_header_does_not_know_and_half_a_sample_at_the_end():
    content = bytearray(wav("PCM_16", 2))
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff\xff\xff\xff"
    _, samples = heard(bytes(content) + b"\x01")
    np.testing.assert_allclose(samples, SAMPLES, atol=1e-4)


def test_raw_samples():
    data = np.round(SAMPLES * 32767).astype("<i2").tobytes()
    rate, samples = heard(data, sample_rate=8000)
    assert rate == 8000
    np.testing.assert_allclose(samples, SAMPLES, atol=1e-4)
    assert heard(data, encoding="s16")[0] == 16000
    floats = np.array([0.25, np.nan, np.inf, 7], "<f4").tobytes()
    assert heard(floats, encoding="f32")[1].tolist() == [0.25, 0, 1, 1]
    two = np.stack([SAMPLES, 0 * SAMPLES], 1).astype("<f4").tobytes()
    np.testing.assert_allclose(heard(two, encoding="f32", channels=2)[1], SAMPLES / 2, atol=1e-6)


@pytest.mark.parametrize("name", ["mulaw", "alaw"])
def test_telephone_codes_are_those_of_g711(name):
    subtype = {"mulaw": "ULAW", "alaw": "ALAW"}[name]
    codes = bytes(range(256))
    with soundfile.SoundFile(
        io.BytesIO(codes), samplerate=8000, channels=1, subtype=subtype, format="RAW"
    ) as file:
        expected = file.read(dtype="float32")
    np.testing.assert_allclose(ENCODINGS[name].decode(codes), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "nothing came"),
        (b"ID3\x04" + bytes(400), "is no WAV"),
        (wav("PCM_16")[:30], "header is damaged"),
        (wav("DOUBLE"), "64 bits"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "header is damaged"),
        (b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\x7f", "header is damaged"),
    ],
)
def test_what_is_no_wav_is_said(content, words):
    with pytest.raises(InputError, match=words):
        heard(content)


def test_an_unknown_encoding_is_said():
    with pytest.raises(InputError, match="Did you mean 's16'"):
        piped(io.BytesIO(), encoding="s61")


def test_raw_samples_of_a_packet_are_decoded():
    np.testing.assert_array_equal(decode_samples(b"\x00\x40\x00\xc0", "s16"), [0.5, -0.5])
    np.testing.assert_array_equal(decode_samples(b"\xff", "mulaw"), [0.0])
    with pytest.raises(InputError, match="a sample has 2"):
        decode_samples(b"abc", "s16")
    with pytest.raises(InputError, match="mulaw"):
        decode_samples(b"", "mulow")
