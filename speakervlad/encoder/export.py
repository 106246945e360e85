"""Encoder folders to single ONNX files that run without torch."""

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from speakervlad.audio.waves import SampleWave
from speakervlad.config import CALIBRATION_NAME, THRESHOLDS_NAME, WEIGHTS_NAME, encoder_values
from speakervlad.encoder.backends import (
    FORMAT,
    FRAMES,
    INPUT,
    SHARING_GRAPH_NAME,
    TOLERANCES,
    WEIGHTS,
    OnnxBackend,
    constants_in,
    probe_waveform,
    weights_digest,
)
from speakervlad.encoder.frames import Ends, FrameEncoder
from speakervlad.encoder.network import Network
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.models.folder import load_encoder_folder
from speakervlad.models.frontend import normalise, same_padding
from speakervlad.onnx import onnxruntime
from speakervlad.sound import SAMPLE_RATE

CHECK_SECONDS = tuple(np.geomspace(0.1, 60, 20).tolist())
# Frames of the example that is traced; the length stays dynamic.
TRACED_FRAMES = 201
QUANTISED = ("Conv", "Relu", "Add", "MaxPool")
# Smaller constants stay in a graph that shares the encoder's weights.
SHARED_SIZE = 16
# Seconds of a recording that calibration uses: more hardly changes the ranges of activations.
CALIBRATION_SECONDS = 5
# Recordings of a calibration on which a graph in 8-bit integers is compared with torch.
COMPARED = 16


def export_onnx(
    folder: str | Path,
    out: str | Path,
    *,
    check_seconds: tuple[float, ...] = CHECK_SECONDS,
    calibration: Sequence[np.ndarray] | None = None,
) -> float:
    """Write an encoder as one ONNX file and compare it with torch.

    The graph takes a padded spectrogram (1, bins, frames) to descriptors and pooling weights. What
    is around it (see ``Ends``), the encoder's config, its thresholds and the embedding of a known
    signal, by which a runtime can check itself, travel as metadata; arrays, as constant outputs.

    A file named ``graph.onnx`` in the encoder's own folder holds no weights: it takes them from
    ``model.safetensors`` beside it, so that one file of weights serves torch and the graph.

    Args:
        folder: the encoder folder.
        out: the file to write; it appears only when the check has passed.
        check_seconds: lengths of noise at which both are compared, if there is no calibration.
        calibration: waveforms, float32 (samples,); with them the trunk computes in 8-bit integers,
            whose ranges are those that the waveforms need.

    Returns:
        The largest distance between an embedding of torch and of the file; of 8-bit integers the
        median over the first waveforms of the calibration, as their ranges hold for such sound.

    Raises:
        InputError: the folder is damaged, torch cannot export the network, or the file does not
            compute what torch computes.
    """
    folder, out = Path(folder), Path(out)
    encoder, config = load_encoder_folder(folder)
    backend = TorchBackend(encoder, "cpu")
    shares = out.name == SHARING_GRAPH_NAME
    if shares and (calibration is not None or out.parent.resolve() != folder.resolve()):
        raise InputError(
            f"{out}: a file of this name has no weights of its own and lies in the encoder's "
            "folder, in float32. Choose another name."
        )
    network = Network(encoder, fold=not shares)
    model = trace(network, backend.ends.front_end.num_bins, str(folder), optimise=not shares)
    if calibration is None:
        precision, compare = "float32", partial(largest_distance, check_seconds=check_seconds)
    else:
        precision, compare = "int8", partial(typical_distance, waveforms=calibration[:COMPARED])
        model = quantise(model, calibration, backend.ends)
    for name, array in backend.ends.arrays().items():
        _add_constant_output(model.graph, name, array)
    reference = FrameEncoder(backend.ends, backend.describe)
    notes = {
        "format": FORMAT,
        "precision": precision,
        "config": json.dumps(encoder_values(config)),
        "ends": backend.ends.to_notes(),
        "weights": weights_digest(folder) or "",
    }
    for name in (THRESHOLDS_NAME, CALIBRATION_NAME):
        if (folder / name).is_file():
            notes[name] = (folder / name).read_text(encoding="utf-8")
    helper.set_model_props(model, notes)
    notes["check"] = json.dumps(_known_embedding(model, reference, precision).tolist())
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    if shares:
        remove_zero_biases(model.graph)
        share_constants(model.graph, encoder.state_dict())

    weights = folder / WEIGHTS_NAME if shares else None

    def check(written: Path) -> float:
        exported = OnnxBackend(written, weights=weights)
        ours = FrameEncoder(exported.ends, exported.describe)
        return compare(reference, ours)

    return save_model(model, out, check, TOLERANCES[precision])


