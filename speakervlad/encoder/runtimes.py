"""What computes a network: torch, onnxruntime or OpenVINO. Each does one thing, ``describe``.

A backend is a class and its row in ``BACKENDS``; what is around the network is in ``frames.py``.
"""

import ctypes
import hashlib
import importlib.util
import logging
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speakervlad.audio.waves import SampleWave
from speakervlad.config import WEIGHTS_NAME
from speakervlad.encoder.frames import Describe, Ends, FrameEncoder, front_end_of
from speakervlad.encoder.graphs import check_graph
from speakervlad.errors import InputError, did_you_mean
from speakervlad.extras import require
from speakervlad.files import parse_json
from speakervlad.onnx import open_session, with_constants
from speakervlad.sound import SAMPLE_RATE

logger = logging.getLogger(__name__)

AUTO = "auto"
GRAPH_NAME = "model.onnx"
# A graph without weights: they are those of the encoder folder that it lies in.
SHARING_GRAPH_NAME = "graph.onnx"
FORMAT_FAMILY = "speakervlad-encoder-"
FORMAT = f"{FORMAT_FAMILY}3"
INPUT, FRAMES, WEIGHTS = "spectrogram", "frames", "weights"
# Distance of unit vectors: convolutions add up in another order; bfloat16 keeps 8 bits, and so does
# an int8 trunk, over the range of all its values. The encoder that ships is 0.055 away in bfloat16.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "int8": 0.2}
# Frames that every network accepts; the constant outputs are read with so short a spectrogram.
SHORTEST_FRAMES = 64


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

    @abstractmethod
    def streams(self, count: int) -> Any:  # noqa: ANN401 - a context manager of an executor
        """``count`` workers; several share the cores out among them, one each."""


