"""onnxruntime, which is not let report its use: it is the one place that imports the package."""

import os
from typing import Any


def onnxruntime() -> Any:  # noqa: ANN401 - it has no types
    """The package; else its import would write an identifier of the machine, for its reports."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    # Somebody may have imported it before.
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def open_session(data: bytes, threads: int) -> Any:  # noqa: ANN401
    """A network, computed on the processor; errors are raised and nothing else is said.

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
