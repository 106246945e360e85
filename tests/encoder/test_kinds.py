"""Every kind of encoder learns, and computes in every runtime what the trained module does."""

import copy
import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.runtimes import OnnxBackend, OpenVinoBackend, TorchBackend
from speakervlad.encoder.windows import Windows
from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.models.folder import build_classifier, load_encoder_folder
from speakervlad.models.pooling import POOLINGS
from speakervlad.models.sums import PoolingSums
from speakervlad.models.trunks import TRUNKS
from speakervlad.schema import Part

LENGTHS = (400, 511, 512, 1600, 5000, 16000, 16001, 40160, 77777)
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.fixture(scope="module")
def kind(exported_kind):
    """The trained module, and an embedder of each runtime."""
    encoder, _ = load_encoder_folder(exported_kind)
    graph = exported_kind / "model.onnx"
    backends = [TorchBackend(encoder, "cpu"), OnnxBackend(graph)]
    if HAS_OPENVINO:
        backends.append(OpenVinoBackend(graph, "float32"))
    return encoder, [Encoder(backend) for backend in backends]


def unit(encoder, waveform):
    with torch.inference_mode():
        return F.normalize(encoder(torch.from_numpy(waveform)[None]), dim=1)[0].numpy()


@pytest.fixture
def batch(make_waveform):
    """A quarter of a second of each of four speakers."""
    waveforms = np.stack([make_waveform(0.25, seed) for seed in range(4)])
    return torch.from_numpy(waveforms), torch.arange(4)


def test_twenty_steps_lower_the_loss(kind, batch):
    torch.manual_seed(0)
    encoder = copy.deepcopy(kind[0])
    model = SpeakerClassifier(encoder, build_classifier(Part("softmax"), encoder.dim, 4)).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(*batch).value
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_trunk_stands_under_every_pooling(trunk, pooling, small_trunk, tiny_encoder, batch):
    encoder, _ = tiny_encoder(trunk=small_trunk(trunk), pooling=Part(pooling))
    embeddings = encoder.train()(batch[0])
    assert embeddings.shape == (4, 12)
    embeddings.square().sum().backward()
    gradients = [parameter.grad for parameter in encoder.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_every_runtime_equals_the_trained_module(kind, make_waveform):
    encoder, embedders = kind
    for length in LENGTHS:
        waveform = make_waveform(length / 16000, seed=length)
        expected = unit(encoder, waveform)
        for embedder in embedders:
            distance = np.linalg.norm(embedder.embed(waveform) - expected)
            assert distance < 3e-5, (length, type(embedder.backend).__name__)


@pytest.mark.parametrize("seconds", [7.0, 11.111, 12.34567])
def test_chunks_equal_one_pass(kind, make_waveform, monkeypatch, seconds):
    encoder, embedders = kind
    waveform = make_waveform(seconds)
    expected = unit(encoder, waveform)
    for embedder in embedders:
        if embedder.backend.ends.context is None:
            pytest.skip("every frame sees the whole recording: there are no exact chunks")
        monkeypatch.setattr(embedder.frames, "chunk_frames", 11)
        np.testing.assert_allclose(embedder.embed(waveform), expected, atol=1e-5)


def test_numpy_pools_as_the_layer_does(kind):
    encoder, _ = kind
    pooling = encoder.pooling
    frames = torch.randn(1, pooling.dim, 37, generator=torch.Generator().manual_seed(3))
    guide = None
    if pooling.guided:
        size = encoder.trunk.channels * encoder.trunk.num_rows
        guide = torch.randn(1, size, 37, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = pooling(frames, guide)[0].numpy()
        weights = pooling.weights(frames, guide)
    weights = None if weights is None else weights[0].numpy()
    sums = PoolingSums.empty(pooling.finish())
    for part in (slice(0, 11), slice(11, 37)):
        sums = sums.add(frames[0, :, part].numpy(), None if weights is None else weights[:, part])
    np.testing.assert_allclose(sums.finish(), expected, atol=1e-5)
    assert sums.num_frames == 37


def test_enrolment_and_windows_agree_between_runtimes(kind, make_waveform):
    _, (reference, *others) = kind
    recordings = [make_waveform(s, seed=i) for i, s in enumerate((0.03, 1.0, 3.3, 0.7))]
    enrolled = reference.enrol(recordings)
    windows = Windows(1.6, 0.5)
    spans = [reference.embed_windows(waveform, windows).vectors for waveform in recordings]
    for embedder in others:
        np.testing.assert_allclose(embedder.enrol(recordings), enrolled, atol=2e-5)
        for waveform, expected in zip(recordings, spans, strict=True):
            ours = embedder.embed_windows(waveform, windows).vectors
            np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_enrolment_may_go_on_later(kind, make_waveform):
    recordings = [make_waveform(s, seed=i) for i, s in enumerate((1.0, 2.3, 0.7))]
    for embedder in kind[1]:
        total = embedder.sums(recordings[0])
        for recording in recordings[1:]:
            total = total.merge(embedder.sums(recording))
        np.testing.assert_array_equal(embedder.finish(total), embedder.enrol(recordings))
        alone = embedder.enrol(recordings[:1])
        np.testing.assert_allclose(alone, embedder.embed(recordings[0]), atol=1e-6)
