"""Every file in ``conf/`` is one complete experiment; those of the release have its numbers."""

from pathlib import Path

import pytest
import torch

from speakervlad.config import Config, EncoderConfig, ScheduleConfig, load_config
from speakervlad.errors import InputError
from speakervlad.models.folder import build_classifier, build_encoder
from speakervlad.models.losses import LOSSES
from speakervlad.models.tables import TABLES
from speakervlad.models.trunks import TRUNKS
from speakervlad.schema import Part, flatten, resolve, to_dict
from speakervlad.sound import SAMPLE_RATE
from speakervlad.training.run import check_config
from speakervlad.training.trainer import build_plan, rate_factor

CONF = Path(__file__).parents[1] / "conf"
EPOCH = 1_092_009 // 160
RELEASE = {
    "vox2_ghostvlad": 7_664_394,
    "vox2_ghostvlad_amsoftmax": 7_664_394,
    "vox2_netvlad": 7_656_200,
    "vox2_average": 5_788_416,
}
# The release gives ghosts centres that reach no output; ours allocate none.
DEAD = {"vox2_ghostvlad": 2 * 512, "vox2_ghostvlad_amsoftmax": 2 * 512}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(config):
    with torch.device("meta"):
        encoder = build_encoder(config)
    return encoder


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_complete_and_builds(path):
    check_config(load_config(path), world_size=1)


@pytest.mark.parametrize("name", RELEASE)
def test_parameter_counts_of_the_release(name):
    config = load_config(CONF / f"{name}.yaml")
    encoder = on_meta(config.encoder)
    assert count(encoder) + DEAD.get(name, 0) == RELEASE[name]
    statistics = [b for n, b in encoder.trunk.named_buffers() if "running" in n]
    assert sum(buffer.numel() for buffer in statistics) == 14_016
    with torch.device("meta"):
        assert count(build_classifier(config.classifier, encoder.dim, 5994)) == 3_068_928


def test_parameter_counts_by_part():
    encoder = on_meta(load_config(CONF / "vox2_ghostvlad.yaml").encoder)
    assert count(encoder.trunk) == 3_690_240
    stages = [encoder.trunk.stem, encoder.trunk.stem_norm, *encoder.trunk.stages]
    sizes = [
        count(stage) + sum(b.numel() for n, b in stage.named_buffers() if "running" in n)
        for stage in stages
    ]
    assert [sizes[0] + sizes[1], *sizes[2:]] == [3_392, 66_432, 336_128, 662_528, 2_635_776]
    assert count(encoder.descriptors) == 1_835_520
    assert count(encoder.pooling.assignment) == 35_850
    assert encoder.pooling.centers.numel() == 5_120 - 1_024
    assert count(encoder.projection) == 2_097_664


@pytest.mark.parametrize(
    ("trunk", "clusters", "ghosts", "expected"),
    [("thin_resnet34", 10, 2, 8_196_876), ("wide_resnet34", 8, 2, 29_456_842)],
)
def test_parameter_counts_of_the_other_variants(trunk, clusters, ghosts, expected):
    config = EncoderConfig(
        trunk=Part(trunk),
        pooling=Part("netvlad", num_clusters=clusters, num_ghosts=ghosts),
    )
    assert count(on_meta(config)) + ghosts * 512 == expected


def expected_rates():
    """REFERENCE 2.7, epoch by epoch."""
    ranges = {(0, 2): 1e-4, (2, 32): 1e-3, (32, 51): 1e-4, (51, 64): 1e-5}
    ranges |= {(64, 96): 1e-3, (96, 115): 1e-4, (115, 128): 1e-5}
    return [rate for (start, end), rate in ranges.items() for _ in range(start, end)]


