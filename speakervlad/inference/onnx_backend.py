"""Compute embeddings with onnxruntime: no torch needed."""

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import (  # pyright: ignore
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
)

from speakervlad.inference.exported import Compute, ExportedBackend


class OnnxBackend(ExportedBackend):
    """One exported encoder in onnxruntime, in float32."""

    unreadable = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf)

    def _compile(self, streams: int) -> Compute:
        self._session = open_session(self._data, max(1, self.num_streams // streams))
        run = self._session.run
        return lambda waveforms: np.asarray(run(None, {"waveform": waveforms})[0])

    def _read_notes(self) -> dict[str, str]:
        return self._session.get_modelmeta().custom_metadata_map


def open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A graph, ready to be computed by so many threads of its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