class TorchBackend(Backend):
    """An encoder in torch, on the CPU or a GPU, its batch norms folded into the convolutions.

    Spectrograms come from the CPU on a GPU too: numpy makes some 4,000 seconds of them a second.

    Args:
        encoder: a ``SpeakerEncoder``; it is copied, never changed.
        device: where to compute: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: of the trunk and descriptors; weights are always float32.

    Raises:
        InputError: the device is not available.
    """

    def __init__(self, encoder: Any, device: str = AUTO, precision: str = "float32") -> None:  # noqa: ANN401
        import torch

        from speakervlad.encoder.network import Network, ends_of

        if device == AUTO:
            # torchrun starts one process for each GPU of a machine.
            number = os.environ.get("LOCAL_RANK", "0")
            device = f"cuda:{number}" if torch.cuda.is_available() else "cpu"
        self.ends = ends_of(encoder)
        self.notes = {}
        self.device = device
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        try:
            network = Network(encoder).to(device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device={device}: not available here. Use auto or cpu.") from error
        self.network = network.in_precision(self.dtype)
        self.num_streams = torch.get_num_threads() if device == "cpu" else 1

    def describe(self, spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        import torch

        # TF32 costs 10 bits of float32 convolutions.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            given = torch.from_numpy(spectrogram)[None].to(self.device, self.dtype)
            frames, weights = self.network(given)
            arrays = frames.float(), None if weights is None else weights.float()
        return tuple(None if each is None else each[0].cpu().numpy() for each in arrays)  # pyright: ignore[reportReturnType]

    @contextmanager
    def streams(self, count: int) -> Iterator[ThreadPoolExecutor]:
        import torch

        threads = torch.get_num_threads()
        own = 1 if count > 1 else threads
        torch.set_num_threads(own)
        try:
            with ThreadPoolExecutor(count, "compute", torch.set_num_threads, (own,)) as pool:
                yield pool
        finally:
            torch.set_num_threads(threads)


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
            front_end = front_end_of(parse_json(self.notes["ends"]))
            shortest = np.zeros((1, front_end.num_bins, SHORTEST_FRAMES), np.float32)
            self.ends = Ends.from_notes(self.notes["ends"], self._read_arrays(shortest))
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


@cache
def _openvino_core() -> Any:  # noqa: ANN401
    """OpenVINO's one entry, kept as long as the process.

    Its CPU plugin gives the thread that compiles first a signal stack of its own, and unmaps it
    when the last user goes, in whichever thread: the next signal would end the process.
    """
    import openvino

    return openvino.Core()


class OpenVinoBackend(ExportedBackend):
    """One exported encoder in OpenVINO on the CPU, in float32 or bfloat16."""

    def _open(self, data: bytes) -> None:
        self._model = _openvino_core().read_model(data)

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

    def _compile(self, streams: int) -> Describe:
        import openvino

        hints = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}
        options = {
            "INFERENCE_PRECISION_HINT": hints[self.precision],
            "INFERENCE_NUM_THREADS": self.num_streams,
            "NUM_STREAMS": streams,
            # Pinned threads of two processes would meet on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = _openvino_core().compile_model(self._model, "CPU", options)
        has_weights = len(compiled.outputs) == 2
        requests = threading.local()

        def compute(spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            found = requests.own.infer({INPUT: spectrogram})
            frames = found[FRAMES][0].copy()
            return frames, found[WEIGHTS][0].copy() if has_weights else None

        return compute


class Source(NamedTuple):
    """Where an encoder lies.

    Attributes:
        path: what the user named.
        folder: of config and weights, if it is one.
        graph: the exported file, if there is one.
    """

    path: Path
    folder: Path | None
    graph: Path | None


class Runtime(NamedTuple):
    """One row of ``BACKENDS``.

    Attributes:
        extra: the extra of ours that installs the module, which is named as the backend.
        precisions: those that it computes in.
        backend: opens an exported file; None for torch, which opens folders, on every device.
    """

    extra: str
    precisions: tuple[str, ...]
    backend: Callable[[Path, str], ExportedBackend] | None


# The first that can do what is asked is taken by ``auto``. Measured on recordings of many lengths:
# in float32 onnxruntime is ahead of OpenVINO, which prepares itself for each new length, and
# starts sooner; in bfloat16, which onnxruntime lacks on CPUs, OpenVINO is ahead of torch.
BACKENDS = {
    "onnxruntime": Runtime("all", ("float32",), OnnxBackend),
    "openvino": Runtime("openvino", ("float32", "bfloat16"), OpenVinoBackend),
    "torch": Runtime("train", ("float32", "bfloat16"), None),
}


def open_backend(
    path: Path, *, device: str = AUTO, precision: str = "float32", backend: str = AUTO
) -> Backend:
    """Open an encoder with the backend that is asked for, or the fastest that can do it.

    An exported graph is compared with what torch computed when it was written, and with the
    weights it lies beside; ``auto`` goes on to the next backend when they differ.

    Args:
        path: an encoder folder, or a file that ``export`` wrote.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: ``float32`` or ``bfloat16``.
        backend: a name of ``BACKENDS``, or ``auto``.

    Raises:
        InputError: the backend is unknown or not installed, cannot do what is asked, or the
            encoder is damaged.
    """
    if backend not in (AUTO, *BACKENDS):
        raise InputError(f"backend={backend}: {did_you_mean(backend, (AUTO, *BACKENDS))}")
    known = dict.fromkeys(one for runtime in BACKENDS.values() for one in runtime.precisions)
    if precision not in known:
        raise InputError(f"precision={precision}: {did_you_mean(precision, known)}")
    source = _source(path)
    if backend != AUTO:
        return _open(source, device, precision, backend)
    if device == AUTO and source.folder is not None and source.graph is not None and _has_gpu():
        return _open(source, device, precision, "torch")
    return _open_first(source, device, precision)


def _source(path: Path) -> Source:
    if path.suffix == ".onnx":
        return Source(path, None, path)
    graphs = (path / name for name in (GRAPH_NAME, SHARING_GRAPH_NAME))
    return Source(path, path, next((graph for graph in graphs if graph.is_file()), None))


def _open_first(source: Source, device: str, precision: str) -> Backend:
    able = [name for name in BACKENDS if _refusal(source, device, precision, name) is None]
    installed = [name for name in able if importlib.util.find_spec(name) is not None]
    # Without an installed one, opening the first says what to install.
    *names, last = installed or able[:1] or list(BACKENDS)[:1]
    for name in names:
        try:
            return _open(source, device, precision, name)
        except DisagreesError as error:
            logger.warning("%s The next backend is tried.", error)
    return _open(source, device, precision, last)


def _open(source: Source, device: str, precision: str, name: str) -> Backend:
    refusal = _refusal(source, device, precision, name)
    if refusal is not None:
        raise InputError(refusal)
    runtime = BACKENDS[name]
    require(name, runtime.extra, f"{source.path} with backend {name}")
    if runtime.backend is None:
        from speakervlad.models.folder import load_encoder_folder

        assert source.folder is not None
        return TorchBackend(load_encoder_folder(source.folder)[0], device, precision)
    assert source.graph is not None
    backend = runtime.backend(source.graph, precision)
    backend.ensure_agreement(source.folder)
    return backend


def _refusal(source: Source, device: str, precision: str, name: str) -> str | None:
    """Why a backend cannot do what is asked, and the way out; None if it can."""
    runtime, path = BACKENDS[name], source.path
    if runtime.backend is None:
        if source.folder is None:
            return f"{path}: torch computes encoder folders. Name one, or use {_others(name)}."
        return None
    if source.graph is None:
        return (
            f"{path}: {name} computes exported encoders, and here is no {GRAPH_NAME}. "
            f"Write it: speakervlad export {path} {path / GRAPH_NAME}"
        )
    if device not in (AUTO, "cpu"):
        return (
            f"{path}: device={device}: an exported encoder runs on the CPU. "
            "Use the encoder folder with torch."
        )
    if precision not in runtime.precisions:
        return f"precision={precision}: {name} computes in float32. Use {_others(name)}."
    return None


def _others(name: str) -> str:
    return " or ".join(other for other in BACKENDS if other != name)


def exported_notes(path: Path) -> dict[str, str]:
    """What an exported file carries besides its network; nothing of a folder.

    Raises:
        InputError: no file that ``export`` wrote.
    """
    return OnnxBackend(path).notes if path.is_file() else {}


def _has_gpu() -> bool:
    """Whether torch sees a GPU; without a driver torch is not even imported."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


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


def available_cores() -> int:
    """Cores that this process may use; those that ``torchrun`` starts together share them out."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
