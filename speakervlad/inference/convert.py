"""The published Keras models (Xie et al., ICASSP 2019) as ordinary encoder folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speakervlad.config import EncoderConfig, FrontEndConfig, PoolingConfig, TrunkConfig
from speakervlad.errors import InputError, first_few
from speakervlad.inference.keras_layers import Place, places
from speakervlad.inference.keras_weights import Layers, read_layers
from speakervlad.models.build import (
    assemble_encoder,
    load_strictly,
    save_classifier,
    save_encoder,
)

CLASSIFIER = "prediction"
# What our batch norm counts and Keras's does not.
COUNTER = "num_batches_tracked"
HEADS = {
    "gvlad": {"x_fc", "gvlad_center_assignment", "gvlad_pool", "fc6"},
    "vlad": {"x_fc", "vlad_center_assignment", "vlad_pool", "fc6"},
    "avg": {"avg_pool", "fc6"},
}


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
    front_end = FrontEndConfig(kind="linear", normalise="frequency", mirror=True)
    trunk = TrunkConfig(kind="wide_resnet34" if wide else "thin_resnet34")
    if aggregation == "avg":
        pooling, descriptor_dim = PoolingConfig(kind="average"), 0
    else:
        pooling, descriptor_dim = _vlad_config(layers, aggregation)
    return EncoderConfig(
        front_end=front_end,
        trunk=trunk,
        descriptor_dim=descriptor_dim,
        pooling=pooling,
        embedding_dim=embedding_dim,
    )


def _vlad_config(layers: Layers, aggregation: str) -> tuple[PoolingConfig, int]:
    """K, G and D from the shapes; where those contradict each other the comparison names them."""
    total, dim = _shape(layers, f"{aggregation}_pool", "centers", (10, 512))
    num_clusters = _shape(layers, "fc6", "kernel", (8 * dim, 512))[0] // max(dim, 1)
    if aggregation == "vlad" or not 1 <= num_clusters <= total:
        num_clusters = total
    return PoolingConfig(num_clusters=num_clusters, num_ghosts=total - num_clusters), dim


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
