"""Checks for parts of your own: they learn, and every runtime computes what torch trains.

Call them from a test of the package that adds the part::

    def test_my_vlad(tmp_path):
        check_encoder(tmp_path, pooling=Part("my_vlad", num_clusters=3))

The rows of this package are tested by the same functions. Each raises ``AssertionError`` and says
what differs; OpenVINO takes part where it is installed.
"""

import copy
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from speakervlad.config import EncoderConfig
from speakervlad.encoder.backends import GRAPH_NAME, OnnxBackend, probe_waveform
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.export import export_onnx
from speakervlad.encoder.openvino_backend import OpenVinoBackend
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.encoder.windows import Windows
from speakervlad.models.encoder import SpeakerClassifier, SpeakerEncoder
from speakervlad.models.folder import (
    build_classifier,
    build_encoder,
    load_encoder_folder,
    save_encoder,
)
from speakervlad.models.sums import PoolingSums
from speakervlad.schema import Part
from speakervlad.sound import SAMPLE_RATE

# Distance of unit vectors from those of torch.
TOLERANCE = 3e-5
# Samples: shorter than a frame, around borders of frames, several strides.
LENGTHS = (400, 511, 512, 1600, 5000, 16000, 16001, 40160, 77777)
STEPS = 20
SPEAKERS = 4
SOFTMAX = Part("softmax")


class Computed(NamedTuple):
    """An encoder as it was trained, and as every runtime computes it.

    Attributes:
        module: in evaluation mode.
        encoders: of torch, onnxruntime and, where it is installed, OpenVINO.
    """

    module: SpeakerEncoder
    encoders: Sequence[Encoder]


def small_encoder(seed: int = 0, **fields: Any) -> tuple[SpeakerEncoder, EncoderConfig]:  # noqa: ANN401
    """An encoder of 12 dimensions whose tests take seconds, and its config.

    Its batch norms have statistics as after a training, so that whoever ignores them is found out.

    Args:
        seed: of the start.
        fields: of ``EncoderConfig``, such as ``pooling=Part("my_vlad")``.
    """
    settings: dict[str, Any] = {
        "trunk": Part("thin_resnet34", width=0.125),
        "descriptor_dim": 16,
        "pooling": Part("netvlad", num_clusters=3, num_ghosts=1),
        "embedding_dim": 12,
        "embedding_relu": False,
    }
    torch.manual_seed(seed)
    config = EncoderConfig(**(settings | fields))
    encoder = build_encoder(config).eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return encoder, config


def export_small_encoder(folder: Path, seed: int = 0, **fields: Any) -> Computed:  # noqa: ANN401
    """``small_encoder`` through its files: a folder, and the exported graph in it."""
    save_encoder(folder, *small_encoder(seed, **fields), {})
    export_onnx(folder, folder / GRAPH_NAME, check_seconds=(0.1,))
    return open_runtimes(folder)


def open_runtimes(folder: Path) -> Computed:
    """An encoder folder with its ``model.onnx``, opened by every runtime."""
    module, _ = load_encoder_folder(folder)
    graph = folder / GRAPH_NAME
    backends = [TorchBackend(module, "cpu"), OnnxBackend(graph)]
    if importlib.util.find_spec("openvino") is not None:
        backends.append(OpenVinoBackend(graph, "float32"))
    return Computed(module, [Encoder(backend) for backend in backends])


def check_encoder(folder: Path, **fields: Any) -> None:  # noqa: ANN401
    """All of the checks below on ``small_encoder``, of which ``fields`` name the part to check.

    Args:
        folder: an empty one, for the encoder.
        fields: of ``EncoderConfig``.
    """
    computed = export_small_encoder(Path(folder), **fields)
    check_learning(computed.module)
    check_runtimes(computed)
    check_pooling_sums(computed.module)
    check_chunks(computed)
    check_windows(computed)
    check_enrolment(computed)


def check_loss(part: Part) -> None:
    """A loss lowers itself in training, and leaves out utterances without a speaker.

    Raises:
        AssertionError: otherwise; or its classes are not the rows of ``weight``, which alone is
            kept beside an encoder.
    """
    encoder, config = small_encoder()
    classifier = build_classifier(part, config.embedding_dim, SPEAKERS)
    _check(
        list(classifier.state_dict()) == ["weight"] and len(classifier.weight) == SPEAKERS,
        f"loss {part.kind}: its state must be `weight` alone, with a row for every speaker.",
    )
    embeddings = torch.randn(3, config.embedding_dim, generator=torch.Generator().manual_seed(0))
    whole = classifier(embeddings[:2], torch.tensor([0, 1]))
    partly = classifier(embeddings, torch.tensor([0, 1, -1]))
    for ours, expected in zip(partly, whole, strict=True):
        torch.testing.assert_close(
            ours, expected, msg=f"loss {part.kind}: a row whose speaker is -1 counts."
        )
    check_learning(encoder, part)


