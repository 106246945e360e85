"""An exported encoder computed by OpenVINO."""

import threading
from functools import cache
from typing import Any

import numpy as np

from speakervlad.encoder.backends import FRAMES, INPUT, WEIGHTS, ExportedBackend, RunGraph
from speakervlad.encoder.frames import Describe
from speakervlad.threads import available_cores


@cache
def openvino_core() -> Any:  # noqa: ANN401
    """OpenVINO's one entry, kept as long as the process.

    Its CPU plugin gives the thread that compiles first a signal stack of its own, and unmaps it
    when the last user goes, in whichever thread: the next signal would end the process.
    """
    import openvino

    return openvino.Core()


class OpenVinoBackend(ExportedBackend):
    """One exported encoder in OpenVINO on the CPU, in float32 or bfloat16."""

    def _open(self, data: bytes) -> None:
        self._model = openvino_core().read_model(data)

    def _read_notes(self) -> dict[str, str]:
        info = self._model.get_rt_info()
        if "framework" not in info:
            return {}
        return {name: value.astype(str) for name, value in info["framework"].items()}

    def _read_arrays(self, shortest: np.ndarray) -> dict[str, np.ndarray]:
        arrays = {}
        for result in self._model.get_results():
            # A constant that is an output has the names of both.
            names = result.output(0).get_names()
            if names.isdisjoint((FRAMES, WEIGHTS)):
                constant = result.input_value(0).get_node()
                array = np.array(constant.get_data(), np.float32)
                arrays |= dict.fromkeys(names, array)
                self._model.remove_result(result)
        return arrays

    def beside(self, graph: bytes) -> RunGraph:
        return openvino_runner(graph, self.precision)

    def _compile(self, streams: int) -> Describe:
        compiled = compiled_model(self._model, self.precision, self.num_streams, streams)
        has_weights = len(compiled.outputs) == 2
        requests = threading.local()

        def compute(spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            found = requests.own.infer({INPUT: spectrogram})
            frames = found[FRAMES][0].copy()
            return frames, found[WEIGHTS][0].copy() if has_weights else None

        return compute


def compiled_model(model: Any, precision: str, threads: int, streams: int) -> Any:  # noqa: ANN401
    """A model of OpenVINO on the CPU, which ``streams`` callers share ``threads`` of."""
    import openvino

    hints = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}
    options = {
        "INFERENCE_PRECISION_HINT": hints[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        # Pinned threads of two processes would meet on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    return openvino_core().compile_model(model, "CPU", options)


@cache
def openvino_runner(graph: bytes, precision: str) -> RunGraph:
    """One for all recordings and threads, see ``Backend.beside``."""
    cores = available_cores()
    compiled = compiled_model(openvino_core().read_model(graph), precision, cores, cores)

    def run(samples: np.ndarray) -> np.ndarray:
        return compiled.create_infer_request().infer([samples])[0].copy()

    return run
