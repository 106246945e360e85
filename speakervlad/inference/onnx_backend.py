"""Compute embeddings with onnxruntime: no torch needed."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import (  # pyright: ignore
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
)

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.errors import InputError
from speakervlad.inference.chunks import FrameGrid
from speakervlad.inference.waves import SampleWave, Wave

UNREADABLE = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf)
FORMAT = "speakervlad-encoder-1"
# Distance of unit vectors: convolutions add up in another order.
CHECK_TOLERANCE = 1e-3
# A graph computes a recording in one piece; about 40 MB per second.
MAX_SECONDS = 120


class OnnxBackend:
    """One exported encoder.

    Args:
        path: the file.

    Attributes:
        notes: what the file carries besides the graph: config, thresholds, a check.

    Raises:
        InputError: no such file, or none that ``export`` wrote.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        self.num_streams = available_cores()
        self._model = path.read_bytes()
        try:
            self._session = _session(self._model, self.num_streams)
        except UNREADABLE as error:
            raise InputError(f"{path}: damaged or no ONNX file. Export it again.") from error
        self.notes: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if self.notes.get("format") != FORMAT:
            raise InputError(f"{path}: not an encoder that `speakervlad export` wrote.")
        self.dim = len(json.loads(self.notes["check"]))
        self.grid = FrameGrid(*json.loads(self.notes["grid"]))

    def check(self) -> float:
        """Distance between what this machine computes of a known signal and what torch did."""
        expected = np.array(json.loads(self.notes["check"]))
        return float(np.linalg.norm(self.embed(SampleWave(probe_waveform(1.0))) - expected))

    @contextmanager
    def streams(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """``count`` workers; several share the cores out among them, one each."""
        whole = self._session
        if count > 1:
            self._session = _session(self._model, 1)
        try:
            with ThreadPoolExecutor(count, "compute") as pool:
                yield pool
        finally:
            self._session = whole

    def embed(self, wave: Wave) -> np.ndarray:
        """Unit vector (dim,) of a whole recording.

        Raises:
            InputError: it is longer than ``MAX_SECONDS``.
        """
        seconds = wave.num_samples / SAMPLE_RATE
        if seconds > MAX_SECONDS:
            raise InputError(
                f"recording of {seconds:.0f} s: an exported encoder takes at most {MAX_SECONDS} s. "
                "Cut it, or use the encoder folder."
            )
        samples = np.ascontiguousarray(wave.read(0, wave.num_samples))
        return np.asarray(self._session.run(None, {"waveform": samples[None]})[0])[0]

    def enrol(self, waves: Sequence[Wave]) -> np.ndarray:
        """Refused: the graph gives no sums to merge."""
        raise _needs_folder("enrolment by merged frames")

    def embed_windows(self, wave: Wave, windows: np.ndarray) -> np.ndarray:
        """Refused: the graph gives no frames."""
        raise _needs_folder("sliding windows")


def probe_waveform(seconds: float) -> np.ndarray:
    """A known signal: a rising buzz in noise, float32 (samples,)."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * k * (110 * time + 12 * np.sin(time))) / k for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(count)
    return (0.1 * buzz + 0.02 * noise).astype(np.float32)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _needs_folder(what: str) -> InputError:
    return InputError(f"{what}: an exported encoder has none. Use the encoder folder with torch.")
