import logging
import sys

import numpy as np
import pytest
import soundfile
import soxr

from speakervlad import examples
from speakervlad.audio import decoding, pyav
from speakervlad.audio import reading as audio
from speakervlad.audio.quality import check_speech, is_band_limited
from speakervlad.audio.reading import read_speech, speech_blocks
from speakervlad.audio.spans import audio_info, load_audio
from speakervlad.audio.writing import write_audio
from speakervlad.errors import InputError

# name -> (soundfile options, largest error of a partial read against the slice of the whole)
SOUNDFILE_FORMATS = {
    "a.wav": ({}, 0.0),
    "float.wav": ({"subtype": "FLOAT"}, 0.0),
    "int24.wav": ({"subtype": "PCM_24"}, 0.0),
    "uint8.wav": ({"subtype": "PCM_U8"}, 0.0),
    "a.flac": ({}, 0.0),
    "a.ogg": ({"format": "OGG", "subtype": "VORBIS"}, 1e-6),
    "a.opus": ({"format": "OGG", "subtype": "OPUS"}, 5e-3),
    "a.mp3": ({}, 1e-6),
}


def encode_with_pyav(path, waveform, rate, codec):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            stream.codec_context.format.name, "mono", rate, stream.codec_context.frame_size
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def tone(make_waveform):
    return make_waveform(4.0, seed=1)


@pytest.mark.parametrize("name", SOUNDFILE_FORMATS)
def test_soundfile_formats_and_their_spans(tmp_path, tone, name):
    options, tolerance = SOUNDFILE_FORMATS[name]
    soundfile.write(tmp_path / name, tone, 16000, **options)
    whole = load_audio(tmp_path / name)
    assert whole.dtype == np.float32
    assert whole.shape == tone.shape
    assert np.corrcoef(whole, tone)[0, 1] > 0.98
    assert audio_info(tmp_path / name) == (64000, 16000, 1)
    for start, length in [(0, 8000), (1000, 100), (30001, 20000), (63000, 1000)]:
        span = load_audio(tmp_path / name, start=start, num_samples=length)
        assert np.abs(span - whole[start : start + length]).max() <= tolerance
    np.testing.assert_allclose(
        load_audio(tmp_path / name, start=40000), whole[40000:], atol=tolerance
    )


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.m4a", "aac", 16000),
        ("b.m4a", "aac", 44100),
        ("a.mp4", "aac", 48000),
        ("a.webm", "libopus", 48000),
        ("a.mkv", "libopus", 48000),
    ],
)
def test_pyav_formats_and_their_spans(tmp_path, make_waveform, name, codec, rate):
    original = make_waveform(4.0, seed=1, rate=rate)
    path = encode_with_pyav(tmp_path / name, original, rate, codec)
    whole = load_audio(path)
    info = audio_info(path)
    assert info == (len(whole), rate, 1)
    assert abs(len(whole) - 64000) <= 2 * 1024
    expected = soxr.resample(original, rate, 16000)
    size = min(len(whole), len(expected))
    lags = np.correlate(whole[2000 : size - 2000], expected[4000 : size - 4000], "valid")
    assert lags.max() > 0.95 * np.square(expected[4000 : size - 4000]).sum()
    for start, length in [(0, 8000), (20000, 8000), (50001, 5000)]:
        span = load_audio(path, start=start, num_samples=length)
        error = span - whole[start : start + length]
        # AAC replaces noise by random noise, so a span is equal in its tones only.
        assert np.square(error).mean() < 0.02 * np.square(span).mean()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling_agrees_with_an_independent_resampler(tmp_path, make_waveform, rate):
    from scipy.signal import resample_poly

    original = make_waveform(2.0, seed=2, rate=rate)
    soundfile.write(tmp_path / "a.wav", original, rate, subtype="FLOAT")
    ours = load_audio(tmp_path / "a.wav")
    assert len(ours) == 32000 == audio_info(tmp_path / "a.wav").num_samples
    theirs = resample_poly(original, 16000, rate)
    spectra = [np.abs(np.fft.rfft(wave[8000:24000])) for wave in (ours, theirs)]
    band = slice(0, int(0.8 * min(rate, 16000) / 2))
    error = np.square(spectra[0][band] - spectra[1][band]).sum()
    assert error < 1e-3 * np.square(spectra[1][band]).sum()
    np.testing.assert_allclose(ours, soxr.resample(original, rate, 16000), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 15999, 44100, 48000])
