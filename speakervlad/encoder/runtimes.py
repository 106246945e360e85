"""Which runtime opens an encoder: torch, onnxruntime or OpenVINO. Each only does ``describe``.

A backend is a class (``backends.py`` has their base and onnxruntime's) and its row in ``BACKENDS``;
what is around the network is in ``frames.py``.
"""

import ctypes
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from speakervlad.encoder.adopted import ADOPTED_NAME
from speakervlad.encoder.backends import (
    AUTO,
    GRAPH_NAME,
    SHARING_GRAPH_NAME,
    Backend,
    DisagreesError,
    ExportedBackend,
    OnnxBackend,
)
from speakervlad.encoder.foreign import ForeignBackend, is_foreign
from speakervlad.encoder.openvino_backend import OpenVinoBackend
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.errors import InputError, did_you_mean
from speakervlad.extras import require

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """Where an encoder lies.

    Attributes:
        path: what the user named.
        folder: of config and weights, if it is one.
        graph: the exported file, if there is one.
        is_foreign: whether that file is of another toolkit.
    """

    path: Path
    folder: Path | None
    graph: Path | None
    is_foreign: bool = False


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
    has_both = source.folder is not None and source.graph is not None and not source.is_foreign
    if device == AUTO and has_both and _has_gpu():
        return _open(source, device, precision, "torch")
    return _open_first(source, device, precision)


def _source(path: Path) -> Source:
    if path.suffix == ".onnx":
        return Source(path, None, path, path.is_file() and is_foreign(path))
    graphs = (path / name for name in (GRAPH_NAME, SHARING_GRAPH_NAME))
    graph = next((graph for graph in graphs if graph.is_file()), None)
    adopted = graph is not None and (path / ADOPTED_NAME).is_file() and is_foreign(graph)
    return Source(path, path, graph, adopted)


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
    if source.is_foreign:
        return ForeignBackend(source.graph)
    backend = runtime.backend(source.graph, precision)
    backend.ensure_agreement(source.folder)
    return backend


def _refusal(source: Source, device: str, precision: str, name: str) -> str | None:
    """Why a backend cannot do what is asked, and the way out; None if it can."""
    runtime, path = BACKENDS[name], source.path
    if source.is_foreign and name != "onnxruntime":
        return (
            f"{path}: not an encoder that `speakervlad export` wrote; those of other toolkits run "
            f"on onnxruntime, not on {name}."
        )
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

    Of an encoder of others, also one that was adopted: what it is known by.

    Raises:
        InputError: no encoder.
    """
    source = _source(path)
    if source.is_foreign:
        assert source.graph is not None
        return ForeignBackend(source.graph).notes
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