@pytest.mark.parametrize("name", RELEASE)
def test_learning_rates_epoch_by_epoch(name):
    config = load_config(CONF / f"{name}.yaml")
    assert config.train.steps == 128 * EPOCH == 873_600
    plan = build_plan(config)
    for epoch, rate in enumerate(expected_rates()):
        first, last = epoch * EPOCH, (epoch + 1) * EPOCH - 1
        assert plan(first).learning_rate == pytest.approx(rate, rel=1e-12), epoch
        assert plan(last).learning_rate == pytest.approx(rate, rel=1e-12), epoch


def step_decay(epoch, num_epochs):
    """The release's factors: two cycles of three, at 50 % and 80 % of each half."""
    half = num_epochs // 2
    first, second = int(half * 0.5), int(half * 0.8)
    points = [first, second, half, half + first, half + first + second - first, num_epochs]
    return (1, 0.1, 0.01, 1, 0.1, 0.01)[sum(epoch >= point for point in points[:-1])]


def test_the_releases_default_of_56_epochs_is_a_schedule_too():
    milestones = (14, 22, 28, 42, 50)
    schedule = ScheduleConfig(
        kind="steps", milestones=milestones, factors=(1.0, 0.1, 0.01, 1.0, 0.1, 0.01)
    )
    ours = [rate_factor(epoch, 56, schedule) for epoch in range(56)]
    assert ours == [step_decay(epoch, 56) for epoch in range(56)]


@pytest.mark.parametrize("name", RELEASE)
def test_settings_of_the_release(name):
    config = load_config(CONF / f"{name}.yaml")
    encoder = on_meta(config.encoder)
    front_end = encoder.front_end.spec
    assert (front_end.num_bins, front_end.mirror, front_end.hop_length) == (257, True, 160)
    assert round(config.data.crop_seconds * SAMPLE_RATE / front_end.hop_length) == 250
    optim = config.optim
    settings = (optim.kind, optim.lr, optim.epsilon, optim.weight_decay, optim.clip_norm)
    assert settings == ("adam", 1e-3, 1e-7, 2e-4, 0)
    data = config.data
    assert (config.train.batch_size, data.wrap, data.reverse_probability) == (160, True, 0.3)
    assert config.encoder.embedding_relu
    classifier = resolve(LOSSES, config.classifier, "classifier")
    if classifier.kind == "am_softmax":
        options = (classifier.scale, classifier.margin, classifier.unit_norm)
        assert options == (30, 0.35, "constraint")
        assert classifier.margin_warmup_steps == 0


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("run_dir: ${oc.env:SECRET}", None),
        ("data: {valid_trials: ['a', '${oc.env:SECRET}']}", None),
        ("encoder: {trunk: {kind: '${oc.env:SECRET}'}}", None),
        ("train: {steps: '${oc.decode:${oc.env:SECRET}}'}", None),
        ("run_dir: run", "run_dir=${oc.env:SECRET}"),
    ],
)
def test_a_config_cannot_read_the_environment(tmp_path, monkeypatch, text, override):
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="interpolations are not supported") as refused:
        load_config(path, [override] if override else [])
    assert "hunter2" not in str(refused.value)


@pytest.fixture(scope="module")
def make_config(load_script):
    return load_script("docs/make_config.py")


def test_the_page_of_configs_is_that_of_the_schema(make_config, monkeypatch):
    # Another test of this process may have added it, see ``short_trunk``.
    monkeypatch.delitem(TRUNKS, "short_resnet", raising=False)
    message = "run `python docs/make_config.py`"
    assert make_config.PAGE.read_text("utf-8") == make_config.page(), message


def test_the_page_of_configs_has_every_key(make_config):
    page = make_config.page()
    plain = [key for key, _ in flatten(to_dict(Config())) if not key.endswith(".kind")]
    missing = [key for key in plain if f"| `{key}` | " not in page]
    assert missing == []
    kinds = [name for table in TABLES.values() for name in table.own]
    assert [kind for kind in kinds if f"| `{kind}` | " not in page] == []
    assert "| `encoder.pooling.num_ghosts` | integer | ≥ 0, ≤ 4096 | `1` |" in page
