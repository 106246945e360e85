"""What computes a network: the base class of all runtimes, and exported encoders in onnxruntime."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.audio.waves import SampleWave
from speakervlad.config import WEIGHTS_NAME
from speakervlad.encoder.frames import Describe, Ends, FrameEncoder, front_end_of
from speakervlad.encoder.graphs import check_graph
from speakervlad.errors import InputError
from speakervlad.onnx import graph_runner, open_session, with_constants
from speakervlad.sound import SAMPLE_RATE
from speakervlad.texts import parse_json
from speakervlad.threads import available_cores

AUTO = "auto"
GRAPH_NAME = "model.onnx"
# A graph without weights: they are those of the encoder folder that it lies in.
SHARING_GRAPH_NAME = "graph.onnx"
FORMAT_FAMILY = "speakervlad-encoder-"
FORMAT = f"{FORMAT_FAMILY}3"
INPUT, FRAMES, WEIGHTS = "spectrogram", "frames", "weights"
# Distance of unit vectors: convolutions add up in another order; bfloat16 keeps 8 bits, and so does
# an int8 trunk, over the range of all its values. The encoder that ships is 0.055 away in bfloat16,
# and 0.18 in 8-bit integers on speech in the median.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "int8": 0.25}
# Frames that every network accepts; the constant outputs are read with so short a spectrogram.
SHORTEST_FRAMES = 64


# A network of one input and one output, both float32.
RunGraph = Callable[[np.ndarray], np.ndarray]


class DisagreesError(InputError):
    """An exported encoder does not give what torch gives, or is of another version."""


class Backend(ABC):
    """An encoder's network, ready to compute.

    Attributes:
        ends: what is around the network.
        notes: what an exported file carries besides the graph; nothing for a folder.
        num_streams: utterances worth computing at the same time.
    """

    ends: Ends
    notes: dict[str, str]
    num_streams: int

    @abstractmethod
    def describe(self, spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Descriptors (dim, frames) and weights (rows, frames) or None, float32.

        Args:
            spectrogram: float32 (bins, frames), normalised and padded.
        """

    def beside(self, graph: bytes) -> RunGraph:
        """Another network in the same runtime and precision; by default in onnxruntime.

        Args:
            graph: a small ONNX file of one input to one output. What runs it may be called by
                several threads, each of which computes in itself.
        """
        return graph_runner(graph)

    @abstractmethod
    def streams(self, count: int) -> Any:  # noqa: ANN401 - a context manager of an executor
        """``count`` workers; several share the cores out among them, one each."""