@pytest.mark.parametrize(
    ("start", "length"), [(0, 4000), (1, 4000), (12345, 9999), (28000, 4000), (31999, 1)]
)
def test_resampled_span_equals_the_slice_of_the_whole(tmp_path, make_waveform, rate, start, length):
    soundfile.write(tmp_path / "a.wav", make_waveform(2.0, rate=rate), rate)
    whole = load_audio(tmp_path / "a.wav")
    span = load_audio(tmp_path / "a.wav", start=start, num_samples=length)
    np.testing.assert_allclose(span, whole[start : start + length], atol=2e-6)


@pytest.mark.parametrize("num_frames", [3, 100, 44101, 44099])
def test_info_agrees_with_the_length_read(tmp_path, num_frames):
    soundfile.write(tmp_path / "a.wav", np.full(num_frames, 0.1), 44100)
    assert len(load_audio(tmp_path / "a.wav")) == audio_info(tmp_path / "a.wav").num_samples


def test_channels_are_averaged_or_chosen(tmp_path, make_waveform):
    left, right = make_waveform(1.0, 1), make_waveform(1.0, 2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav", channel=0), left)
    np.testing.assert_array_equal(
        load_audio(tmp_path / "a.wav", channel=1, start=5, num_samples=7), right[5:12]
    )
    with pytest.raises(InputError, match=r"a\.wav: channel 2 asked, has 2"):
        load_audio(tmp_path / "a.wav", channel=2)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32"])
def test_full_scale_integers_become_one(tmp_path, subtype):
    square = np.repeat([1.0, -1.0], 400)
    soundfile.write(tmp_path / "a.wav", square, 16000, subtype=subtype)
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), square, atol=1e-4)


def test_overshoot_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(800, 1.2), 16000, subtype="FLOAT")
    assert load_audio(tmp_path / "a.wav").max() == 1.0


def write_nan(path):
    soundfile.write(path, np.array([0.1, np.nan] * 400), 16000, subtype="FLOAT")


def write_infinity(path):
    soundfile.write(path, np.array([0.1, np.inf] * 400), 16000, subtype="FLOAT")


def write_unscaled(path):
    soundfile.write(path, np.full(800, 12000.0), 16000, subtype="FLOAT")


def write_truncated(path):
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 32000), 16000, format="FLAC")
    path.write_bytes(path.read_bytes()[:20000])


def write_cut_wav(path):
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 32000), 16000)
    path.write_bytes(path.read_bytes()[:20000])


