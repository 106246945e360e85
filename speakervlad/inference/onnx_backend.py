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

    def _read(self, data: bytes) -> None:
        self._model = data

    def _compile(self, streams: int) -> Compute:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, self.num_streams // streams)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            self._model, options, providers=["CPUExecutionProvider"]
        )
        run = self._session.run
        return lambda waveforms: np.asarray(run(None, {"waveform": waveforms})[0])

    def _read_notes(self) -> dict[str, str]:
        return self._session.get_modelmeta().custom_metadata_map
