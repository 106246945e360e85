"""An encoder as one ONNX graph, waveform in, unit embedding out, written layer by layer.

Nothing is traced: every length and batch size takes the same path, whatever torch's exporters do.

For long audio, enrolment and windows it has doors inside: values to ask for, constants to replace.
They stay shut for whoever opens the file as it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from speakervlad.models.encoder import ColumnDescriptors, SpeakerEncoder
from speakervlad.models.frontend import NORM_EPSILON, LogMelSpectrogram, ShortTimeFourier
from speakervlad.models.pooling import (
    L2_EPSILON,
    VARIANCE_FLOOR,
    NetVLAD,
    StatisticsPooling,
)
from speakervlad.models.resnet import Bottleneck, BottleneckResNet
from speakervlad.models.standard_resnet import BasicBlock, StandardResNet34

OPSET = 17
INPUT, OUTPUT = "waveform", "embedding"
ALL_FRAMES = np.iinfo(np.int64).max


class Graph:
    """Nodes and constants as they are added; values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.doors = onnx.GraphProto()

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 - as onnx takes them
        """Add a node; returns the name of its output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: object) -> str:
        """Add a constant: floats become float32, integers int64."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def entry(self, name: str, value: np.ndarray, shape: Sequence[str | int]) -> str:
        """Add a constant that another value of that shape may replace."""
        self.constants.append(numpy_helper.from_array(value, name))
        kind = self.constants[-1].data_type
        self.doors.input.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def given(self, name: str, own: str, shape: Sequence[str | int]) -> str:
        """What is given from outside under a name, or else the own value."""
        nothing = np.full([1 if isinstance(n, str) else n for n in shape], np.nan, np.float32)
        given = self.entry(name, nothing, shape)
        return self.add("Where", self.add("IsNaN", given), own, given)

    def exit(self, name: str, value: str, shape: Sequence[str | int]) -> str:
        """Let the newest value be asked for by a name."""
        self.doors.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self.named(name, value)

    def named(self, name: str, value: str) -> str:
        """Give the newest value a name of its own."""
        assert self.nodes[-1].output[0] == value
        self.nodes[-1].output[0] = name
        return name

    def mean(self, value: str, axis: int, *, keep: bool = True) -> str:
        return self.add("ReduceMean", value, axes=[axis], keepdims=int(keep))

    def slice(self, value: str, start: int, stop: int, axis: int) -> str:
        ends = (self.constant([start]), self.constant([stop]), self.constant([axis]))
        return self.add("Slice", value, *ends)

    def unit(self, value: str, axis: int) -> str:
        """Divide by the L2 norm, as ``F.normalize``."""
        norm = self.add("ReduceL2", value, axes=[axis], keepdims=1)
        return self.add("Div", value, self.add("Max", norm, self.constant(L2_EPSILON)))


def build_graph(folded: SpeakerEncoder) -> tuple[onnx.ModelProto, bytes]:
    """The ONNX model of an encoder whose batch norms are folded, and the doors inside it.

    Returns:
        The model, and what makes its doors inputs and outputs when it follows the model's bytes:
        the messages of protocol buffers, one after the other, are parsed as their sum. Doors in:
        ``extend`` 0 takes the samples as they are, neither mirrored nor repeated; ``limit`` is how
        many spectrogram frames enter the trunk; ``mean`` and ``deviation`` (1, bins, 1) normalise
        over time; ``pooled`` (rows, out) takes the place of what was pooled. Doors out:
        ``features`` (batch, bins, frames), not normalised, ``frames`` (batch, dim, frames) and the
        ``weights`` (batch, clusters, frames) of NetVLAD.
    """
    graph = Graph()
    spectrogram = _front_end(graph, folded.front_end, INPUT)
    feature_map = _trunk(graph, folded.trunk, spectrogram)
    frames = _descriptors(graph, folded, feature_map)
    guide = frames
    if folded.guide:
        channels = folded.trunk.channels * folded.trunk.num_rows
        guide = graph.add("Reshape", feature_map, graph.constant([0, channels, -1]))
    pooled = _pooling(graph, folded.pooling, frames, guide)
    pooled = graph.given("pooled", pooled, ("rows", folded.pooling.out_dim))
    embedding = _projection(graph, folded, pooled)
    graph.named(OUTPUT, graph.unit(embedding, 1))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "speakervlad",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", "samples"])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", folded.dim])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    return model, onnx.ModelProto(graph=graph.doors).SerializeToString()