BAD_FILES = {
    "missing.wav": (lambda path: None, "no such file"),
    "folder.wav": (lambda path: path.mkdir(), "is a folder"),
    "empty.wav": (lambda path: path.touch(), "empty file"),
    "zero.wav": (lambda path: soundfile.write(path, np.zeros(0), 16000), "holds no samples"),
    "text.wav": (lambda path: path.write_text("hello\n" * 99), "not an audio file"),
    "text.flac": (lambda path: path.write_text("hello\n" * 99), "not an audio file"),
    "text.m4a": (lambda path: path.write_text("hello\n" * 99), "not an audio file"),
    "note.raw": (lambda path: path.write_text("hello\n" * 99), "not an audio file"),
    "truncated.flac": (write_truncated, "truncated or damaged"),
    "cut.wav": (write_cut_wav, "truncated or damaged \\(ends after 19956 of 64000 bytes"),
    "nan.wav": (write_nan, "NaN or infinite"),
    "infinite.wav": (write_infinity, "NaN or infinite"),
    "unscaled.wav": (write_unscaled, "samples up to 12000"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_one_line_that_names_it(tmp_path, name):
    write, reason = BAD_FILES[name]
    write(tmp_path / name)
    with pytest.raises(InputError, match=reason) as caught:
        load_audio(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: ")
    assert message.count(name) == 1
    assert "\n" not in message
    assert message.endswith(".")


BLOCK_FORMATS = {
    "a.ogg": {"format": "OGG", "subtype": "VORBIS"},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "a.flac": {},
}


@pytest.mark.parametrize("block_frames", [10007, 1 << 18])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_blocks_are_the_whole(tmp_path, make_waveform, monkeypatch, name, rate, block_frames):
    left, right = (make_waveform(3.3, seed, rate) for seed in (0, 1))
    soundfile.write(tmp_path / name, np.stack([left, right], axis=1), rate, **BLOCK_FORMATS[name])
    for module in (decoding, pyav):
        monkeypatch.setattr(module, "BLOCK_FRAMES", block_frames)
    for channel in (None, 1):
        blocks = list(speech_blocks(tmp_path / name, channel=channel))
        assert len(blocks) > 1 or block_frames > 10007
        whole = read_speech(tmp_path / name, channel=channel)
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.m4a", "aac", 44100), ("a.webm", "libopus", 48000)]
)
def test_pyav_blocks_are_the_whole(tmp_path, make_waveform, monkeypatch, name, codec, rate):
    path = encode_with_pyav(tmp_path / name, make_waveform(3.3, rate=rate), rate, codec)
    monkeypatch.setattr(pyav, "BLOCK_FRAMES", 10007)
    blocks = list(speech_blocks(path))
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.concatenate(blocks), read_speech(path))


def write_cut_m4a(path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 64000).astype(np.float32)
    encode_with_pyav(path, noise, 16000, "aac")
    path.write_bytes(path.read_bytes()[:-4000])


BAD_BLOCKS = BAD_FILES | {
    "silent.wav": (lambda path: soundfile.write(path, np.zeros(16000), 16000), "silent"),
    "short.wav": (lambda path: soundfile.write(path, np.full(99, 0.1), 16000), "too short"),
    "channel.wav": (lambda path: soundfile.write(path, np.full((999, 2), 0.1), 16000), "channel 7"),
    "cut.m4a": (write_cut_m4a, "not an audio file"),
}


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_blocks_end_in_the_error_of_the_whole(tmp_path, name):
    write, reason = BAD_BLOCKS[name]
    write(tmp_path / name)
    channel = 7 if "channel" in name else None
    with pytest.raises(InputError, match=reason) as expected:
        read_speech(tmp_path / name, channel=channel)
    with pytest.raises(InputError) as caught:
        list(speech_blocks(tmp_path / name, channel=channel))
    assert str(caught.value) == str(expected.value)


def test_playlist_leads_nowhere(tmp_path, make_wav):
    make_wav(tmp_path / "secret.wav")
    (tmp_path / "list.wav").write_text("#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match=r"list\.wav"):
        load_audio(tmp_path / "list.wav")


def test_video_without_sound_says_so(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"a\.mp4: holds no audio stream"):
        load_audio(tmp_path / "a.mp4")


def test_without_pyav_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match=r"pip install 'speakervlad\[formats\]'"):
        load_audio(tmp_path / "a.m4a")


def test_without_pyav_an_mp3_that_counts_its_frames_is_read(tmp_path, tone, monkeypatch):
    soundfile.write(tmp_path / "a.mp3", tone, 16000)
    with_pyav = load_audio(tmp_path / "a.mp3")
    monkeypatch.setitem(sys.modules, "av", None)
    np.testing.assert_allclose(load_audio(tmp_path / "a.mp3"), with_pyav, atol=1e-3)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(
        content.replace(b"Info", b"\0\0\0\0").replace(b"Xing", b"\0" * 4)
    )
    with pytest.raises(InputError, match=r"estimate of its length.*speakervlad\[formats\]"):
        load_audio(tmp_path / "a.mp3")


def test_span_beyond_the_end_is_an_error(tmp_path, make_wav):
    path = make_wav(tmp_path / "a.wav", 1.0)
    for start, length in [(15000, 1001), (16000, 1), (99999, 10)]:
        with pytest.raises(InputError, match="too short for samples"):
            load_audio(path, start=start, num_samples=length)


@pytest.mark.parametrize("length", [1, audio.MIN_SAMPLES - 1])
def test_too_short_for_a_frame(tmp_path, length):
    soundfile.write(tmp_path / "a.wav", np.full(length, 0.1), 16000)
    with pytest.raises(InputError, match=r"a\.wav: .* too short"):
        read_speech(tmp_path / "a.wav")
    check_speech(np.linspace(0.1, 0.2, audio.MIN_SAMPLES, dtype=np.float32), "a")


def test_silence_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    with pytest.raises(InputError, match=r"a\.wav: silent"):
        read_speech(tmp_path / "a.wav")


def test_telephone_band_is_warned_about_once(tmp_path, make_waveform, caplog):
    wide = make_waveform(2.0)
    narrow = soxr.resample(soxr.resample(wide, 16000, 8000), 8000, 16000)
    assert not is_band_limited(wide)
    assert is_band_limited(narrow)
    assert not is_band_limited(narrow[::2], 8000)
    assert not is_band_limited(narrow[:300])
    soundfile.write(tmp_path / "narrow.wav", narrow, 16000)
    with caplog.at_level(logging.WARNING):
        load_audio(tmp_path / "narrow.wav")
        assert not caplog.records
        read_speech(tmp_path / "narrow.wav")
    assert len(caplog.records) == 1
    assert "narrow.wav: no energy above 4 kHz" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("wav", "FLOAT")]
)
def test_what_is_written_is_read(tmp_path, make_waveform, suffix, subtype):
    waveform = make_waveform(1.0)
    path = tmp_path / "new" / f"a.{suffix}"
    write_audio(path, waveform, subtype=subtype)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, subtype)
    np.testing.assert_allclose(load_audio(path), waveform, atol=2**-15)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, make_waveform, full_disk, suffix):
    path = tmp_path / f"a.{suffix}"
    with (
        full_disk(10000),
        pytest.raises(InputError, match=rf"a\.{suffix}: cannot be written \(.*\. Make room"),
    ):
        write_audio(path, make_waveform(2.0))
    assert list(tmp_path.iterdir()) == []


def test_real_speech_of_the_package():
    """Opus files of everyday voices: a span is that of the whole, none is of telephone band."""
    for path in examples().values():
        waveform = read_speech(path)
        assert len(waveform) == audio_info(path).num_samples
        assert not is_band_limited(waveform)
        middle = load_audio(path, start=9000, num_samples=4000)
        np.testing.assert_allclose(middle, waveform[9000:13000], atol=1e-3)


def test_real_speech(shared_speech, tmp_path):
    """Real Opus files: the manifest's lengths hold, none is taken for telephone band."""
    import tarfile

    from speakervlad.tables.manifest import load_manifest

    with tarfile.open(shared_speech / "dev.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    manifest = load_manifest(shared_speech / "dev.csv", root=tmp_path)
    assert set(manifest.column("corpus")) >= {"librispeech_train", "speechocean762"}
    for index in range(0, len(manifest), 40):
        waveform = read_speech(manifest.path(index))
        assert len(waveform) == manifest.num_samples[index]
        assert not is_band_limited(waveform)
        middle = load_audio(manifest.path(index), start=9000, num_samples=4000)
        error = middle - waveform[9000:13000]
        assert np.square(error).mean() < 1e-3 * np.square(waveform[9000:13000]).mean() + 1e-9
