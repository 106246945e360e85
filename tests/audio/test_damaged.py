"""Compressed files of which a little cannot be decoded: read, told, and refused beyond 1 %."""

import io
import re

import numpy as np
import pytest
import soundfile

from speakervlad.audio.recording import Recording
from speakervlad.audio.spans import audio_info, load_audio
from speakervlad.errors import InputError

av = pytest.importorskip("av", reason="needs the extra formats")

RATE = 16000
SECONDS = 30
# Codec, container and bit rate of what FFmpeg writes, by suffix.
ENCODED = {
    "mp3": ("libmp3lame", "mp3", 64_000),
    "m4a": ("aac", "ipod", 64_000),
    "aac": ("aac", "adts", 64_000),
    "ac3": ("ac3", "ac3", 96_000),
    "mka": ("libopus", "matroska", 32_000),
}


@pytest.fixture(scope="module")
def samples(make_waveform):
    return make_waveform(SECONDS)


@pytest.fixture(scope="module")
def encoded(samples, tmp_path_factory):
    """``encoded(suffix)``: the content of a file of that kind."""

    def make(suffix, samples=samples):
        codec, form, bit_rate = ENCODED[suffix]
        path = tmp_path_factory.mktemp("encoded") / f"a.{suffix}"
        with av.open(str(path), "w", format=form) as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            stream.bit_rate = bit_rate
            frame = av.AudioFrame.from_ndarray(
                np.repeat(samples, 3)[None].astype(np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 48000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        return path.read_bytes()

    return make


def flac(samples, subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC", subtype=subtype)
    return buffer.getvalue()


def ogg(samples, subtype):
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, 1, format="OGG", subtype=subtype) as file:
        # libsndfile ends the process where it gets a minute of Vorbis at once.
        for block in np.array_split(samples, 100):
            file.write(block)
    return buffer.getvalue()


def with_noise(content, at, size):
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    place = round(at * len(content))
    return content[:place] + noise + content[place + size :]


def with_gap(content, at, size):
    place = round(at * len(content))
    return content[:place] + content[place + size :]


def seconds_of(path):
    return len(load_audio(path)) / RATE


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "aac", "ac3"])
def test_one_packet_that_cannot_be_decoded_is_left_out_and_told(suffix, encoded, tmp_path, caplog):
    content, path = encoded(suffix), tmp_path / f"a.{suffix}"
    path.write_bytes(with_noise(content, 0.5, 60))
    caplog.clear()
    assert seconds_of(path) == pytest.approx(SECONDS, abs=0.3)
    told = re.search(r"a\.\w+: (\S+) s cannot be decoded, at (\S+) s", caplog.text)
    assert told is not None
    assert 0.01 < float(told[1]) < 0.15
    assert float(told[2]) == pytest.approx(SECONDS / 2, abs=1.5)
    length = len(load_audio(path))
    assert audio_info(path).num_samples == length == Recording(path).whole.num_samples


@pytest.mark.parametrize("suffix", ["mp3", "aac"])
def test_a_gap_of_a_download_is_left_out_and_told(suffix, encoded, tmp_path, caplog):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(with_gap(encoded(suffix), 0.3, 300))
    assert seconds_of(path) == pytest.approx(SECONDS, abs=0.3)
    assert "s cannot be decoded, at" in caplog.text


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x06\x0d\x40" + bytes(100_000 + 64)])
def test_recordings_that_were_joined_are_read_to_the_end(tag, encoded, samples, tmp_path, caplog):
    path = tmp_path / "joined.mp3"
    path.write_bytes(encoded("mp3") + tag + encoded("mp3", samples[: 10 * RATE]))
    assert seconds_of(path) == pytest.approx(SECONDS + 10, abs=0.3)
    assert "cannot be decoded, at 30" in caplog.text or not caplog.text


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "aac", "ac3"])
def test_more_than_one_per_cent_is_refused(suffix, encoded, tmp_path):
    content, path = bytearray(encoded(suffix)), tmp_path / f"a.{suffix}"
    middle, size = len(content) // 2, len(content) // 30
    content[middle : middle + size] = bytes(size)
    path.write_bytes(content)
    for read in (load_audio, audio_info, lambda path: Recording(path).whole):
        with pytest.raises(InputError, match=rf"a\.{suffix}: truncated or damaged \(.* s of 3"):
            read(path)


