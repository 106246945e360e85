"""What can compute an encoder's embeddings, and which of them does."""

import ctypes
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from speakervlad.errors import InputError, did_you_mean
from speakervlad.extras import require
from speakervlad.inference.chunks import FrameGrid
from speakervlad.inference.exported import DisagreesError, ExportedBackend
from speakervlad.inference.pooling_sums import PoolingSums
from speakervlad.inference.waves import Wave

logger = logging.getLogger(__name__)

AUTO = "auto"
GRAPH_NAME = "model.onnx"


class Backend(Protocol):
    """What computes embeddings: torch, onnxruntime, openvino."""

    @property
    def dim(self) -> int: ...

    @property
    def num_streams(self) -> int: ...

    @property
    def grid(self) -> FrameGrid: ...

    @property
    def notes(self) -> dict[str, str]:
        """What an exported file carries besides the graph; nothing for a folder."""
        ...

    def streams(self, count: int) -> AbstractContextManager[Executor]:
        """``count`` workers that share the cores out among them."""
        ...

    def embed(self, wave: Wave) -> np.ndarray:
        """Unit vector (dim,) of a recording."""
        ...

    def sums(self, wave: Wave) -> PoolingSums:
        """What the frames of a recording add up to, to merge with that of others or to finish."""
        ...

    def finish(self, sums: Sequence[PoolingSums]) -> np.ndarray:
        """Unit vectors (sums, dim), each of all frames of one of them."""
        ...

    def enrol(self, waves: Sequence[Wave]) -> np.ndarray:
        """Unit vector (dim,) of all frames of some recordings."""
        ...

    def embed_windows(self, wave: Wave, windows: np.ndarray) -> np.ndarray:
        """Unit vectors (windows, dim) of spans, given as frames (windows, 2)."""
        ...


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


class Request(NamedTuple):
    """Where and how finely to compute."""

    device: str
    precision: str


class Runtime(NamedTuple):
    """One row of ``BACKENDS``.

    Attributes:
        extra: the extra of ours that installs the module, which is named as the backend.
        precisions: those that it computes in.
        is_torch: it needs the folder and takes every device; else the graph, on the CPU.
        load: what opens a folder or a graph.
    """

    extra: str
    precisions: tuple[str, ...]
    is_torch: bool
    load: Callable[[Path, Request], Backend]


def _load_onnxruntime(graph: Path, request: Request) -> Backend:
    from speakervlad.inference.onnx_backend import OnnxBackend

    return OnnxBackend(graph, request.precision)


def _load_openvino(graph: Path, request: Request) -> Backend:
    from speakervlad.inference.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(graph, request.precision)


def _load_torch(folder: Path, request: Request) -> Backend:
    from speakervlad.inference.torch_backend import load_torch_backend

    return load_torch_backend(folder, request.device, request.precision)


# The first that can do what is asked is taken by ``auto``. Measured on recordings of many lengths:
# in float32 onnxruntime is ahead of OpenVINO, which prepares itself for each new length, and
# starts sooner; in bfloat16, which onnxruntime lacks on CPUs, OpenVINO is ahead of torch.
BACKENDS = {
    "onnxruntime": Runtime("all", ("float32",), False, _load_onnxruntime),
    "openvino": Runtime("openvino", ("float32", "bfloat16"), False, _load_openvino),
    "torch": Runtime("train", ("float32", "bfloat16"), True, _load_torch),
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
    source, request = _source(path), Request(device, precision)
    if backend != AUTO:
        return _open(source, request, backend)
    if device == AUTO and source.folder is not None and source.graph is not None and _has_gpu():
        return _open(source, request, "torch")
    return _open_first(source, request)


def _source(path: Path) -> Source:
    if path.suffix == ".onnx":
        return Source(path, None, path)
    graph = path / GRAPH_NAME
    return Source(path, path, graph if graph.is_file() else None)


def _open_first(source: Source, request: Request) -> Backend:
    able = [name for name in BACKENDS if _refusal(source, request, name) is None]
    installed = [name for name in able if importlib.util.find_spec(name) is not None]
    # With none to choose from, the first says what is missing.
    *names, last = installed or able[:1] or list(BACKENDS)[:1]
    for name in names:
        try:
            return _open(source, request, name)
        except DisagreesError as error:
            logger.warning("%s The next backend is tried.", error)
    return _open(source, request, last)


def _open(source: Source, request: Request, name: str) -> Backend:
    refusal = _refusal(source, request, name)
    if refusal is not None:
        raise InputError(refusal)
    runtime = BACKENDS[name]
    require(name, runtime.extra, f"{source.path} with backend {name}")
    where = source.folder if runtime.is_torch else source.graph
    assert where is not None
    backend = runtime.load(where, request)
    if isinstance(backend, ExportedBackend):
        backend.ensure_agreement(source.folder)
    return backend


def _refusal(source: Source, request: Request, name: str) -> str | None:
    """Why a backend cannot do what is asked, and the way out; None if it can."""
    runtime, path = BACKENDS[name], source.path
    if runtime.is_torch:
        if source.folder is None:
            return f"{path}: torch computes encoder folders. Name one, or use {_others(name)}."
        return None
    if source.graph is None:
        return (
            f"{path}: {name} computes exported encoders, and here is no {GRAPH_NAME}. "
            f"Write it: speakervlad export {path} {path / GRAPH_NAME}"
        )
    if request.device not in (AUTO, "cpu"):
        return (
            f"{path}: device={request.device}: an exported encoder runs on the CPU. "
            "Use the encoder folder with torch."
        )
    if request.precision not in runtime.precisions:
        return f"precision={request.precision}: {name} computes in float32. Use {_others(name)}."
    return None


def _others(name: str) -> str:
    return " or ".join(other for other in BACKENDS if other != name)


def _has_gpu() -> bool:
    """Whether torch sees a GPU; without a driver nobody waits for torch to be imported."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
