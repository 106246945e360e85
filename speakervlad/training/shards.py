"""States and gradients of a model whose classes may be spread over processes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.training.partial_fc import PartialFC

SHARD_NAME = "classifier.margin.weight"
WEIGHT_NAME = "classifier.weight"


def is_sharded(model: SpeakerClassifier) -> bool:
    """Whether every process holds its own range of the classes."""
    return isinstance(model.classifier, PartialFC)


def whole_weight(model: SpeakerClassifier) -> Tensor:
    """The weights of all classes, in the main process; every process must call it."""
    classifier, weight = model.classifier, model.classifier.weight.detach()
    return classifier.gather_rows(weight) if isinstance(classifier, PartialFC) else weight


def whole_model_state(model: SpeakerClassifier) -> dict[str, Any]:
    """The state of the same model unsharded, in the main process; every process must call it."""
    state = model.state_dict()
    if is_sharded(model):
        del state[SHARD_NAME]
        state[WEIGHT_NAME] = whole_weight(model)
    return state


def own_model_state(model: SpeakerClassifier, whole: dict[str, Any]) -> dict[str, Any]:
    """What this process loads of the state that ``whole_model_state`` gave."""
    classifier = model.classifier
    if not isinstance(classifier, PartialFC):
        return whole
    shared = {name: value for name, value in whole.items() if name != WEIGHT_NAME}
    return {**shared, SHARD_NAME: classifier.own_rows(whole[WEIGHT_NAME])}


def whole_optimizer_state(
    model: SpeakerClassifier, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The state of the same optimiser unsharded, as above."""
    classifier, state = model.classifier, optimizer.state_dict()
    if not isinstance(classifier, PartialFC):
        return state
    return _with_rows(state, optimizer, classifier.weight, classifier.gather_rows)


def own_optimizer_state(
    model: SpeakerClassifier, optimizer: torch.optim.Optimizer, whole: dict[str, Any]
) -> dict[str, Any]:
    """What this process loads of the state that ``whole_optimizer_state`` gave."""
    classifier = model.classifier
    if not isinstance(classifier, PartialFC):
        return whole
    return _with_rows(whole, optimizer, classifier.weight, classifier.own_rows)


def clip_gradients(model: SpeakerClassifier, largest: float) -> None:
    """Scale gradients down to this norm, taken over the classes of all processes."""
    parameters, classifier = list(model.parameters()), model.classifier
    if not isinstance(classifier, PartialFC):
        nn.utils.clip_grad_norm_(parameters, largest)
        return
    own, world = classifier.weight.grad, classifier.world
    assert own is not None
    shared = [p.grad for p in parameters if p.grad is not None and p.grad is not own]
    squares = world.mean(own.square().sum()) * world.size
    norm = (nn.utils.get_total_norm(shared).square() + squares).sqrt()
    nn.utils.clip_grads_with_norm_(parameters, largest, norm)


def _with_rows(
    state: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    weight: nn.Parameter,
    convert: Callable[[Tensor], Tensor],
) -> dict[str, Any]:
    """The optimiser's state with everything that has a row for every class converted."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    index = next(number for number, p in enumerate(parameters) if p is weight)
    values = state["state"].get(index, {})
    rows = {
        name: convert(value) if isinstance(value, Tensor) and value.dim() else value
        for name, value in values.items()
    }
    return {**state, "state": {**state["state"], index: rows}}
