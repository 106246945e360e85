"""Weights that Keras wrote as HDF5, read as arrays by layer name and nothing else of the file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from speakervlad.errors import InputError

Layers = dict[str, dict[str, np.ndarray]]

# The published models' largest array, a 3x3 kernel of resnet34l or 8631 classes, is far below.
LARGEST_ARRAY = 1 << 26

# Keras 3 numbers a layer's variables in the order of their making.
VARIABLES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def read_layers(path: str | Path) -> Layers:
    """Read ``{layer name: {weight name: float32 array}}``, in the file's order.

    Understands what ``save_weights`` of Keras 2 writes, full checkpoints, which hold the same
    under ``/model_weights``, and the ``.weights.h5`` of Keras 3. Layers without weights are listed
    too, empty.

    Raises:
        InputError: the file is absent, damaged, no HDF5, no Keras weights, or holds values that
            are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}.")
    if not h5py.is_hdf5(path):
        raise InputError(
            f"{path}: is no HDF5 file, or was cut short. Name Keras weights (.h5), or "
            "say whose checkpoint it is (--from)."
        )
    try:
        with h5py.File(path, "r") as file:
            return _read_file(file, path)
    except InputError:
        raise
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}). Download it again.") from error


def _read_file(file: h5py.File, path: Path) -> Layers:
    if "layers" in file and "layer_names" not in file.attrs:
        return _read_keras3(file, path)
    root = _group(file, "model_weights", path) if "model_weights" in file else file
    if "layer_names" not in root.attrs:
        raise InputError(f"{path}: holds no Keras weights (no layer_names).")
    return {name: _read_layer(_group(root, name, path), path) for name in _names(root, "layer")}


def _read_layer(group: h5py.Group, path: Path) -> dict[str, np.ndarray]:
    return {_last_part(name): _array(group, name, path) for name in _names(group, "weight")}


def _read_keras3(file: h5py.File, path: Path) -> Layers:
    layers: Layers = {}
    for key in _group(file, "layers", path):
        variables = _group(file, f"layers/{key}/vars", path)
        name = _with_slashes(str(variables.attrs["name"]))
        arrays = [
            _array(variables, number, path) for number in sorted(map(str, variables), key=int)
        ]
        names = ("centers",) if name.endswith("vlad_pool") else VARIABLES.get(len(arrays), ())
        layers[name] = dict(zip(names, arrays, strict=bool(arrays)))
    return layers


def _with_slashes(name: str) -> str:
    """The release's layer name; Keras 3 allows no slash, so ``_`` stands for it there."""
    name = name.replace("conv1_1_3x3_s1", "conv1_1/3x3_s1")
    return f"{name[:-3]}/bn" if name.endswith("_bn") else name


def _names(group: h5py.Group, kind: str) -> list[str]:
    names = np.asarray(group.attrs.get(f"{kind}_names", ())).tolist()
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _group(parent: h5py.Group, name: str, path: Path) -> h5py.Group:
    child = _child(parent, name, path)
    if not isinstance(child, h5py.Group):
        raise InputError(f"{path}: {child.name} is no layer.")
    return child


def _array(parent: h5py.Group, name: str, path: Path) -> np.ndarray:
    child = _child(parent, name, path)
    if not isinstance(child, h5py.Dataset) or child.dtype.kind != "f":
        raise InputError(f"{path}: {child.name} is no array of weights.")
    if child.external is not None or child.is_virtual:
        raise InputError(
            f"{path}: {child.name} lies in another file. Only weights inside are read."
        )
    if np.prod(child.shape, dtype=float) > LARGEST_ARRAY:
        raise InputError(f"{path}: {child.name} is larger than any published layer.")
    values = np.asarray(child, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {child.name} holds NaN or infinity.")
    return values


def _child(parent: h5py.Group, name: str, path: Path) -> Any:  # noqa: ANN401 - h5py has no types
    """What lies under a name, which may have slashes, and under no link to somewhere else."""
    child: Any = parent
    for part in name.split("/"):
        if not isinstance(child, h5py.Group) or part not in child:
            raise KeyError(name)
        if not isinstance(child.get(part, getlink=True), h5py.HardLink):
            raise InputError(f"{path}: {name} is a link. Only weights inside the file are read.")
        child = child[part]
    return child


def _last_part(name: str) -> str:
    """``kernel`` of ``conv1_1/3x3_s1/kernel:0``."""
    return name.rpartition("/")[2].partition(":")[0]
