"""Training steps against those of the original, from the same weights on the same batch.

Two things keep the two from agreeing to the last digit, and neither is a formula. TensorFlow 1.8
adds up 257,000 squares one after another in float32, so its batch variances are off by up to 7e-4,
and this random network turns a disturbance of 1e-5 into 5 % of its first layers' gradients;
``SequentialNorm`` adds up in that order and shows it. And its Adam run contradicts its own SGD run
from the same start (a third of the signs of a batch norm's gradient differ, with equal losses):
Keras there overwrites weights that the backward pass is still reading. So Adam's steps are compared
with its rule applied to the gradients of the SGD run.
"""

import numpy as np
import pytest
import torch
from torch import nn

from speakervlad.checkpoints.keras import convert_keras, places
from speakervlad.config import OptimConfig
from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.models.folder import build_classifier, load_encoder_folder
from speakervlad.schema import Part
from speakervlad.training.augment import Examples
from speakervlad.training.distributed import World
from speakervlad.training.trainer import StepPlan, Trainer, build_optimizer, undecayed

AM_SOFTMAX = Part("am_softmax", unit_norm="constraint")
RUNS = {
    "softmax_sgd": (Part("softmax"), OptimConfig(kind="sgd")),
    "amsoftmax_sgd": (AM_SOFTMAX, OptimConfig(kind="sgd")),
    "amsoftmax_adam": (AM_SOFTMAX, OptimConfig(kind="adam", epsilon=1e-7)),
}
SGD = ("softmax_sgd", "amsoftmax_sgd")
RATE = 1e-3
BN_MOMENTUM = 0.99