@pytest.mark.parametrize("suffix", ["m4a", "aac"])
def test_a_packet_at_the_end_is_no_gap_but_an_end(suffix, encoded, tmp_path):
    path = tmp_path / "a.aac"
    path.write_bytes(encoded("aac")[: -len(encoded("aac")) // 2 - 30])
    with pytest.raises(InputError, match="truncated or damaged"):
        load_audio(path)


def test_packets_that_are_gone_without_a_trace_are_seen_by_the_times(samples, tmp_path, caplog):
    """A clock wrote these times, so it may have been a pause: told, not refused."""
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libopus", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.repeat(samples, 3)[None], format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 48000, 0
        for number, packet in enumerate([*stream.encode(frame), *stream.encode(None)]):
            if not 500 <= number < 600:
                container.mux(packet)
    assert seconds_of(path) == pytest.approx(SECONDS - 2, abs=0.1)
    assert re.search(r"a\.mka: its times leave out 2(\.0\d)? s, at (9\.9|10\.0)", caplog.text)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_page_of_ogg_that_is_damaged(subtype, samples, tmp_path, caplog):
    path = tmp_path / "a.ogg"
    path.write_bytes(with_noise(ogg(np.tile(samples, 5), subtype), 0.5, 20))
    assert 0 < 5 * SECONDS - seconds_of(path) < 1.5
    told = re.search(r"a\.ogg: \S+ s cannot be decoded, at (\S+) s", caplog.text)
    assert told is not None
    assert float(told[1]) == pytest.approx(75, abs=4)
    assert audio_info(path).num_samples == len(load_audio(path))
    path.write_bytes(with_noise(ogg(samples, subtype), 0.5, 20))
    with pytest.raises(InputError, match="truncated or damaged"):
        load_audio(path)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("damage", [with_noise, with_gap])
@pytest.mark.parametrize("channels", [1, 2])
def test_of_flac_every_other_sample_stays_where_it_is(
    subtype, damage, channels, samples, tmp_path, caplog
):
    both = np.stack([samples, np.roll(samples, 999)][:channels], axis=1)
    path = tmp_path / "a.flac"
    path.write_bytes(flac(both, subtype))
    good = load_audio(path, channel=0)
    path.write_bytes(damage(flac(both, subtype), 0.6, 50))
    found = load_audio(path, channel=0)
    assert "a.flac: 0.256 s cannot be decoded, at 1" in caplog.text
    assert found.shape == good.shape
    (differ,) = np.nonzero(found != good)
    assert differ[-1] - differ[0] < 4096
    assert not found[differ].any()
    assert audio_info(path).num_samples == len(good)
    for start in (1000, differ[0] - 5000, differ[0] + 100, differ[-1] + 9000, len(good) - 3000):
        span = load_audio(path, channel=0, start=start, num_samples=3000)
        np.testing.assert_array_equal(span, found[start : start + 3000])


def test_flac_that_lost_more_is_refused_whatever_is_read_of_it(samples, tmp_path):
    content, path = bytearray(flac(samples)), tmp_path / "a.flac"
    middle, size = len(content) // 2, len(content) // 30
    content[middle : middle + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated or damaged"):
        load_audio(path)
    with pytest.raises(InputError, match="truncated or damaged"):
        load_audio(path, start=15 * RATE, num_samples=2 * RATE)


def test_joined_flac_is_read_to_its_end(samples, tmp_path):
    path = tmp_path / "joined.flac"
    path.write_bytes(flac(samples) + flac(samples[: 5 * RATE]))
    found = load_audio(path)
    assert len(found) == (SECONDS + 5) * RATE
    np.testing.assert_array_equal(found[SECONDS * RATE :], found[: 5 * RATE])
