"""Batch normalisation over the batch of all processes, on GPUs and on CPUs."""

from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class SyncedBatchNorm(_BatchNorm):
    """What ``nn.SyncBatchNorm`` is for CUDA alone, by differentiable sums over all processes."""

    @classmethod
    def of(cls, layer: _BatchNorm) -> "SyncedBatchNorm":
        """The same layer, with its parameters and buffers, over all processes."""
        synced = cls(layer.num_features, layer.eps, layer.momentum, layer.affine)
        synced.weight, synced.bias = layer.weight, layer.bias
        synced.running_mean, synced.running_var = layer.running_mean, layer.running_var
        synced.num_batches_tracked = layer.num_batches_tracked
        return synced.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        count = input.numel() // input.shape[1] * dist.get_world_size()
        mean = cast("Tensor", all_reduce(input.sum(axes))) / count
        centred = input - mean.view(shape)
        variance = cast("Tensor", all_reduce(centred.square().sum(axes))) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        output = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is None:
            return output
        return output * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Replace all batch normalisation of a model; parameters stay the same objects."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            setattr(model, name, SyncedBatchNorm.of(child))
        else:
            synchronise(child, device)
    return model