@pytest.fixture(scope="module")
def encoder_folder(shared_reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    convert_keras([shared_reference / "weights/gvlad_k8_g2_b512.h5"], folder)
    return folder


@pytest.fixture
def batch(shared_reference):
    rows = np.load(shared_reference / "train/batch.npz")
    spectrograms = np.load(shared_reference / "spec/train_mode.npz")["norm"]
    chosen = spectrograms[rows["index_in_train_mode_npz"]]
    return torch.from_numpy(chosen), torch.from_numpy(rows["labels"])


class Recorded:
    """What the original recorded of one run, under our names and in our layouts."""

    def __init__(self, folder, run, encoder):
        self.arrays = np.load(folder / f"train/{run}.npz")
        assert self.arrays["lr"] == np.float32(RATE)
        self.places = {f"{p.layer}/{p.weight}:0": p for p in places(encoder, "gvlad")}

    def after(self, step):
        """Our parameter or buffer name to its value after a step."""
        found = {}
        for key in self.arrays.files:
            prefix, _, name = key.partition(":")
            if prefix == f"after{step}" and name in self.places:
                place = self.places[name]
                found[f"encoder.{place.key}"] = place.to_torch(self.arrays[key])
        found["classifier.weight"] = self.arrays[f"after{step}:prediction/kernel:0"].T
        return found


def make_trainer(encoder_folder, shared_reference, run):
    classifier_config, optim = RUNS[run]
    encoder, _ = load_encoder_folder(encoder_folder)
    # The original's batch is one of spectrograms.
    encoder.front_end = nn.Identity()
    recorded = Recorded(shared_reference, run, encoder)
    classifier = build_classifier(classifier_config, 512, 20)
    classifier.weight.data = torch.from_numpy(recorded.arrays["prediction_kernel"].T.copy())
    model = SpeakerClassifier(encoder, classifier)
    world = World(0, 1, torch.device("cpu"))
    optimizer = build_optimizer(model, optim)
    return Trainer(model, optimizer, world, plan=lambda step: StepPlan(RATE)), recorded


def penalty(model):
    """Keras's l2(1e-4) of everything that decays: a decay of 2e-4 in the gradient."""
    free = {id(parameter) for parameter in undecayed(model)}
    decayed = [p for p in model.parameters() if id(p) not in free]
    return 1e-4 * sum(p.detach().double().square().sum().item() for p in decayed)


def values(model):
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def distance(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def is_statistic(name):
    return "running" in name


def batch_statistic(before, after):
    """What the batch contributed to a running statistic.

    Keras 2.2.4 on TensorFlow 1 forgets the statistics it started from (``zero_debias``), so after
    one step its moving average is the batch's own; ours keeps 99 % of the old.
    """
    return (after - BN_MOMENTUM * before) / (1 - BN_MOMENTUM)


def step_with_the_same_loss(trainer, recorded, batch):
    """State before and after one step whose loss equals the original's to 1e-4."""
    before, decay = values(trainer.model), penalty(trainer.model)
    loss = trainer.step(0, Examples(*batch))
    total, accuracy = recorded.arrays["losses_and_acc"][0]
    per_sample = recorded.arrays["data_loss_train_per_sample"]
    assert decay == pytest.approx(float(recorded.arrays["reg_loss"]), rel=1e-4)
    assert loss.value.item() == pytest.approx(float(per_sample.mean()), rel=1e-4)
    assert loss.value.item() + decay == pytest.approx(float(total), rel=1e-4)
    assert loss.accuracy.item() == accuracy
    return before, values(trainer.model)


@pytest.mark.parametrize(
    "run", [SGD[0], *(pytest.param(run, marks=pytest.mark.slow) for run in SGD[1:])]
)
def test_updated_weights_equal_the_originals(shared_reference, encoder_folder, batch, run):
    trainer, recorded = make_trainer(encoder_folder, shared_reference, run)
    before, after = step_with_the_same_loss(trainer, recorded, batch)
    for name, expected in recorded.after(1).items():
        ours = after[name]
        if is_statistic(name):
            ours = batch_statistic(before[name], ours)
        assert distance(ours, expected) <= 1e-3, name


def test_adams_step_follows_its_rule_on_the_originals_gradients(
    shared_reference, encoder_folder, batch
):
    """p - lr m / (1 - b1) / (sqrt(v / (1 - b2)) + eps), which is lr sign(g) at the first step."""
    trainer, recorded = make_trainer(encoder_folder, shared_reference, "amsoftmax_adam")
    sgd = Recorded(shared_reference, "amsoftmax_sgd", trainer.model.encoder).after(1)
    before, after = step_with_the_same_loss(trainer, recorded, batch)
    compared = 0
    for name, expected in recorded.after(1).items():
        if is_statistic(name):
            assert distance(batch_statistic(before[name], after[name]), expected) <= 1e-3, name
        elif name != "classifier.weight":
            gradient = (before[name] - sgd[name]) / (1.9 * RATE)
            clear = np.abs(gradient) > np.sqrt(np.mean(gradient**2))
            moved = (after[name] - before[name])[clear]
            np.testing.assert_allclose(moved, -RATE * np.sign(gradient[clear]), rtol=1e-3)
            np.testing.assert_allclose(after[name], expected, atol=2.01 * RATE, err_msg=name)
            compared += clear.sum()
    assert compared > 5000
    norms = np.linalg.norm(after["classifier.weight"], axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)


class SequentialNorm(torch.autograd.Function):
    """Batch norm whose sums over 4 x freq x time run sequentially in float32."""

    @staticmethod
    def forward(ctx, x, gamma, beta, epsilon):
        mean = per_channel(sequential_mean(x))
        centred = x - mean
        deviation = (per_channel(sequential_mean(centred.square())) + epsilon).sqrt()
        ctx.save_for_backward(centred / deviation, deviation, gamma)
        return centred / deviation * per_channel(gamma) + per_channel(beta)

    @staticmethod
    def backward(ctx, gradient):
        normal, deviation, gamma = ctx.saved_tensors
        mean, slope = sequential_mean(gradient), sequential_mean(gradient * normal)
        flat = gradient - per_channel(mean) - normal * per_channel(slope)
        count = gradient.numel() / gradient.shape[1]
        return flat * per_channel(gamma) / deviation, slope * count, mean * count, None


def sequential_mean(x):
    rows = x.transpose(0, 1).flatten(1).numpy()
    sums = np.add.accumulate(rows, axis=1, dtype=np.float32)[:, -1]
    return torch.from_numpy(sums / np.float32(rows.shape[1]))


def per_channel(values):
    return values[None, :, None, None]


@pytest.mark.slow
@pytest.mark.parametrize("run", SGD)
def test_summing_as_tensorflow_did_gives_its_very_updates(
    shared_reference, encoder_folder, batch, run, monkeypatch
):
    """The loss to 2e-6, and the updates themselves, not only the weights, to 3 %."""
    monkeypatch.setattr(
        nn.BatchNorm2d,
        "forward",
        lambda norm, x: SequentialNorm.apply(x, norm.weight, norm.bias, norm.eps),
    )
    trainer, recorded = make_trainer(encoder_folder, shared_reference, run)
    before = values(trainer.model)
    loss = trainer.step(0, Examples(*batch)).value.item()
    after = values(trainer.model)
    per_sample = recorded.arrays["data_loss_train_per_sample"]
    assert loss == pytest.approx(float(per_sample.mean()), rel=2e-6)
    for name, expected in recorded.after(1).items():
        if not is_statistic(name) and name != "classifier.weight":
            moved, theirs = after[name] - before[name], expected - before[name]
            assert distance(moved, theirs) <= 0.03, name
