import pytest
import torch

from speakervlad.config import OptimConfig
from speakervlad.errors import InputError
from speakervlad.training.run import check_config
from speakervlad.training.start import build_model
from speakervlad.training.trainer import build_optimizer, set_learning_rate


@pytest.fixture
def model(experiment):
    return build_model(experiment(), num_speakers=4)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_decay_spares_batch_norm_and_centres_alone(model, kind):
    optimizer = build_optimizer(model, OptimConfig(kind=kind, weight_decay=0.25))
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decay.keys() == names.keys()
    spared = {names[key] for key, value in decay.items() if value == 0}
    assert spared == {
        name for name in names.values() if "norm" in name or is_shortcut_norm(name)
    } | {"encoder.pooling.centers"}
    assert set(decay.values()) == {0.0, 0.25}


def is_shortcut_norm(name):
    return ".shortcut.1." in name


def test_resting_trunk_keeps_its_weights(model):
    optimizer = build_optimizer(model, OptimConfig(lr=0.1))
    before = {name: value.clone() for name, value in model.named_parameters()}
    set_learning_rate(optimizer, 0.1, trunk_frozen=True)
    loss = model(torch.randn(4, 9000), torch.arange(4)).value
    loss.backward()
    optimizer.step()
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("encoder.trunk"), name


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optim.lr=-1", "at least 0"),
        ("optim.lr=.nan", "at least 0"),
        ("optim.epsilon=-1", "above 0"),
        ("optim.momentum=1", "at least 0 and below 1"),
        ("optim.weight_decay=-0.1", "at least 0"),
        ("optim.clip_norm=-1", "at least 0"),
        ("schedule.warmup_start=2", "at least 0 and at most 1"),
        ("schedule.final_factor=-1", "at least 0 and at most 1"),
        ("classifier.scale=0", "above 0"),
        ("classifier.margin=-0.1", "at least 0"),
        ("classifier.num_centers=0", "at least 1 and at most 100"),
        ("train.freeze_trunk_steps=-1", "at least 0"),
    ],
)
def test_numbers_out_of_range_are_named_before_data_is_touched(experiment, override, expected):
    key = override.partition("=")[0]
    with pytest.raises(InputError, match=rf"(^|: ){key}=\S+: must be {expected}\.$"):
        check_config(experiment(override), world_size=1)
