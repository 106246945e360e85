import copy

import pytest
import torch

from speakervlad.training.augment import Examples
from speakervlad.training.distributed import World
from speakervlad.training.start import build_model
from speakervlad.training.trainer import StepPlan, Trainer, build_optimizer

CPU = torch.device("cpu")


@pytest.fixture
def config(experiment):
    return experiment("optim.kind=sgd", "optim.momentum=0", "optim.weight_decay=0")


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(1)
    waveforms = 0.1 * torch.randn(8, 8032, generator=generator)
    return Examples(waveforms, torch.arange(8) % 4)


def trainer(model, config, **options):
    plan = {"plan": lambda step: StepPlan(0.1)}
    return Trainer(model, build_optimizer(model, config.optim), World(0, 1, CPU), **plan, **options)


def test_accumulated_parts_give_the_mean_of_their_gradients(config, examples):
    model = build_model(config, 4)
    start = copy.deepcopy(model)
    loss = trainer(model, config, accumulate=2).step(0, examples)
    parts = [
        Examples(*(value[rows] for value in examples[:2])) for rows in ([0, 1, 2, 3], [4, 5, 6, 7])
    ]
    losses = [trainer(copy.deepcopy(start), config).step(0, part).value for part in parts]
    torch.testing.assert_close(loss.value, torch.stack(losses).mean())

    halves = []
    for part in parts:
        half = copy.deepcopy(start)
        trainer(half, config).step(0, part)
        halves.append(dict(half.named_parameters()))
    for name, value in model.named_parameters():
        expected = (halves[0][name] + halves[1][name]) / 2
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)


def test_masked_spectrograms_change_the_loss_and_a_mask_that_keeps_all_does_not(config, examples):
    model = build_model(config, 4)
    losses = []
    for keep in (None, torch.ones(8, 40, 48, dtype=torch.bool), torch.zeros(8, 40, 48).bool()):
        masked = examples._replace(keep=keep)
        losses.append(trainer(copy.deepcopy(model), config).step(0, masked).value)
    torch.testing.assert_close(losses[0], losses[1])
    assert abs(losses[2] - losses[0]) > 1e-3


def test_frozen_stages_keep_weights_and_statistics_and_the_rest_learns(config, examples):
    model = build_model(config, 4)
    before = copy.deepcopy(model.state_dict())
    trainer(model, config, frozen=model.encoder.trunk.first_stages(2)).step(0, examples)
    frozen = ("encoder.trunk.stem", "encoder.trunk.stages.0.", "encoder.trunk.stages.1.")
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert not [name for name in changed if name.startswith(frozen)]
    for name in ("encoder.trunk.stages.2.0.conv.weight", "encoder.trunk.stages.3.0.conv_norm"):
        assert any(key.startswith(name) for key in changed)
