"""Which array of the published Keras models is which weight of ours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn

from speakervlad.models.encoder import ColumnDescriptors, SpeakerEncoder
from speakervlad.models.pooling import NetVLAD

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
    for stage, blocks in enumerate(encoder.trunk.stages.children()):
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
