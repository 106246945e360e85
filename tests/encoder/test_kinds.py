"""Every kind of encoder learns, and computes in every runtime what the trained module does."""

import numpy as np
import pytest
import torch

from speakervlad import testing
from speakervlad.models.losses import LOSSES
from speakervlad.models.pooling import POOLINGS
from speakervlad.models.trunks import TRUNKS
from speakervlad.schema import Part


@pytest.fixture(scope="module")
def kind(exported_kind):
    return testing.open_runtimes(exported_kind)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss):
    testing.check_loss(Part(loss))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_trunk_stands_under_every_pooling(
    trunk, pooling, small_trunk, tiny_encoder, make_waveform
):
    batch = torch.from_numpy(np.stack([make_waveform(0.25, seed) for seed in range(4)]))
    encoder, _ = tiny_encoder(trunk=small_trunk(trunk), pooling=Part(pooling))
    embeddings = encoder.train()(batch)
    assert embeddings.shape == (4, 12)
    embeddings.square().sum().backward()
    gradients = [parameter.grad for parameter in encoder.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_twenty_steps_lower_the_loss(kind):
    testing.check_learning(kind.module)


def test_every_runtime_equals_the_trained_module(kind):
    testing.check_runtimes(kind)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(2.0, marks=pytest.mark.slow),
        3.111,
        pytest.param(4.34567, marks=pytest.mark.slow),
    ],
)
def test_chunks_equal_one_pass(kind, seconds):
    if kind.encoders[0].backend.ends.context is None:
        pytest.skip("every frame sees the whole recording: there are no exact chunks")
    testing.check_chunks(kind, seconds)


def test_numpy_pools_as_the_layer_does(kind):
    testing.check_pooling_sums(kind.module)


def test_windows_agree_between_runtimes(kind):
    testing.check_windows(kind)


def test_enrolment_agrees_between_runtimes_and_may_go_on_later(kind):
    testing.check_enrolment(kind)
