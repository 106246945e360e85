"""What all runtimes of an exported encoder share: one ONNX file in, unit vectors out, no torch."""

import hashlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.errors import InputError
from speakervlad.inference.chunked import ChunkedBackend, Layout
from speakervlad.inference.pooling_sums import PoolingSums
from speakervlad.inference.waves import SampleWave, Wave

logger = logging.getLogger(__name__)

FORMAT_FAMILY = "speakervlad-encoder-"
FORMAT = f"{FORMAT_FAMILY}2"
WEIGHTS_NAME = "model.safetensors"
# Distance of unit vectors: convolutions add up in another order; bfloat16 keeps 8 bits, and so does
# an int8 trunk, over the range of all its values.
TOLERANCES = {"float32": 1e-3, "bfloat16": 3e-2, "int8": 0.2}
# What is longer is computed in chunks; in one piece a second takes up to 40 MB.
ONE_PIECE_SECONDS = 60
# Waveforms (batch, samples) to unit vectors (batch, dim).
Compute = Callable[[np.ndarray], np.ndarray]


class DisagreesError(InputError):
    """An exported encoder does not give what torch gives, or is of another version."""


class ExportedBackend(ABC):
    """One exported encoder on the CPU; a subclass says how a runtime reads and compiles it.

    Args:
        path: the file.
        precision: ``float32``, or another that the runtime has.

    Attributes:
        notes: what the file carries besides the graph: config, thresholds, a check.
        unreadable: what the runtime raises for a file that is no graph.

    Raises:
        InputError: no such file, or none that ``export`` wrote.
        DisagreesError: another version wrote it.
    """

    unreadable: tuple[type[Exception], ...]

    def __init__(self, path: Path, precision: str = "float32") -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        self.path = path
        self.precision = precision
        self.num_streams = available_cores()
        self._data = path.read_bytes()
        try:
            self._compute = self._compile(1)
        except self.unreadable as error:
            raise InputError(f"{path}: damaged or no ONNX file. Export it again.") from error
        self.notes = self._read_notes()
        known = self.notes.get("format", "")
        if not known.startswith(FORMAT_FAMILY):
            raise InputError(f"{path}: not an encoder that `speakervlad export` wrote.")
        if known != FORMAT:
            raise DisagreesError(
                f"{path}: another version of speakervlad wrote it. Export it again."
            )
        self.dim = len(json.loads(self.notes["check"]))
        self.grid = Layout.from_json(self.notes["layout"]).grid
        self._frames = self._open_frames(1)
        self._told = False

    @abstractmethod
    def _compile(self, streams: int) -> Compute:
        """What ``streams`` threads may call at the same time; all cores are shared among them."""

    @abstractmethod
    def _read_notes(self) -> dict[str, str]:
        """The file's metadata, once it is compiled."""

    def check(self) -> float:
        """Distance between what this machine computes of a known signal and what torch did."""
        expected = np.array(json.loads(self.notes["check"]))
        return float(np.linalg.norm(self.embed(SampleWave(probe_waveform(1.0))) - expected))

    def ensure_agreement(self, folder: Path | None) -> None:
        """Refuse to go on when the numbers would not be those of torch.

        Args:
            folder: the encoder folder that the file lies in, if it was not named by itself.

        Raises:
            DisagreesError: the folder has other weights by now, or the distance of ``check`` is
                above the precision's tolerance.
        """
        known = (None, self.notes.get("weights"))
        if folder is not None and fingerprint(folder) not in known:
            raise DisagreesError(
                f"{self.path}: not exported from {folder / WEIGHTS_NAME}. Export it again."
            )
        own = self.notes.get("precision", "float32")
        precision = self.precision if own == "float32" else own
        distance, tolerance = self.check(), TOLERANCES[precision]
        if not distance <= tolerance:
            raise DisagreesError(
                f"{self.path}: {type(self).__name__} in {precision} is {distance:.2g} away "
                f"from torch on this machine ({tolerance:g} is allowed). Choose another backend."
            )

    @contextmanager
    def streams(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """``count`` workers; several share the cores out among them, one each."""
        whole = self._compute, self._frames
        if count > 1:
            self._compute, self._frames = self._compile(count), self._open_frames(count)
        try:
            with ThreadPoolExecutor(count, "compute") as pool:
                yield pool
        finally:
            self._compute, self._frames = whole

    def embed(self, wave: Wave) -> np.ndarray:
        """Unit vector (dim,) of a whole recording, however long."""
        if wave.num_samples > ONE_PIECE_SECONDS * SAMPLE_RATE:
            return self._in_chunks().embed(wave)
        return self._compute(np.ascontiguousarray(wave.read(0, wave.num_samples))[None])[0]

    def sums(self, wave: Wave) -> PoolingSums:
        """The sums of a recording, to merge with those of others or to finish."""
        return self._in_chunks().sums(wave)

    def finish(self, sums: Sequence[PoolingSums]) -> np.ndarray:
        """Unit vectors (sums, dim), each of all frames of one of them."""
        return self._in_chunks().finish(sums)

    def enrol(self, waves: Sequence[Wave]) -> np.ndarray:
        """Unit vector (dim,) of all frames of some recordings."""
        return self._in_chunks().enrol(waves)

    def embed_windows(self, wave: Wave, windows: np.ndarray) -> np.ndarray:
        """Unit vectors (windows, dim) of spans, given as output frames (windows, 2)."""
        return self._in_chunks().embed_windows(wave, windows)

    def _in_chunks(self) -> ChunkedBackend:
        """What computes the frames; says once that it has one precision."""
        if self.precision != "float32" and not self._told:
            self._told = True
            logger.info(
                "%s: what is longer than %d s, windows and enrolment are computed in float32 by "
                "onnxruntime, not in %s",
                self.path,
                ONE_PIECE_SECONDS,
                self.precision,
            )
        return self._frames

    def _open_frames(self, streams: int) -> ChunkedBackend:
        # onnxruntime is not imported where an encoder folder has torch alone.
        from speakervlad.inference.graph_frames import GraphFrames

        return GraphFrames(self._data, self.notes, self.dim, max(1, self.num_streams // streams))


def fingerprint(folder: Path) -> str | None:
    """What tells the weights of an encoder folder from others; None if it has none."""
    path = folder / WEIGHTS_NAME
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def probe_waveform(seconds: float) -> np.ndarray:
    """A known signal: a rising buzz in noise, float32 (samples,)."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * k * (110 * time + 12 * np.sin(time))) / k for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(count)
    return (0.1 * buzz + 0.02 * noise).astype(np.float32)


def available_cores() -> int:
    """Cores that this process may use; those that ``torchrun`` starts together share them out."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
