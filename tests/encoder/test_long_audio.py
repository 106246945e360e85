"""Long recordings: chunks give what one pass gives, in bounded memory."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from speakervlad.audio import decoding, recording
from speakervlad.audio.on_disk import FileWave, SpooledWave
from speakervlad.audio.reading import read_speech
from speakervlad.audio.recording import Recording
from speakervlad.audio.waves import MirroredWave, SampleWave
from speakervlad.config import EncoderConfig
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.encoder.windows import Windows
from speakervlad.errors import InputError
from speakervlad.models.folder import build_encoder, save_encoder
from speakervlad.models.pooling import GlobalAveragePooling, NetVLAD, StatisticsPooling
from speakervlad.models.sums import PoolingSums


def embedder_of(encoder, chunk_frames=10_000):
    embedder = Encoder(TorchBackend(encoder, "cpu"))
    embedder.frames.chunk_frames = chunk_frames
    return embedder


@pytest.fixture(scope="session")
def encoder_of(tiny_encoder):
    return lambda **changes: tiny_encoder(**changes)[0]


@pytest.mark.slow
def test_five_minutes_equal_one_pass_at_full_width(make_waveform):
    encoder = build_encoder(EncoderConfig())
    waveform = make_waveform(300.0)
    chunked = Encoder(TorchBackend(encoder, "cpu")).embed(waveform)
    np.testing.assert_allclose(chunked, embedder_of(encoder).embed(waveform), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "pooling",
    [
        NetVLAD(6, num_clusters=3, num_ghosts=2, vector_norm=True),
        GlobalAveragePooling(6),
        StatisticsPooling(6),
    ],
    ids=lambda pooling: type(pooling).__name__,
)
def test_sums_add_up_in_any_order(pooling):
    frames = torch.randn(1, 6, 20, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, begin = pooling(frames)[0].numpy(), pooling(frames[..., :7])[0].numpy()
        weights = pooling.weights(frames)
    parts = [
        (frames[0, :, part].numpy(), None if weights is None else weights[0, :, part].numpy())
        for part in (slice(0, 7), slice(7, 20))
    ]
    empty = PoolingSums.empty(pooling.finish())
    first, second = (empty.add(*part) for part in parts)
    assert second.merge(first).num_frames == 20
    for sums in (first.merge(second), second.merge(first), first.add(*parts[1])):
        np.testing.assert_allclose(sums.finish(), whole, atol=1e-5, rtol=1e-5)
    for sums in (first.merge(empty), empty.merge(first)):
        np.testing.assert_allclose(sums.finish(), begin, atol=1e-5, rtol=1e-5)


def test_empty_sums_have_no_vector():
    with pytest.raises(ValueError, match="no frames"):
        PoolingSums.empty(NetVLAD(4, num_clusters=2).finish()).finish()


def test_sums_of_different_poolings_are_not_merged():
    one = PoolingSums.empty(GlobalAveragePooling(4).finish()).add(np.ones((4, 3)))
    other = PoolingSums.empty(StatisticsPooling(4).finish()).add(np.ones((4, 3)))
    with pytest.raises(ValueError, match="different encoders"):
        one.merge(other)


def test_merged_recordings_embed_as_all_their_frames(encoder_of, make_waveform):
    encoder = encoder_of()
    embedder = embedder_of(encoder)
    recordings = [make_waveform(s, seed=i) for i, s in enumerate((1.0, 2.3, 0.7))]
    with torch.inference_mode():
        maps = [encoder.frames(torch.from_numpy(samples)[None]) for samples in recordings]
        frames, guide = (torch.cat(parts, dim=2) for parts in zip(*maps, strict=True))
        expected = encoder.projection(encoder.pooling(frames, guide))
        expected = torch.nn.functional.normalize(expected, dim=1)[0].numpy()
    np.testing.assert_allclose(embedder.enrol(recordings), expected, atol=1e-5)
    np.testing.assert_allclose(
        embedder.enrol(recordings[:1]), embedder.embed(recordings[0]), atol=1e-6
    )


def test_a_spectrogram_that_is_computed_twice_changes_nothing(
    encoder_of, make_waveform, monkeypatch
):
    """Features of long recordings are not kept from the pass that finds their statistics."""
    embedder, waveform = embedder_of(encoder_of(), chunk_frames=13), make_waveform(5.0)
    kept = embedder.embed(waveform)
    monkeypatch.setattr("speakervlad.encoder.frames.KEPT_SECONDS", 4)
    np.testing.assert_array_equal(embedder.embed(waveform), kept)


def test_nobody_is_enrolled_from_nothing(encoder_of):
    with pytest.raises(InputError, match="no recording"):
        embedder_of(encoder_of()).enrol([])


@pytest.mark.parametrize("chunk_frames", [10_000, 13])
def test_windows_pool_their_frames(encoder_of, make_waveform, chunk_frames):
    encoder = encoder_of()
    waveform = make_waveform(9.7)
    embedded = embedder_of(encoder, chunk_frames).embed_windows(waveform, Windows(1.6, 0.8))
    assert embedded.spans[2].tolist() == pytest.approx([1.6, 3.2])
    with torch.inference_mode():
        frames, guide = encoder.frames(torch.from_numpy(waveform)[None])
        part = slice(10, 20)
        expected = encoder.projection(encoder.pooling(frames[..., part], guide[..., part]))
        expected = torch.nn.functional.normalize(expected, dim=1)[0].numpy()
    np.testing.assert_allclose(embedded.vectors[2], expected, atol=5e-6)
    assert len(embedded.vectors) == len(embedded.spans) == 12


@pytest.mark.parametrize("seconds", [0.025, 0.1, 0.31, 1.49, 1.51, 2.26, 3.33])
def test_every_window_has_a_vector(encoder_of, make_waveform, seconds):
    embedder = embedder_of(encoder_of(), chunk_frames=5)
    vectors = embedder.embed_windows(make_waveform(seconds), Windows(0.2, 0.05)).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_mirror_reads_any_span(make_waveform):
    samples = make_waveform(0.1)
    mirrored = MirroredWave(SampleWave(samples))
    both = np.concatenate([samples, samples[::-1]])
    for start, stop in ((0, 3200), (10, 20), (1500, 1700), (1600, 1601), (1700, 3200)):
        np.testing.assert_array_equal(mirrored.read(start, stop), both[start:stop])


@pytest.fixture
def spans_from_one_second(monkeypatch):
    monkeypatch.setattr(recording, "MEMORY_SECONDS", 1)


@pytest.mark.parametrize("name", ["long.wav", "long.flac"])
def test_long_files_are_read_in_spans(encoder_of, spans_from_one_second, make_wav, tmp_path, name):
    path = make_wav(tmp_path / name, seconds=13.0)
    embedder = embedder_of(encoder_of(), chunk_frames=12)
    assert isinstance(Recording(path).wave, FileWave)
    samples, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(embedder.embed(path), embedder.embed(samples))


@pytest.fixture
def spooled_from_one_second(monkeypatch):
    monkeypatch.setattr(recording, "MEMORY_SECONDS", 1)
    monkeypatch.setattr(decoding, "BLOCK_FRAMES", 30_000)


@pytest.mark.parametrize("name", ["long.mp3", "long.ogg"])
def test_lossy_files_wait_on_disk(
    encoder_of, spooled_from_one_second, make_waveform, tmp_path, name
):
    path = tmp_path / name
    soundfile.write(path, make_waveform(13.0, rate=44100), 44100)
    wave, samples = Recording(path).wave, read_speech(path)
    assert isinstance(wave, SpooledWave)
    assert wave.num_samples == len(samples)
    for start, stop in ((0, 10), (70_000, 70_001), (1000, 200_000), (5, len(samples))):
        np.testing.assert_array_equal(wave.read(start, stop), samples[start:stop])
    embedder = embedder_of(encoder_of(), chunk_frames=12)
    np.testing.assert_array_equal(embedder.embed(path), embedder.embed(samples))
    np.testing.assert_array_equal(embedder.embed_files([path])[0], embedder.embed(samples))


def test_nothing_stays_on_disk(spooled_from_one_second, make_waveform, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "room"))
    (tmp_path / "room").mkdir()
    soundfile.write(tmp_path / "a.ogg", make_waveform(3.0), 16000)
    assert Recording(tmp_path / "a.ogg").wave.read(0, 48000).any()
    assert not list((tmp_path / "room").iterdir())


def test_no_room_for_samples_is_one_line(
    encoder_of, spooled_from_one_second, make_waveform, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    soundfile.write(tmp_path / "a.ogg", make_waveform(3.0), 16000)
    with pytest.raises(InputError, match=r"a\.ogg: .* cannot be kept in .*nowhere"):
        embedder_of(encoder_of()).embed(tmp_path / "a.ogg")


def test_long_silence_is_refused(encoder_of, spans_from_one_second, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(80000), 16000)
    with pytest.raises(InputError, match=r"silent\.wav: silent"):
        embedder_of(encoder_of(), chunk_frames=5).embed(tmp_path / "silent.wav")


def test_long_silence_on_disk_is_refused(encoder_of, spooled_from_one_second, tmp_path):
    soundfile.write(tmp_path / "silent.ogg", np.zeros(80000), 16000)
    with pytest.raises(InputError, match=r"silent\.ogg: silent"):
        embedder_of(encoder_of(), chunk_frames=5).embed(tmp_path / "silent.ogg")


# Not getrusage, whose peak a child inherits from its parent.
MEASURE = """
import re, sys
from pathlib import Path
from speakervlad.encoder.encoder import load_encoder
embedder = load_encoder(sys.argv[1], device="cpu")
embedder.embed(sys.argv[2])
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_duration(make_waveform, tmp_path):
    save_encoder(tmp_path / "encoder", build_encoder(EncoderConfig()), EncoderConfig(), {})
    peaks = []
    for minutes in (6, 9):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.tile(make_waveform(60.0), minutes), 16000)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path / "encoder"), str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 1500
    assert peaks[1] < peaks[0] + 100


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_memory_does_not_grow_with_lossy_files(make_waveform, tmp_path, suffix):
    # A minute at once would end the Vorbis encoder's stack.
    second = make_waveform(1.0, rate=44100)
    peaks = []
    for minutes in (6, 18):
        path = tmp_path / f"{minutes}.{suffix}"
        with soundfile.SoundFile(path, "w", 44100, 2) as file:
            for _ in range(60 * minutes):
                file.write(np.stack([second, second], axis=1))
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, "default", str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 500
    assert peaks[1] < peaks[0] + 50
