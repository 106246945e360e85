"""Batch norms folded into the convolutions before them: the same numbers with fewer passes."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.resnet import Bottleneck
from speakervlad.models.standard_resnet import BasicBlock

BLOCK_PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    Bottleneck: (("reduce", "reduce_norm"), ("conv", "conv_norm"), ("increase", "increase_norm")),
    BasicBlock: (("conv1", "norm1"), ("conv2", "norm2")),
}


def fold_batch_norms(encoder: SpeakerEncoder) -> SpeakerEncoder:
    """A copy in evaluation mode, whose trunk computes with its running statistics folded in."""
    folded = copy.deepcopy(encoder).eval().requires_grad_(False)
    trunk = folded.trunk
    _fold(trunk, "stem", "stem_norm")
    for block in trunk.modules():
        for convolution, norm in BLOCK_PAIRS.get(type(block), ()):
            _fold(block, convolution, norm)
        if isinstance(block, Bottleneck | BasicBlock) and len(block.shortcut):
            _fold(block.shortcut, "0", "1")
    return folded


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    kernel, statistics = parent.get_submodule(convolution), parent.get_submodule(norm)
    assert isinstance(kernel, nn.Conv2d)
    assert isinstance(statistics, nn.BatchNorm2d)
    setattr(parent, convolution, fuse_conv_bn_eval(kernel, statistics))
    setattr(parent, norm, nn.Identity())
