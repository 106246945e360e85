"""ECAPA-TDNN of SpeechBrain: the ``embedding_model.ckpt`` of its speaker recognition recipes."""

from collections.abc import Iterator, Mapping

import torch

from speakervlad.checkpoints.tensors import TensorReader, Tensors
from speakervlad.config import EncoderConfig
from speakervlad.models.ecapa import DILATIONS, SCALE
from speakervlad.schema import Part

# Of SpeechBrain's batch norms, which are torch's.
NORM_EPSILON = 1e-5
HEAD_NORM = ("weight", "bias", "running_mean", "running_var")


class SpeechBrainECAPA(TensorReader):
    """``ECAPA_TDNN`` over ``Fbank``, whose mean over the recording is subtracted.

    The batch norm behind the pooling becomes part of the projection.
    """

    what = "ECAPA-TDNN of SpeechBrain"
    keystone = "mfa.conv.conv.weight"

    def config(self, state: Tensors) -> EncoderConfig:
        channels, num_mels, _ = state["blocks.0.conv.conv.weight"].shape
        out_channels = len(state[self.keystone])
        attention_dim, seen, _ = state["asp.tdnn.conv.conv.weight"].shape
        return EncoderConfig(
            front_end=Part("speechbrain_fbank", num_mels=num_mels),
            trunk=Part(
                "speechbrain_ecapa_tdnn",
                channels=channels,
                out_channels=out_channels,
                squeeze_dim=len(state["blocks.1.se_block.conv1.conv.weight"]),
            ),
            descriptor_dim=0,
            pooling=Part(
                "attentive_statistics",
                attention_dim=attention_dim,
                context=seen > out_channels,
                variance_floor=1e-12,
            ),
            embedding_dim=len(state["fc.conv.weight"]),
            embedding_relu=False,
        )

    def modules(self, config: EncoderConfig) -> Mapping[str, str]:
        return dict(_modules())

    def head_shapes(self, config: EncoderConfig, pooled: int) -> dict[str, tuple[int, ...]]:
        dim = config.embedding_dim
        return {
            **{f"asp_bn.norm.{name}": (pooled,) for name in HEAD_NORM},
            "asp_bn.norm.num_batches_tracked": (),
            "fc.conv.weight": (dim, pooled, 1),
            "fc.conv.bias": (dim,),
        }

    def projection(self, state: Tensors) -> Tensors:
        scale, shift, mean, variance = (state[f"asp_bn.norm.{name}"].double() for name in HEAD_NORM)
        weight = state["fc.conv.weight"].squeeze(2).double()
        scale = scale / torch.sqrt(variance + NORM_EPSILON)
        bias = state["fc.conv.bias"] + weight @ (shift - mean * scale)
        return {"linear.weight": (weight * scale).float(), "linear.bias": bias.float()}


def _modules() -> Iterator[tuple[str, str]]:
    yield from _layer("blocks.0", "trunk.stem")
    for block in range(len(DILATIONS)):
        theirs, ours = f"blocks.{block + 1}", f"trunk.blocks.{block}.body"
        yield from _layer(f"{theirs}.tdnn1", f"{ours}.0")
        for layer in range(SCALE - 1):
            yield from _layer(f"{theirs}.res2net_block.blocks.{layer}", f"{ours}.1.layers.{layer}")
        yield from _layer(f"{theirs}.tdnn2", f"{ours}.2")
        yield f"{theirs}.se_block.conv1.conv", f"{ours}.3.reduce"
        yield f"{theirs}.se_block.conv2.conv", f"{ours}.3.expand"
    yield "mfa.conv.conv", "trunk.aggregate"
    yield "mfa.norm.norm", "trunk.last_norm"
    yield "asp.tdnn.conv.conv", "pooling.attention.0"
    yield "asp.tdnn.norm.norm", "pooling.attention.2"
    yield "asp.conv.conv", "pooling.attention.4"


def _layer(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    """A convolution, and the batch norm behind its ReLU."""
    yield f"{theirs}.conv.conv", f"{ours}.0"
    yield f"{theirs}.norm.norm", f"{ours}.2"
