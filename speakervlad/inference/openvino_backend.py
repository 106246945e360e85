"""Compute embeddings with OpenVINO: no torch needed; bfloat16 where the processor has it."""

import threading
from functools import cached_property

import numpy as np
import openvino

from speakervlad.inference.exported import Compute, ExportedBackend

HINTS = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}


class OpenVinoBackend(ExportedBackend):
    """One exported encoder in OpenVINO, on the CPU.

    Args:
        path: the file.
        precision: ``float32`` or ``bfloat16``, of the whole graph; what ``GraphFrames`` computes is
            float32.
    """

    unreadable = (RuntimeError,)

    @cached_property
    def _model(self) -> openvino.Model:
        return openvino.Core().read_model(self._data)

    def _compile(self, streams: int) -> Compute:
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self.num_streams,
            "NUM_STREAMS": streams,
            # Pinned threads of two processes would meet on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(self._model, "CPU", options)
        requests = threading.local()

        def compute(waveforms: np.ndarray) -> np.ndarray:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            return requests.own.infer({"waveform": waveforms})[0].copy()

        return compute

    def _read_notes(self) -> dict[str, str]:
        info = self._model.get_rt_info()
        if "framework" not in info:
            return {}
        return {name: value.astype(str) for name, value in info["framework"].items()}