def _front_end(graph: Graph, front_end: ShortTimeFourier, waveform: str) -> str:
    """|STFT| as one strided convolution with the windowed Fourier basis; mel; normalisation."""
    signal = _extend(graph, front_end, waveform)
    half = front_end.n_fft // 2
    pads = graph.constant([0, half, 0, half])
    signal = graph.add("Pad", signal, pads, mode="reflect")
    signal = graph.add("Unsqueeze", signal, graph.constant([1]))
    basis = graph.constant(fourier_basis(front_end))
    spectrum = graph.add("Conv", signal, basis, strides=[front_end.hop_length])
    squares = graph.add("Mul", spectrum, spectrum)
    bins = half + 1
    real, imaginary = (graph.slice(squares, i * bins, (i + 1) * bins, 1) for i in (0, 1))
    powers = graph.add("Add", real, imaginary)
    if isinstance(front_end, LogMelSpectrogram):
        mel = graph.add("MatMul", graph.constant(front_end.filters), powers)
        features = graph.add("Log", graph.add("Add", mel, graph.constant(front_end.log_floor)))
    else:
        features = graph.add("Sqrt", powers)
    features = graph.exit("features", features, ("batch", front_end.num_bins, "frames"))
    limit = graph.entry("limit", np.array([ALL_FRAMES], np.int64), (1,))
    features = graph.add("Slice", features, graph.constant([0]), limit, graph.constant([2]))
    return _normalise(graph, front_end, features)


def fourier_basis(front_end: ShortTimeFourier) -> np.ndarray:
    """(2 * bins, 1, n_fft): cosines, then sines, under the window centred in ``n_fft``."""
    size = front_end.n_fft
    window = front_end.window.double().cpu().numpy()
    left = (size - len(window)) // 2
    window = np.pad(window, (left, size - len(window) - left))
    angles = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size
    return np.concatenate([np.cos(angles) * window, np.sin(angles) * window])[:, None]


def _extend(graph: Graph, front_end: ShortTimeFourier, signal: str) -> str:
    """Mirror if asked for; repeat what is shorter than the least length."""
    extend = graph.entry("extend", np.array(1, np.int64), ())
    length = graph.add("Gather", graph.add("Shape", signal), graph.constant(1))
    period = length
    if front_end.mirror:
        period = graph.add("Add", length, graph.add("Mul", length, extend))
    shortest = graph.add("Mul", graph.constant(front_end.min_samples), extend)
    longer = graph.add("Max", period, shortest)
    positions = graph.add("Range", graph.constant(0), longer, graph.constant(1))
    positions = graph.add("Mod", positions, period)
    if front_end.mirror:
        last = graph.add("Sub", graph.add("Add", length, length), graph.constant(1))
        positions = graph.add("Min", positions, graph.add("Sub", last, positions))
    return graph.add("Gather", signal, positions, axis=1)


def _normalise(graph: Graph, front_end: ShortTimeFourier, features: str) -> str:
    kind = front_end.normalisation
    if kind == "none":
        return features
    axis = 1 if kind == "frequency" else 2
    mean = graph.mean(features, axis)
    if axis == 2:
        mean = graph.given("mean", mean, (1, front_end.num_bins, 1))
    centred = graph.add("Sub", features, mean)
    if kind == "time_mean":
        return centred
    deviation = graph.add("Sqrt", graph.mean(graph.add("Mul", centred, centred), axis))
    if axis == 2:
        deviation = graph.given("deviation", deviation, (1, front_end.num_bins, 1))
    return graph.add("Div", centred, graph.add("Add", deviation, graph.constant(NORM_EPSILON)))


def _trunk(graph: Graph, trunk: BottleneckResNet | StandardResNet34, spectrogram: str) -> str:
    image = graph.add("Unsqueeze", spectrogram, graph.constant([1]))
    stem = _constants(graph, (trunk.stem.weight, trunk.stem.bias))
    strides = list(trunk.stem.stride)
    image = graph.add("Conv", image, *stem, strides=strides, auto_pad="SAME_UPPER")
    image = graph.add("Relu", image)
    bottlenecks = isinstance(trunk, BottleneckResNet)
    if bottlenecks and trunk.stem_pool:
        image = graph.add("MaxPool", image, kernel_shape=[2, 2], strides=[2, 2])
    for block in trunk.modules():
        if isinstance(block, Bottleneck):
            image = _block(graph, (block.reduce, block.conv, block.increase), block.shortcut, image)
        elif isinstance(block, BasicBlock):
            image = _block(graph, (block.conv1, block.conv2), block.shortcut, image)
    if bottlenecks:
        image = graph.add("MaxPool", image, kernel_shape=[3, 1], strides=[2, 1])
    return image


