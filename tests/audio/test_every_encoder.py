"""What every encoder of PyAV and soundfile writes is read as FFmpeg decodes it, and in spans."""

import itertools

import numpy as np
import pytest
import soundfile
import soxr

from speakervlad.audio.reading import speech_blocks
from speakervlad.audio.spans import audio_info, load_audio
from speakervlad.errors import InputError

av = pytest.importorskip("av")

# Suffix, codec, sample rate: each is skipped where this build of FFmpeg has no such encoder.
PYAV = [
    ("m4a", "aac", 16000),
    ("m4a", "alac", 44100),
    ("mp4", "aac", 48000),
    ("mp4", "libmp3lame", 44100),
    ("mov", "aac", 16000),
    ("mov", "pcm_s16le", 16000),
    ("mkv", "libvorbis", 16000),
    ("mkv", "pcm_f32le", 16000),
    ("mka", "ac3", 48000),
    ("webm", "libopus", 48000),
    ("webm", "libvorbis", 44100),
    ("avi", "mp2", 44100),
    ("avi", "pcm_s16le", 16000),
    ("ts", "mp2", 48000),
    ("mp2", "mp2", 16000),
    ("mp3", "libmp3lame", 16000),
    ("mp3", "libmp3lame", 44100),
    ("aac", "aac", 16000),
    ("ac3", "ac3", 48000),
    ("wma", "wmav2", 44100),
    ("flv", "libmp3lame", 22050),
    ("amr", "libopencore_amrnb", 8000),
    ("3gp", "libopencore_amrnb", 8000),
    ("spx", "libspeex", 16000),
    ("ogg", "libvorbis", 16000),
    ("opus", "libopus", 48000),
    ("opus", "libopus", 16000),
    ("g722", "g722", 16000),
    ("flac", "flac", 16000),
    ("wv", "wavpack", 16000),
    ("tta", "tta", 16000),
    ("caf", "pcm_s16be", 16000),
    ("aiff", "pcm_s16be", 22050),
    ("au", "pcm_mulaw", 8000),
    ("w64", "pcm_s16le", 16000),
    ("wav", "pcm_s16le", 8000),
    ("wav", "pcm_f32le", 16000),
    ("wav", "pcm_alaw", 8000),
    ("wav", "adpcm_ms", 16000),
    ("wav", "adpcm_ima_wav", 16000),
    ("wav", "libmp3lame", 16000),
    ("wav", "mp2", 16000),
    ("wav", "g726", 8000),
    ("voc", "pcm_u8", 16000),
]
SOUNDFILE = [
    (form, subtype)
    for form in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(form)
    if form != "RAW"
]


def encode_with_pyav(path, waveform, rate, codec):
    try:
        av.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if codec == "wmav2":
            stream.codec_context.bit_rate = 64000
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        form, size = stream.codec_context.format.name, stream.codec_context.frame_size
        resampler = av.AudioResampler(form, "mono", rate, size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def decoded_by_pyav(path):
    """All that FFmpeg decodes, at 16 kHz."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        convert = av.AudioResampler("fltp", "mono")
        frames = [piece for frame in container.decode(stream) for piece in convert.resample(frame)]
    waveform = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return soxr.resample(waveform, frames[0].sample_rate, 16000)


def assert_read_right(path, expected):
    """Length to 20 ms, content, and every kind of span."""
    whole = load_audio(path)
    # Coders of blocks add up to one of them.
    assert len(expected) - 320 <= len(whole) <= len(expected) + 1000
    size = min(len(whole), len(expected))
    assert np.corrcoef(whole[:size], expected[:size])[0, 1] > 0.95
    assert audio_info(path).num_samples == len(whole)
    np.testing.assert_array_equal(np.concatenate(list(speech_blocks(path))), whole)
    rng = np.random.default_rng(0)
    starts = [0, 1, len(whole) - 4000, *rng.integers(len(whole) - 4000, size=4).tolist()]
    for start, length in itertools.product(starts, (1, 4000)):
        span = load_audio(path, start=start, num_samples=length)
        np.testing.assert_allclose(span, whole[start : start + length], atol=2e-6)
    np.testing.assert_allclose(load_audio(path, start=9999), whole[9999:], atol=2e-6)
    with pytest.raises(InputError, match="too short for samples"):
        load_audio(path, start=len(whole) - 10, num_samples=11)


@pytest.mark.parametrize(("suffix", "codec", "rate"), PYAV)
def test_pyav(tmp_path, make_waveform, suffix, codec, rate):
    path = tmp_path / f"a.{suffix}"
    encode_with_pyav(path, make_waveform(3.3, seed=3, rate=rate), rate, codec)
    assert_read_right(path, decoded_by_pyav(path))


@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(rate, marks=pytest.mark.slow) if rate != 16000 else rate
        for rate in (8000, 16000, 48000)
    ],
)
@pytest.mark.parametrize(("form", "subtype"), SOUNDFILE)
def test_soundfile(tmp_path, make_waveform, form, subtype, rate):
    path = tmp_path / f"a.{form.lower()}"
    waveform = make_waveform(2.2, seed=3, rate=rate)
    try:
        soundfile.write(path, waveform, rate, format=form, subtype=subtype)
        with soundfile.SoundFile(path) as file:
            assert file.samplerate == rate
    except (soundfile.LibsndfileError, AssertionError):
        pytest.skip("libsndfile does not write this, or not at this rate")
    is_lossy = subtype in ("VORBIS", "OPUS") or subtype.startswith("MPEG")
    # FFmpeg does not know half of the others, and cuts ALAC in CAF.
    assert_read_right(
        path, decoded_by_pyav(path) if is_lossy else soxr.resample(waveform, rate, 16000)
    )