class ExportedBackend(Backend):
    """One exported encoder on the CPU; a subclass says how a runtime reads and compiles it.

    Args:
        path: the file.
        precision: ``float32``, or another that the runtime has.
        weights: the file of weights of a graph without any; by its name the one beside it.

    Raises:
        InputError: no such file, or none that ``export`` wrote.
        DisagreesError: another version wrote it.
    """

    def __init__(self, path: Path, precision: str = "float32", weights: Path | None = None) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        self.path = path
        self.precision = precision
        self.num_streams = available_cores()
        if weights is None and path.name == SHARING_GRAPH_NAME:
            weights = path.parent / WEIGHTS_NAME
        try:
            data = path.read_bytes()
            if weights is not None:
                data = _with_weights(data, weights)
            check_graph(data, str(path))
            self._open(data)
            self.notes = self._read_notes()
        except InputError:
            raise
        except Exception as error:
            # Each runtime raises exception classes of its own.
            raise InputError(f"{path}: damaged or no ONNX file. Export it again.") from error
        self._refuse_other_formats()
        try:
            ends = _ends_with_ghosts(self.notes)
            front_end = front_end_of(parse_json(ends))
            shortest = np.zeros((1, front_end.num_bins, SHORTEST_FRAMES), np.float32)
            self.ends = Ends.from_notes(ends, self._read_arrays(shortest))
            self._compute = self._compile(1)
        except Exception as error:
            why = f" ({error})" if isinstance(error, InputError) else ""
            raise InputError(f"{path}: its notes are damaged{why}. Export it again.") from error

    @abstractmethod
    def _open(self, data: bytes) -> None:
        """Parse the file."""

    @abstractmethod
    def _read_notes(self) -> dict[str, str]:
        """The file's metadata."""

    @abstractmethod
    def _read_arrays(self, shortest: np.ndarray) -> dict[str, np.ndarray]:
        """The constants that are outputs of the graph, by name."""

    @abstractmethod
    def _compile(self, streams: int) -> Describe:
        """What ``streams`` threads may call at the same time; all cores are shared among them."""

    def describe(self, spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self._compute(np.ascontiguousarray(spectrogram)[None])

    def check(self) -> float:
        """Distance between what this machine computes of a known signal and what torch did.

        Raises:
            InputError: the graph cannot be computed.
        """
        try:
            expected = np.array(parse_json(self.notes["check"]), np.float64)
            wave = SampleWave(probe_waveform(1.0))
            ours = FrameEncoder(self.ends, self.describe).embed(wave)
            return float(np.linalg.norm(ours - expected))
        except Exception as error:
            raise InputError(f"{self.path}: cannot be computed. Export it again.") from error

    def ensure_agreement(self, folder: Path | None) -> None:
        """Refuse to go on when the numbers would not be those of torch.

        Args:
            folder: the encoder folder that the file lies in, if it was not named by itself.

        Raises:
            DisagreesError: the folder has other weights by now, or the distance of ``check`` is
                above the precision's tolerance.
        """
        known = (None, self.notes.get("weights"))
        if folder is not None and weights_digest(folder) not in known:
            raise DisagreesError(
                f"{self.path}: not exported from {folder / WEIGHTS_NAME}. Export it again."
            )
        own = self.notes.get("precision", "float32")
        precision = self.precision if own == "float32" else own
        distance, tolerance = self.check(), TOLERANCES.get(precision, 0.0)
        if not distance <= tolerance:
            raise DisagreesError(
                f"{self.path}: {type(self).__name__} in {precision} is {distance:.2g} away "
                f"from torch on this machine ({tolerance:g} is allowed). Choose another backend."
            )

    @contextmanager
    def streams(self, count: int) -> Iterator[ThreadPoolExecutor]:
        whole = self._compute
        if count > 1:
            self._compute = self._compile(count)
        try:
            with ThreadPoolExecutor(count, "compute") as pool:
                yield pool
        finally:
            self._compute = whole

    def _refuse_other_formats(self) -> None:
        known = self.notes.get("format", "")
        if not known.startswith(FORMAT_FAMILY):
            raise InputError(f"{self.path}: not an encoder that `speakervlad export` wrote.")
        if known != FORMAT:
            raise DisagreesError(
                f"{self.path}: another version of speakervlad wrote it. Export it again: "
                f"speakervlad export ENCODER {self.path}"
            )


class OnnxBackend(ExportedBackend):
    """One exported encoder in onnxruntime, in float32."""

    def _open(self, data: bytes) -> None:
        self._data = data
        self._session = self._make_session(1)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _make_session(self, streams: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
        return open_session(self._data, max(1, self.num_streams // streams))

    def _read_notes(self) -> dict[str, str]:
        return self._session.get_modelmeta().custom_metadata_map

    def _read_arrays(self, shortest: np.ndarray) -> dict[str, np.ndarray]:
        names = [name for name in self._outputs if name not in (FRAMES, WEIGHTS)]
        return dict(zip(names, self._session.run(names, {INPUT: shortest}), strict=True))

    def _compile(self, streams: int) -> Describe:
        session = self._session if streams == 1 else self._make_session(streams)
        names = [name for name in (FRAMES, WEIGHTS) if name in self._outputs]

        def compute(spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            frames, *weights = session.run(names, {INPUT: spectrogram})
            return frames[0], weights[0][0] if weights else None

        return compute


def _ends_with_ghosts(notes: Mapping[str, str]) -> str:
    """The text of ``Ends`` in the metadata of a file.

    Files of version 0.2.0 do not say there how many ghosts the weights have; their config does.
    """
    ends = parse_json(notes["ends"])
    if "num_ghosts" in ends["pooling"] or "config" not in notes:
        return notes["ends"]
    ends["pooling"]["num_ghosts"] = parse_json(notes["config"])["pooling"].get("num_ghosts", 0)
    return json.dumps(ends)


def _with_weights(graph: bytes, weights: Path) -> bytes:
    """An ONNX model of a graph that has none, and of a file of weights of any float type."""
    from safetensors.numpy import load_file

    state = load_file(weights)
    return with_constants(graph, {name: state[name] for name in constants_in(state)})


def constants_in(state: Mapping[str, Any]) -> list[str]:
    """The arrays of an encoder's weights that are constants of a graph: all but counters."""
    return [name for name in state if not name.endswith("num_batches_tracked")]


def weights_digest(folder: Path) -> str | None:
    """What tells the weights of an encoder folder from others; None if it has none."""
    path = folder / WEIGHTS_NAME
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def fingerprint_of(encoder: Path | None, notes: Mapping[str, str]) -> str | None:
    """What tells an encoder's weights from others, whatever computes them; None if unknown.

    Args:
        encoder: a folder, or an exported file, which remembers those of its folder; None for one
            that is only in memory.
        notes: what the file carries.
    """
    own = None if encoder is None else weights_digest(encoder)
    return own or notes.get("weights") or None


def probe_waveform(seconds: float, seed: int = 0) -> np.ndarray:
    """A known signal: a rising buzz in noise, float32 (samples,).

    Args:
        seconds: duration.
        seed: of the noise; eight seeds in a row have pitches of their own.
    """
    count, pitch = round(seconds * SAMPLE_RATE), 110 + 17 * (seed % 8)
    time = np.arange(count) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * k * (pitch * time + 12 * np.sin(time))) / k for k in range(1, 20))
    noise = np.random.default_rng(seed).standard_normal(count)
    return (0.1 * buzz + 0.02 * noise).astype(np.float32)
