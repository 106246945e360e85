"""The published Keras models (Xie et al., ICASSP 2019) as ordinary encoder folders.

Weights that Keras wrote as HDF5 are read as arrays by layer name, and nothing else of the file;
names and shapes tell the variant; every array has its place in a ``SpeakerEncoder``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from speakervlad.config import EncoderConfig
from speakervlad.errors import InputError, first_few
from speakervlad.models.encoder import ColumnDescriptors, SpeakerEncoder
from speakervlad.models.folder import (
    assemble_encoder,
    complete,
    load_strictly,
    save_classifier,
    save_encoder,
)
from speakervlad.models.pooling import NetVLAD
from speakervlad.schema import Part

Layers = dict[str, dict[str, np.ndarray]]

CLASSIFIER = "prediction"
# What our batch norm counts and Keras's does not.
COUNTER = "num_batches_tracked"
HEADS = {
    "gvlad": {"x_fc", "gvlad_center_assignment", "gvlad_pool", "fc6"},
    "vlad": {"x_fc", "vlad_center_assignment", "vlad_pool", "fc6"},
    "avg": {"avg_pool", "fc6"},
}
# The published models' largest array, a 3x3 kernel of resnet34l or 8631 classes, is far below.
LARGEST_ARRAY = 1 << 26

# Keras 3 numbers a layer's variables in the order of their making.
VARIABLES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
BLOCK_PARTS = (
    ("1x1_reduce", "reduce"),
    ("1x1_reduce/bn", "reduce_norm"),
    ("3x3", "conv"),
    ("3x3/bn", "conv_norm"),
    ("1x1_increase", "increase"),
    ("1x1_increase/bn", "increase_norm"),
)
SHORTCUT_PARTS = (("1x1_proj", "shortcut.0"), ("1x1_proj/bn", "shortcut.1"))
BATCH_NORM = (
    ("gamma", "weight"),
    ("beta", "bias"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
)


@dataclass(frozen=True)
class Place:
    """One array: where Keras keeps it, its shape there, where we keep it, how it gets there."""

    layer: str
    weight: str
    shape: tuple[int, ...]
    key: str
    to_torch: Callable[[np.ndarray], np.ndarray] = np.asarray


@dataclass(frozen=True)
class KerasModel:
    """The layers that make up one model, and which variant of the release they are."""

    layers: Layers
    aggregation: str
    config: EncoderConfig

    @property
    def num_classes(self) -> int:
        """Classes of the prediction layer, 0 without one."""
        return self.layers[CLASSIFIER]["kernel"].shape[1] if CLASSIFIER in self.layers else 0


def convert_keras(paths: Sequence[str | Path], out: str | Path) -> KerasModel:
    """Turn Keras weights into an encoder folder in reference mode: mirrored, per-frame normalised.

    A prediction layer is kept beside the encoder as ``classifier.safetensors``.

    Args:
        paths: HDF5 files; layers of later ones replace those of earlier ones.
        out: the encoder folder.

    Raises:
        InputError: a file is not readable, or the layers are not exactly those of one of the
            published models; then nothing is written.
    """
    where = ", ".join(map(str, paths))
    model = recognise([read_layers(path) for path in paths], where)
    with torch.device("meta"):
        wanted = places(assemble_encoder(model.config), model.aggregation)
    _refuse_mismatches(model, wanted, where)
    encoder = assemble_encoder(model.config)
    state = {key: x for key, x in encoder.state_dict().items() if key.endswith(COUNTER)}
    for place in wanted:
        state[place.key] = _tensor(place.to_torch(model.layers[place.layer][place.weight]))
    load_strictly(encoder, state, where)
    notes = {"converted_from": ", ".join(Path(path).name for path in paths)}
    save_encoder(out, encoder, model.config, notes)
    if CLASSIFIER in model.layers:
        save_classifier(out, _tensor(model.layers[CLASSIFIER]["kernel"].T))
    return model


def recognise(files: Sequence[Layers], where: str) -> KerasModel:
    """Find the variant by names and shapes; the last file with a head decides the aggregation.

    Raises:
        InputError: nothing of the published trunk is there.
    """
    heads = [_head_kind(file) for file in files]
    aggregation = next((head for head in reversed(heads) if head), "avg")
    decisive = max((i for i, head in enumerate(heads) if head == aggregation), default=0)
    stale = set().union(*HEADS.values()) - HEADS[aggregation]
    layers: Layers = {}
    for i, file in enumerate(files):
        layers |= {n: w for n, w in file.items() if w and (i >= decisive or n not in stale)}
    if "conv1_1/3x3_s1" not in layers:
        held = first_few(layers) or "no weights"
        raise InputError(
            f"{where}: is none of the published speaker models (no conv1_1/3x3_s1, but {held})."
        )
    return KerasModel(layers, aggregation, _config(layers, aggregation))


def _head_kind(layers: Layers) -> str | None:
    return next((kind for kind in HEADS if f"{kind}_pool" in layers), None)


def _config(layers: Layers, aggregation: str) -> EncoderConfig:
    wide = "conv2_c_1x1_reduce" in layers
    embedding_dim = _shape(layers, "fc6", "kernel", (0, 512))[1]
    front_end = Part("linear", normalise="frequency", mirror=True)
    trunk = Part("wide_resnet34" if wide else "thin_resnet34")
    if aggregation == "avg":
        pooling, descriptor_dim = Part("average"), 0
    else:
        pooling, descriptor_dim = _vlad_config(layers, aggregation)
    return complete(
        EncoderConfig(
            front_end=front_end,
            trunk=trunk,
            descriptor_dim=descriptor_dim,
            pooling=pooling,
            embedding_dim=embedding_dim,
        )
    )


def _vlad_config(layers: Layers, aggregation: str) -> tuple[Part, int]:
    """K, G and D from the shapes; where those contradict each other the comparison names them."""
    total, dim = _shape(layers, f"{aggregation}_pool", "centers", (10, 512))
    num_clusters = _shape(layers, "fc6", "kernel", (8 * dim, 512))[0] // max(dim, 1)
    if aggregation == "vlad" or not 1 <= num_clusters <= total:
        num_clusters = total
    options = {"num_clusters": num_clusters, "num_ghosts": total - num_clusters}
    return Part("netvlad", **options), dim


def _shape(layers: Layers, layer: str, weight: str, default: tuple[int, int]) -> tuple[int, int]:
    """Shape of a matrix, or the published model's where it is missing or no matrix."""
    array = layers.get(layer, {}).get(weight)
    return array.shape if array is not None and array.ndim == 2 and array.size else default


