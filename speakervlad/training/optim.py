"""Optimisers and which parameters they decay."""

from collections.abc import Iterable

import torch
from torch import nn

from speakervlad.config import OptimConfig
from speakervlad.errors import check_range
from speakervlad.models.encoder import SpeakerClassifier


def build_optimizer(model: SpeakerClassifier, config: OptimConfig) -> torch.optim.Optimizer:
    """Adam (coupled decay), AdamW (decoupled) or SGD with Nesterov momentum.

    Every parameter group says whether it belongs to the ``trunk``, so that a learning rate can
    rest for it alone.
    """
    groups = parameter_groups(model, config.weight_decay)
    if config.kind == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.kind]
    return kind(groups, lr=config.lr, eps=config.epsilon, fused=True)


def check_optim(config: OptimConfig) -> None:
    """Refuse rates and decays outside of their ranges.

    Raises:
        InputError: as said.
    """
    check_range("optim.lr", config.lr, at_least=0)
    check_range("optim.epsilon", config.epsilon, above=0)
    check_range("optim.momentum", config.momentum, at_least=0, below=1)
    check_range("optim.weight_decay", config.weight_decay, at_least=0)
    check_range("optim.clip_norm", config.clip_norm, at_least=0)


def parameter_groups(model: SpeakerClassifier, weight_decay: float) -> list[dict]:
    """Trunk and rest, each with and without decay; batch norm and cluster centres have none."""
    free = {id(parameter) for parameter in undecayed(model)}
    trunk = {id(parameter) for parameter in model.encoder.trunk.parameters()}
    groups = []
    for in_trunk in (True, False):
        for decays in (True, False):
            parameters = [
                parameter
                for parameter in model.parameters()
                if (id(parameter) in trunk) == in_trunk and (id(parameter) in free) != decays
            ]
            decay = weight_decay if decays else 0.0
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "trunk": in_trunk})
    return groups


def undecayed(model: SpeakerClassifier) -> Iterable[nn.Parameter]:
    """Batch norm's scales and shifts, and the cluster centres."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            yield from module.parameters()
    centers = getattr(model.encoder.pooling, "centers", None)
    if centers is not None:
        yield centers


def set_learning_rate(
    optimizer: torch.optim.Optimizer, rate: float, *, trunk_rests: bool = False
) -> None:
    """Give all groups this rate, or none to the trunk's groups while it rests."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if trunk_rests and group["trunk"] else rate
