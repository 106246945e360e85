"""An exported graph's trunk in 8-bit integers."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.inference.onnx_graph import INPUT

OPERATORS = ("Conv", "Relu", "Add", "MaxPool")
# What calibration sees of a recording: its activations hardly change after that.
CALIBRATION_SECONDS = 5
# The quantiser warns about graphs that its own preparation has not seen; ours is folded already.
PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


class _Waveforms(CalibrationDataReader):
    """The beginnings of waveforms, as the quantiser wants to be given them."""

    def __init__(self, waveforms: Sequence[np.ndarray]) -> None:
        self._feeds = self._each(waveforms)

    def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore
        return next(self._feeds, None)

    def _each(self, waveforms: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for waveform in waveforms:
            yield {INPUT: waveform[None, : CALIBRATION_SECONDS * SAMPLE_RATE].astype(np.float32)}


def quantise(model: onnx.ModelProto, waveforms: Sequence[np.ndarray]) -> onnx.ModelProto:
    """The graph with its trunk's weights and activations in 8 bits, statically.

    Weights are symmetric, with a scale for every output channel; activations are asymmetric,
    their ranges the smallest and largest values that the waveforms bring about. Front end, pooling
    and projection stay in float32.

    Args:
        model: what ``build_graph`` built.
        waveforms: some dozens of typical recordings, float32 (samples,) each.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    onnx.helper.set_model_props(prepared, PREPARED)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised.onnx"
        quantize_static(
            prepared,
            out,
            _Waveforms(waveforms),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_quantize=trunk_nodes(model),
        )
        return onnx.load(out)


def trunk_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the first to the last convolution over time and frequency."""
    sizes = {constant.name: len(constant.dims) for constant in model.graph.initializer}
    nodes = model.graph.node
    places = [
        place
        for place, node in enumerate(nodes)
        if node.op_type == "Conv" and sizes.get(node.input[1]) == 4
    ]
    span = nodes[places[0] : places[-1] + 1]
    return [node.name for node in span if node.op_type in OPERATORS]