def _known_embedding(model: onnx.ModelProto, reference: FrameEncoder, precision: str) -> np.ndarray:
    """(dim,) what a runtime shall give of a known signal: what torch does, or 8 bits do here."""
    known = SampleWave(probe_waveform(1.0))
    if precision == "float32":
        return reference.embed(known)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        backend = OnnxBackend(path)
        return FrameEncoder(backend.ends, backend.describe).embed(known)


def save_model(
    model: onnx.ModelProto, out: Path, check: Callable[[Path], float], tolerance: float
) -> float:
    """Write a model, which appears under its name once it has passed a check.

    Args:
        model: what is written.
        out: the file.
        check: how far embeddings of the file are from torch's.
        tolerance: how far they may be.

    Returns:
        What the check returns.

    Raises:
        InputError: it is more than that.
    """
    with atomic_path(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
        worst = check(temporary)
        if not worst <= tolerance:
            raise InputError(f"{out}: the exported graph is {worst:.2g} away from torch.")
    return worst


def trace(
    network: nn.Module, num_bins: int, where: str, *, optimise: bool = True, batched: bool = False
) -> onnx.ModelProto:
    """The network as a graph of any length, by torch's exporter.

    Args:
        network: what is exported.
        num_bins: rows of a spectrogram.
        where: names the encoder, for messages.
        optimise: let the exporter merge nodes, which changes constants.
        batched: of any number of spectrograms; of one without.

    Raises:
        InputError: torch cannot export it.
    """
    example = torch.zeros(2 if batched else 1, num_bins, TRACED_FRAMES)
    axes = (0, 2) if batched else (2,)
    names = [FRAMES, WEIGHTS][: 1 + (network(example)[1] is not None)]
    return to_onnx(network, example, axes, ([INPUT], names), where, optimise=optimise)


def to_onnx(
    network: nn.Module,
    example: torch.Tensor,
    axes: Sequence[int],
    names: tuple[list[str], list[str]],
    where: str,
    *,
    optimise: bool = True,
) -> onnx.ModelProto:
    """A network of one input by torch's exporter.

    Args:
        network: what is exported.
        example: its input.
        axes: of the input, whose sizes stay open.
        names: of inputs and outputs.
        where: names the encoder, for messages.
        optimise: let the exporter merge nodes, which changes constants.

    Raises:
        InputError: torch cannot export it.
    """
    # By position: networks name what they are given as they like.
    dynamic = (dict.fromkeys(axes, torch.export.Dim.DYNAMIC),)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(network, (example,), dynamic_shapes=dynamic)
            exported = torch.onnx.export(
                program,
                input_names=names[0],
                output_names=names[1],
                verbose=False,
                optimize=optimise,
            )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{where}: torch cannot export this network ({reason}).") from error
    assert exported is not None
    return exported.model_proto


def remove_zero_biases(graph: onnx.GraphProto) -> None:
    """Take out the biases of zeros that torch's exporter computes for convolutions without any.

    With a bias that is no constant onnxruntime merges no batch norm into the convolution before it,
    which costs a third of the time of the encoder that ships.
    """
    makers = {name: node for node in graph.node for name in node.output}
    constants = {one.name: one for one in graph.initializer}

    def is_zero(name: str) -> bool:
        while name in makers and makers[name].op_type in ("Expand", "Cast", "CastLike"):
            name = makers[name].input[0]
        if name in makers and makers[name].op_type == "Constant":
            attribute = makers[name].attribute[0]
            value = helper.get_attribute_value(attribute)
            array = numpy_helper.to_array(value) if attribute.HasField("t") else np.asarray(value)
        elif name in constants:
            array = numpy_helper.to_array(constants[name])
        else:
            return False
        return not array.any()

    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and is_zero(node.input[2]):
            del node.input[2]
    _remove_unused(graph)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Take out nodes and constants that nothing is computed from."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [one for one in graph.initializer if one.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def share_constants(graph: onnx.GraphProto, state: Mapping[str, torch.Tensor]) -> None:
    """Take out the constants that are weights of the encoder; nodes name the weights instead."""
    known = {_content(state[name].float().numpy()): name for name in constants_in(state)}
    kept, renamed = [], {}
    for constant in graph.initializer:
        array = numpy_helper.to_array(constant)
        key = known.get(_content(array)) if array.size > SHARED_SIZE else None
        if key is None or state[key].shape != array.shape:
            kept.append(constant)
        else:
            renamed[constant.name] = key
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        del node.metadata_props[:]


def _content(array: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).digest()


def quantise(
    model: onnx.ModelProto, waveforms: Sequence[np.ndarray], ends: Ends
) -> onnx.ModelProto:
    """The graph with its trunk's weights and activations in 8 bits, statically.

    Weights are symmetric, with a scale for every output channel, and have 7 bits: processors
    without VNNI sum pairs of 8-bit products in 16 bits, where they saturate. Activations are
    asymmetric, their ranges the smallest and largest values that the waveforms bring about. Pooling
    weights, sums and projection stay in float32.

    Args:
        model: what ``trace`` returns.
        waveforms: some dozens of typical recordings, float32 (samples,) each.
        ends: what is around the graph.
    """
    onnxruntime()
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Spectrograms(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = _spectrograms(waveforms, ends)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore
            return next(self.feeds, None)

    # The quantiser warns about graphs that its own preparation has not seen.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised.onnx"
        quantize_static(
            model,
            out,
            Spectrograms(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_quantize=trunk_nodes(model),
        )
        return onnx.load(out)


def trunk_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the first convolution to the last before the pooling layer's own."""
    nodes = model.graph.node
    places = [
        place
        for place, node in enumerate(nodes)
        if node.op_type == "Conv" and "'pooling" not in _modules_of(node)
    ]
    span = nodes[places[0] : places[-1] + 1]
    return [node.name for node in span if node.op_type in QUANTISED]


def _modules_of(node: onnx.NodeProto) -> str:
    """Names of the modules that a node comes from, as torch's exporter notes them."""
    notes = {note.key: note.value for note in node.metadata_props}
    return notes.get("pkg.torch.onnx.name_scopes", "")


def largest_distance(
    one: FrameEncoder, other: FrameEncoder, check_seconds: tuple[float, ...]
) -> float:
    """The largest Euclidean distance between two encoders' unit vectors of the same signals."""
    waves = [SampleWave(probe_waveform(seconds)) for seconds in check_seconds]
    return max(_distances(one, other, waves))


def typical_distance(
    one: FrameEncoder, other: FrameEncoder, waveforms: Sequence[np.ndarray]
) -> float:
    """The median distance between two encoders' unit vectors of the same recordings."""
    waves = [SampleWave(_beginning(waveform)) for waveform in waveforms]
    return float(np.median(_distances(one, other, waves)))


def _distances(one: FrameEncoder, other: FrameEncoder, waves: list[SampleWave]) -> list[float]:
    return [float(np.linalg.norm(one.embed(wave) - other.embed(wave))) for wave in waves]


def _beginning(waveform: np.ndarray) -> np.ndarray:
    """float32 (samples,): what calibration uses of a recording."""
    return waveform[: CALIBRATION_SECONDS * SAMPLE_RATE].astype(np.float32)


def _spectrograms(waveforms: Sequence[np.ndarray], ends: Ends) -> Iterator[dict[str, np.ndarray]]:
    for waveform in waveforms:
        features = ends.front_end.features(_beginning(waveform))
        features = normalise(features, ends.front_end.normalise)
        around = same_padding(features.shape[1], *ends.stem_padding)
        yield {INPUT: np.pad(features, ((0, 0), around))[None]}


def _add_constant_output(graph: onnx.GraphProto, name: str, array: np.ndarray) -> None:
    graph.initializer.append(numpy_helper.from_array(array, f"{name}_value"))
    graph.node.append(helper.make_node("Identity", [f"{name}_value"], [name]))
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