def _block(graph: Graph, layers: Sequence[nn.Module], shortcut: nn.Sequential, image: str) -> str:
    inner = image
    for layer in layers[:-1]:
        inner = graph.add("Relu", _convolution(graph, layer, inner))
    inner = _convolution(graph, layers[-1], inner)
    if len(shortcut):
        image = _convolution(graph, shortcut.get_submodule("0"), image)
    return graph.add("Relu", graph.add("Add", inner, image))


def _convolution(graph: Graph, layer: nn.Module, image: str) -> str:
    assert isinstance(layer, nn.Conv2d)
    assert isinstance(layer.padding, tuple)
    weights = [graph.constant(layer.weight)]
    if layer.bias is not None:
        weights.append(graph.constant(layer.bias))
    pads = [*layer.padding, *layer.padding]
    return graph.add("Conv", image, *weights, strides=list(layer.stride), pads=pads)


def _descriptors(graph: Graph, encoder: SpeakerEncoder, feature_map: str) -> str:
    if isinstance(encoder.descriptors, ColumnDescriptors):
        frames = graph.add("Relu", _convolution(graph, encoder.descriptors.linear, feature_map))
        frames = graph.add("Squeeze", frames, graph.constant([2]))
    else:
        frames = graph.mean(feature_map, 2, keep=False)
    return graph.exit("frames", frames, ("batch", encoder.descriptors.dim, "columns"))


def _pooling(graph: Graph, pooling: nn.Module, frames: str, guide: str) -> str:
    if isinstance(pooling, NetVLAD):
        return _vlad(graph, pooling, frames, guide)
    if not isinstance(pooling, StatisticsPooling):
        return graph.mean(frames, 2, keep=False)
    mean = graph.mean(frames, 2)
    centred = graph.add("Sub", frames, mean)
    variance = graph.mean(graph.add("Mul", centred, centred), 2, keep=False)
    deviation = graph.add("Sqrt", graph.add("Add", variance, graph.constant(VARIANCE_FLOOR)))
    return graph.add("Concat", graph.mean(frames, 2, keep=False), deviation, axis=1)


def _vlad(graph: Graph, pooling: NetVLAD, frames: str, guide: str) -> str:
    layer = pooling.assignment
    parameters = _constants(graph, (layer.weight, layer.bias))
    weights = graph.add("Softmax", graph.add("Conv", guide, *parameters), axis=1)
    weights = graph.slice(weights, 0, pooling.num_clusters, 1)
    weights = graph.exit("weights", weights, ("batch", pooling.num_clusters, "columns"))
    sums = graph.add("MatMul", weights, graph.add("Transpose", frames, perm=[0, 2, 1]))
    totals = graph.add("ReduceSum", weights, graph.constant([2]), keepdims=1)
    moved = graph.add("Mul", totals, graph.constant(pooling.centers))
    residuals = graph.add("Sub", sums, moved)
    if pooling.intra_norm:
        residuals = graph.unit(residuals, 2)
    vector = graph.add("Flatten", residuals, axis=1)
    return graph.unit(vector, 1) if pooling.vector_norm else vector


def _projection(graph: Graph, encoder: SpeakerEncoder, pooled: str) -> str:
    projection = encoder.projection
    parameters = _constants(graph, (projection.linear.weight, projection.linear.bias))
    embedding = graph.add("Gemm", pooled, *parameters, transB=1)
    if projection.relu:
        embedding = graph.add("Relu", embedding)
    norm = projection.norm
    if isinstance(norm, nn.BatchNorm1d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        centred = graph.add("Sub", embedding, graph.constant(norm.running_mean))
        scale = (norm.running_var + norm.eps).rsqrt()
        embedding = graph.add("Mul", centred, graph.constant(scale))
    return embedding


def _constants(graph: Graph, values: Sequence[object]) -> list[str]:
    return [graph.constant(value) for value in values]
