"""The published Keras models (Xie et al., ICASSP 2019) as ordinary encoder folders.

Names and shapes of the layers tell the variant; every array has its place in a ``SpeakerEncoder``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from speakervlad.checkpoints.reader import Converted, Reader, write_folder
from speakervlad.config import EncoderConfig
from speakervlad.errors import InputError, first_few
from speakervlad.models.encoder import ColumnDescriptors, SpeakerEncoder
from speakervlad.models.folder import assemble_encoder, complete
from speakervlad.models.pooling import NetVLAD
from speakervlad.schema import Part

Layers = dict[str, dict[str, np.ndarray]]

CLASSIFIER = "prediction"
HEADS = {
    "gvlad": {"x_fc", "gvlad_center_assignment", "gvlad_pool", "fc6"},
    "vlad": {"x_fc", "vlad_center_assignment", "vlad_pool", "fc6"},
    "avg": {"avg_pool", "fc6"},
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


class KerasReader(Reader):
    """The published models, in reference mode: mirrored, normalised frame by frame."""

    needs = ("h5py", "convert")

    def read(self, paths: Sequence[Path]) -> Converted:
        return converted(read_model(paths), _named(paths))


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
    files = [Path(path) for path in paths]
    model = read_model(files)
    write_folder(out, converted(model, _named(files)), files)
    return model


def read_model(paths: Sequence[Path]) -> KerasModel:
    """The model whose layers lie in some files.

    Raises:
        InputError: a file is not readable, or holds nothing of a published model.
    """
    from speakervlad.checkpoints.hdf5 import read_layers

    return recognise([read_layers(path) for path in paths], _named(paths))


def converted(model: KerasModel, where: str) -> Converted:
    """Every array in its place.

    Raises:
        InputError: the layers are not exactly those of a published model.
    """
    with torch.device("meta"):
        wanted = places(assemble_encoder(model.config), model.aggregation)
    _refuse_mismatches(model, wanted, where)
    state = {
        place.key: _tensor(place.to_torch(model.layers[place.layer][place.weight]))
        for place in wanted
    }
    kept = model.layers.get(CLASSIFIER)
    classifier = None if kept is None else _tensor(kept["kernel"].T)
    return Converted(model.config, state, _told(model), classifier)


def _told(model: KerasModel) -> str:
    config, pooling, clusters = model.config, model.config.pooling, ""
    if "num_clusters" in pooling.options:
        clusters = f", {pooling.num_clusters}+{pooling.num_ghosts} clusters"
    classes = f", classifier of {model.num_classes} classes kept" if model.num_classes else ""
    dim = config.embedding_dim
    return f"{config.trunk.kind}, {model.aggregation}{clusters}, {dim} dimensions{classes}"


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


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