def _refuse_mismatches(model: KerasModel, wanted: list[Place], where: str) -> None:
    """Name everything that is missing, surplus or of another shape, all at once."""
    expected = {(place.layer, place.weight): place.shape for place in wanted}
    if CLASSIFIER in model.layers:
        expected[CLASSIFIER, "kernel"] = (model.config.embedding_dim, model.num_classes)
    found = {
        (layer, weight): array.shape
        for layer, weights in model.layers.items()
        for weight, array in weights.items()
    }
    problems = {
        "missing": [f"{'/'.join(name)}" for name in expected if name not in found],
        "surplus": [f"{'/'.join(name)}" for name in found if name not in expected],
        "wrong shape": [
            f"{'/'.join(name)} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
    if listed:
        raise InputError(f"{where}: is none of the published speaker models: {listed}.")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def places(encoder: SpeakerEncoder, aggregation: str) -> list[Place]:
    """All arrays of an encoder; ``aggregation`` is the release's ``gvlad``, ``vlad`` or ``avg``."""
    named = [*_trunk_layers(encoder)]
    if isinstance(encoder.descriptors, ColumnDescriptors):
        named.append(("x_fc", "descriptors.linear"))
    named.append(("fc6", "projection.linear"))
    found = [place for layer, path in named for place in _module_places(encoder, layer, path)]
    if isinstance(encoder.pooling, NetVLAD):
        found += _vlad_places(encoder.pooling, encoder.trunk.num_rows, aggregation)
    return found


def _trunk_layers(encoder: SpeakerEncoder) -> Iterator[tuple[str, str]]:
    yield "conv1_1/3x3_s1", "trunk.stem"
    yield "conv1_1/3x3_s1/bn", "trunk.stem_norm"
    for stage, blocks in enumerate(encoder.trunk.get_submodule("stages").children()):
        for block, letter in zip(range(len(list(blocks.children()))), "abc", strict=False):
            parts = BLOCK_PARTS + (SHORTCUT_PARTS if block == 0 else ())
            for part, ours in parts:
                yield f"conv{stage + 2}_{letter}_{part}", f"trunk.stages.{stage}.{block}.{ours}"


def _module_places(encoder: SpeakerEncoder, layer: str, path: str) -> Iterator[Place]:
    module = encoder.get_submodule(path)
    if isinstance(module, nn.BatchNorm2d):
        for weight, ours in BATCH_NORM:
            yield Place(layer, weight, (module.num_features,), f"{path}.{ours}")
        return
    assert isinstance(module, nn.Conv2d | nn.Linear)
    out, into, *window = module.weight.shape
    if window:
        yield Place(layer, "kernel", (*window, into, out), f"{path}.weight", _kernel)
    else:
        yield Place(layer, "kernel", (into, out), f"{path}.weight", np.transpose)
    if module.bias is not None:
        yield Place(layer, "bias", (out,), f"{path}.bias")


def _vlad_places(pooling: NetVLAD, num_rows: int, aggregation: str) -> Iterator[Place]:
    layer = f"{aggregation}_center_assignment"
    total, guide_dim, _ = pooling.assignment.weight.shape
    shape = (num_rows, 1, guide_dim // num_rows, total)
    yield Place(layer, "kernel", shape, "pooling.assignment.weight", _columns)
    yield Place(layer, "bias", (total,), "pooling.assignment.bias")
    num_clusters, dim = pooling.centers.shape
    yield Place(
        f"{aggregation}_pool",
        "centers",
        (total, dim),
        "pooling.centers",
        # The ghosts' centres reach no output and get no gradient.
        lambda centers: centers[:num_clusters],
    )


def _kernel(array: np.ndarray) -> np.ndarray:
    """(height, width, in, out) to (out, in, height, width)."""
    return array.transpose(3, 2, 0, 1)


def _columns(array: np.ndarray) -> np.ndarray:
    """(rows, 1, in, out) to (out, in * rows, 1): a convolution over flattened columns."""
    return _kernel(array).reshape(array.shape[3], -1, 1)


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
        raise InputError(f"{path}: is no HDF5 file, or was cut short. Name Keras weights (.h5).")
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
