"""Exported graphs in chunks: what one pass gives, what torch gives, in flat memory."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from speakervlad.config import FrontEndConfig, PoolingConfig, TrunkConfig
from speakervlad.inference import exported
from speakervlad.inference.engine import Embedder, Windows
from speakervlad.inference.export import export_onnx
from speakervlad.inference.onnx_backend import OnnxBackend
from speakervlad.inference.pooling_sums import Pooling, empty_sums
from speakervlad.inference.pretrained import find_encoder
from speakervlad.inference.torch_backend import load_torch_backend

VARIANTS = {
    "as released": {},
    "mirrored": {"front_end": FrontEndConfig(mirror=True)},
    "mean over time": {"front_end": FrontEndConfig("log_mel", 40, "time_mean")},
    "deviation over time": {
        "front_end": FrontEndConfig("linear", normalise="time", mirror=True, min_seconds=0.8)
    },
    "not normalised": {"front_end": FrontEndConfig("log_mel", 40, "none")},
    "average of rows": {"pooling": PoolingConfig(kind="average"), "descriptor_dim": 0},
    "statistics": {"pooling": PoolingConfig(kind="statistics")},
    "strided trunk": {"trunk": TrunkConfig(kind="strided_thin_resnet34", width=0.125)},
    "standard trunk": {"trunk": TrunkConfig(kind="standard_resnet34", width=0.25)},
    "plain assignment": {"pooling": PoolingConfig(assignment="descriptors", vector_norm=True)},
    "normalised embedding": {"embedding_norm": True},
}


@pytest.fixture(scope="module", params=VARIANTS)
def both(request, save_tiny_encoder, tmp_path_factory):
    """One encoder in torch and as a graph."""
    folder = save_tiny_encoder(tmp_path_factory.mktemp("encoder"), **VARIANTS[request.param])
    export_onnx(folder, folder / "model.onnx", check_seconds=(0.1,))
    graph = OnnxBackend(folder / "model.onnx")
    return load_torch_backend(folder, "cpu", "float32"), graph


def in_short_chunks(graph, monkeypatch, chunk_frames=11):
    """Everything longer than 5 s in chunks of about 2 s."""
    monkeypatch.setattr(exported, "ONE_PIECE_SECONDS", 5)
    monkeypatch.setattr(graph._frames, "chunk_frames", chunk_frames)


def test_chunks_equal_one_pass(both, make_waveform, monkeypatch):
    graph = both[1]
    for seconds in (7.0, 12.34567):
        waveform = make_waveform(seconds)
        whole = Embedder(graph).embed(waveform)
        with monkeypatch.context() as patch:
            in_short_chunks(graph, patch)
            chunked = Embedder(graph).embed(waveform)
        np.testing.assert_allclose(chunked, whole, atol=5e-6)


def test_enrolment_equals_torch(both, make_waveform, monkeypatch):
    theirs, ours = map(Embedder, both)
    recordings = [make_waveform(s, seed=i) for i, s in enumerate((0.03, 1.0, 7.3, 0.7))]
    expected = theirs.enrol(recordings)
    np.testing.assert_allclose(ours.enrol(recordings), expected, atol=5e-6)
    in_short_chunks(both[1], monkeypatch)
    np.testing.assert_allclose(ours.enrol(recordings), expected, atol=5e-6)
    np.testing.assert_allclose(ours.enrol(recordings[1:2]), ours.embed(recordings[1]), atol=5e-6)


def test_enrolment_may_go_on_later(both, make_waveform):
    recordings = [make_waveform(s, seed=i) for i, s in enumerate((1.0, 2.3, 0.7))]
    for embedder in map(Embedder, both):
        total = embedder.sums(recordings[0])
        for recording in recordings[1:]:
            total = total.merge(embedder.sums(recording))
        np.testing.assert_array_equal(embedder.finish(total), embedder.enrol(recordings))


def test_windows_equal_torch(both, make_waveform, monkeypatch):
    theirs, ours = map(Embedder, both)
    windows = Windows(1.6, 0.5)
    for seconds in (0.03, 1.49, 9.7):
        waveform = make_waveform(seconds)
        expected = theirs.embed_windows(waveform, windows).vectors
        np.testing.assert_allclose(
            ours.embed_windows(waveform, windows).vectors, expected, atol=5e-6
        )
    in_short_chunks(both[1], monkeypatch, chunk_frames=13)
    np.testing.assert_allclose(ours.embed_windows(waveform, windows).vectors, expected, atol=5e-6)


def test_five_minutes_equal_one_pass(make_waveform, monkeypatch):
    embedder = Embedder(OnnxBackend(find_encoder("default") / "model.onnx"))
    waveform = make_waveform(300.0)
    chunked = embedder.embed(waveform)
    monkeypatch.setattr(exported, "ONE_PIECE_SECONDS", 301)
    np.testing.assert_allclose(chunked, embedder.embed(waveform), rtol=0, atol=1e-4)


def test_notes_of_a_pooling_come_back():
    pooling = Pooling("netvlad", 1e-6, np.eye(2, 3, dtype=np.float32), True)
    again = Pooling.from_json(pooling.to_json())
    np.testing.assert_array_equal(again.centers, pooling.centers)
    assert again._replace(centers=0) == pooling._replace(centers=0)


def test_no_frames_have_no_vector():
    with pytest.raises(ValueError, match="no frames"):
        empty_sums(Pooling("average")).finish()


# Not getrusage, whose peak a child inherits from its parent.
MEASURE = """
import re, sys
from pathlib import Path
from speakervlad.inference.engine import Windows, load_encoder
load_encoder().embed(sys.argv[1])
load_encoder().embed_windows(sys.argv[1], Windows(1.5, 0.75))
assert "torch" not in sys.modules
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_duration(make_waveform, tmp_path):
    peaks = []
    for minutes in (6, 12):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.tile(make_waveform(60.0), minutes), 16000)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 500
    assert peaks[1] < peaks[0] + 50
