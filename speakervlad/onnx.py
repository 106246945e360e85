"""The one place that imports onnxruntime, with its usage reports disabled."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np


def onnxruntime() -> Any:  # noqa: ANN401 - it has no types
    """The package; by default its import writes an identifier of the machine for usage reports."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    # Other code may have imported it already, with reports enabled.
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def open_session(data: bytes, threads: int) -> Any:  # noqa: ANN401
    """A network on the CPU, which logs nothing; errors are raised.

    Args:
        data: content of an ONNX file.
        threads: for one run.
    """
    package = onnxruntime()
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return package.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@cache
def graph_runner(graph: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """What computes a small network of one input and one output; one for all who ask.

    Several threads may call it, each of which computes in itself.

    Args:
        graph: content of an ONNX file.
    """
    session = open_session(graph, threads=1)
    (name,) = (each.name for each in session.get_inputs())
    return lambda array: session.run(None, {name: array})[0]


def with_constants(model: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """An ONNX model with some more constants (initializers), which its nodes name as inputs.

    What follows a serialised message is merged with it: repeated fields, such as the initializers
    of the graph, are appended (https://protobuf.dev/programming-guides/encoding/#last-one-wins).

    Args:
        model: a serialised ``ModelProto``.
        arrays: float32, by name.
    """
    tensors = [_field(5, _tensor(name, array)) for name, array in arrays.items()]
    return b"".join([model, *(_field(7, tensor) for tensor in tensors)])


def _tensor(name: str, array: np.ndarray) -> bytes:
    """A ``TensorProto`` of dims (1), data_type FLOAT (2), name (8) and raw_data (9)."""
    dims = b"".join(_varint(1 << 3) + _varint(size) for size in array.shape)
    data = np.ascontiguousarray(array, "<f4").tobytes()
    return dims + b"\x10\x01" + _field(8, name.encode()) + _field(9, data)


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or another message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
