"""CAM++ of 3D-Speaker and of WeSpeaker, which took its code over.

The networks are one; their features and the floor of the variance differ: WeSpeaker's are of 16-bit
samples under a Hamming window, and it keeps its classifier beside the network.
"""

import re
from collections.abc import Iterator, Mapping

import torch

from speakervlad.checkpoints.tensors import TensorReader, Tensors
from speakervlad.config import EncoderConfig
from speakervlad.models.frontend import KALDI_SCALE
from speakervlad.schema import Part

RESIDUAL = (
    ("conv1", "conv1"),
    ("bn1", "norm1"),
    ("conv2", "conv2"),
    ("bn2", "norm2"),
    ("shortcut.0", "shortcut.0"),
    ("shortcut.1", "shortcut.1"),
)
DENSE = (
    ("nonlinear1.batchnorm", "reduce.0.0"),
    ("linear1", "reduce.1"),
    ("nonlinear2.batchnorm", "reduce.2.0"),
    ("cam_layer.linear_local", "conv"),
    ("cam_layer.linear1", "mask.0"),
    ("cam_layer.linear2", "mask.2"),
)
DENSE_LAYER = re.compile(r"xvector\.block(\d+)\.tdnnd(\d+)\.")


class SpeakerLabCAMPPlus(TensorReader):
    """``CAMPPlus`` of 3D-Speaker (speakerlab): Kaldi's features of samples in [-1, 1].

    Its standard deviation is the unbiased one and has no floor: ours is too small to matter.
    """

    what = "CAM++ of 3D-Speaker"
    keystone = "xvector.tdnn.linear.weight"
    front_end: Mapping[str, float | str] = {}
    variance_floor = 1e-12

    def config(self, state: Tensors) -> EncoderConfig:
        rows = state[self.keystone].shape[1] // state["head.conv2.weight"].shape[0]
        return EncoderConfig(
            front_end=Part("kaldi_fbank", num_mels=8 * rows, **self.front_end),
            trunk=Part("campplus", layers=_layers(state)),
            descriptor_dim=0,
            pooling=Part("statistics", unbiased=True, variance_floor=self.variance_floor),
            embedding_dim=state["xvector.dense.linear.weight"].shape[0],
            embedding_relu=False,
            embedding_norm=True,
        )

    def modules(self, config: EncoderConfig) -> Mapping[str, str]:
        return {theirs: f"trunk.{ours}" for theirs, ours in _modules(config.trunk.layers)}

    def head_shapes(self, config: EncoderConfig, pooled: int) -> dict[str, tuple[int, ...]]:
        dim, norm = config.embedding_dim, "xvector.dense.nonlinear.batchnorm"
        return {
            "xvector.dense.linear.weight": (dim, pooled, 1),
            f"{norm}.running_mean": (dim,),
            f"{norm}.running_var": (dim,),
            f"{norm}.num_batches_tracked": (),
        }

    def projection(self, state: Tensors) -> Tensors:
        weight = state["xvector.dense.linear.weight"].squeeze(2)
        norm = "xvector.dense.nonlinear.batchnorm."
        return {
            "linear.weight": weight,
            "linear.bias": torch.zeros(len(weight)),
            **{
                f"norm.{name.removeprefix(norm)}": value
                for name, value in state.items()
                if name.startswith(norm)
            },
        }


class WeSpeakerCAMPPlus(SpeakerLabCAMPPlus):
    """``CAMPPlus`` of WeSpeaker, pooled by its ``TSTP``; the classifier is left out."""

    what = "CAM++ of WeSpeaker"
    front_end: Mapping[str, float | str] = {"scale": KALDI_SCALE, "window": "hamming"}
    variance_floor = 1e-7

    def useful(self, state: Tensors) -> Tensors:
        return {name: value for name, value in state.items() if not name.startswith("projection.")}


def _layers(state: Tensors) -> tuple[int, ...]:
    """Dense layers of every block, by the greatest number in it."""
    counts: dict[int, int] = {}
    for block, layer in (
        map(int, found.groups()) for found in map(DENSE_LAYER.match, state) if found
    ):
        counts[block] = max(counts.get(block, 0), layer)
    return tuple(counts[block] for block in sorted(counts))


def _modules(layers: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    yield from {"head.conv1": "front.0", "head.bn1": "front.1"}.items()
    for number in range(4):
        theirs = f"head.layer{1 + number // 2}.{number % 2}"
        yield from ((f"{theirs}.{part}", f"front.{3 + number}.{ours}") for part, ours in RESIDUAL)
    yield from {"head.conv2": "front.7", "head.bn2": "front.8"}.items()
    yield from {"xvector.tdnn.linear": "halve"}.items()
    yield from {"xvector.tdnn.nonlinear.batchnorm": "halve_norm.0"}.items()
    at = 0
    for block, count in enumerate(layers, 1):
        for layer in range(1, count + 1):
            theirs = f"xvector.block{block}.tdnnd{layer}"
            yield from ((f"{theirs}.{part}", f"dense.{at}.{ours}") for part, ours in DENSE)
            at += 1
        yield f"xvector.transit{block}.nonlinear.batchnorm", f"dense.{at}.0"
        yield f"xvector.transit{block}.linear", f"dense.{at + 1}"
        at += 2
    yield "xvector.out_nonlinear.batchnorm", "last_norm.0"