def check_learning(encoder: SpeakerEncoder, loss: Part = SOFTMAX) -> None:
    """Twenty steps on a quarter of a second of each of four voices lower the loss by 30 %."""
    torch.manual_seed(0)
    encoder = copy.deepcopy(encoder)
    model = SpeakerClassifier(encoder, build_classifier(loss, encoder.dim, SPEAKERS)).train()
    batch = np.stack([probe_waveform(0.25, seed) for seed in range(SPEAKERS)])
    waveforms, speakers = torch.from_numpy(batch), torch.arange(SPEAKERS)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = model(waveforms, speakers).value
        value.backward()
        optimizer.step()
        model.classifier.after_step()
        losses.append(value.item())
    _check(losses[-1] < 0.7 * losses[0], f"{STEPS} steps do not lower the loss enough: {losses}")


def check_runtimes(computed: Computed, lengths: Sequence[int] = LENGTHS) -> None:
    """Every runtime gives the unit vectors of the trained module, at so many samples each."""
    for length in lengths:
        waveform = probe_waveform(length / SAMPLE_RATE, seed=length)
        expected = _unit(computed.module, waveform)
        for encoder in computed.encoders:
            distance = float(np.linalg.norm(encoder.embed(waveform) - expected))
            _check(
                distance < TOLERANCE,
                f"{_name(encoder)} is {distance:.2g} away from torch at {length} samples.",
            )


def check_chunks(computed: Computed, seconds: float = 12.34567, chunk_frames: int = 11) -> None:
    """A recording in chunks of so many output frames gives what it gives in one pass.

    Encoders whose frames see the whole recording have no exact chunks, and pass.
    """
    waveform = probe_waveform(seconds)
    expected = _unit(computed.module, waveform)
    for encoder in computed.encoders:
        if encoder.backend.ends.context is None:
            continue
        in_chunks = Encoder(encoder.backend)
        in_chunks.frames.chunk_frames = chunk_frames
        np.testing.assert_allclose(
            in_chunks.embed(waveform), expected, atol=1e-5, err_msg=f"chunks in {_name(encoder)}"
        )


def check_pooling_sums(encoder: SpeakerEncoder) -> None:
    """Moments of the frames, added up in numpy in two parts, give the layer's ``forward``."""
    pooling = encoder.pooling
    frames = torch.randn(1, pooling.dim, 37, generator=torch.Generator().manual_seed(3))
    guide = None
    if pooling.guided:
        size = encoder.trunk.channels * encoder.trunk.num_rows
        guide = torch.randn(1, size, 37, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = pooling(frames, guide)[0].numpy()
        weights = pooling.weights(frames, guide)
        frames = pooling.moments_of(frames, guide)
    rows = None if weights is None else weights[0].numpy()
    sums = PoolingSums.empty(pooling.finish())
    for part in (slice(0, 11), slice(11, 37)):
        sums = sums.add(frames[0, :, part].numpy(), None if rows is None else rows[:, part])
    np.testing.assert_allclose(
        sums.finish(), expected, atol=1e-5, err_msg="`finish` does not say what `forward` does"
    )
    _check(sums.num_frames == 37, "frames were lost")


def check_windows(computed: Computed) -> None:
    """Sliding windows are the same in every runtime."""
    windows = Windows(1.6, 0.5)
    reference, *others = computed.encoders
    for waveform in _recordings():
        expected = reference.embed_windows(waveform, windows).vectors
        for encoder in others:
            np.testing.assert_allclose(
                encoder.embed_windows(waveform, windows).vectors,
                expected,
                atol=2e-5,
                err_msg=f"windows in {_name(encoder)}",
            )


def check_enrolment(computed: Computed) -> None:
    """Enrolment is the same in every runtime, and may go on later."""
    recordings = _recordings()
    expected = computed.encoders[0].enrol(recordings)
    for encoder in computed.encoders:
        enrolled = encoder.enrol(recordings)
        np.testing.assert_allclose(
            enrolled, expected, atol=2e-5, err_msg=f"enrolment in {_name(encoder)}"
        )
        total, *others = map(encoder.sums, recordings[1:])
        for other in others:
            total = total.merge(other)
        np.testing.assert_array_equal(encoder.finish(total), encoder.enrol(recordings[1:]))
        alone = encoder.enrol(recordings[:1])
        np.testing.assert_allclose(alone, encoder.embed(recordings[0]), atol=1e-6)


def _recordings() -> list[np.ndarray]:
    return [probe_waveform(each, seed=row) for row, each in enumerate((0.03, 1.0, 3.3, 0.7))]


def _unit(encoder: SpeakerEncoder, waveform: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return F.normalize(encoder(torch.from_numpy(waveform)[None]), dim=1)[0].numpy()


def _name(encoder: Encoder) -> str:
    return type(encoder.backend).__name__


def _check(is_right: bool, message: str) -> None:
    if not is_right:
        raise AssertionError(message)
