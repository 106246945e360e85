"""Hard-assignment VLAD against its definition, and what NetVLAD has in common with it."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speakervlad import NetVLAD, fit_centers, vlad


def naive(descriptors, centers):
    """V(j, k) = sum_i a_k(x_i) (x_i(j) - c_k(j)), one number at a time."""
    sums = np.zeros(centers.shape)
    for x in descriptors:
        distances = [sum((x[j] - c[j]) ** 2 for j in range(len(c))) for c in centers]
        k = int(np.argmin(distances))
        for j in range(len(x)):
            sums[k, j] += x[j] - centers[k, j]
    return sums


def unit(rows):
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


@pytest.fixture
def material():
    rng = np.random.default_rng(3)
    return rng.normal(size=(30, 5)), rng.normal(size=(4, 5))


def test_vlad_is_the_double_sum(material):
    sums = naive(*material)
    plain = vlad(*material, intra_norm=False, vector_norm=False)
    np.testing.assert_allclose(plain, sums.ravel(), atol=1e-5)
    intra = vlad(*material, vector_norm=False)
    np.testing.assert_allclose(intra, unit(sums).ravel(), atol=1e-5)
    np.testing.assert_allclose(vlad(*material), unit(unit(sums).ravel()), atol=1e-5)


def test_a_batch_is_its_images_one_by_one(material):
    descriptors, centers = material
    batch = descriptors.reshape(3, 10, 5)
    expected = [vlad(each, centers) for each in batch]
    np.testing.assert_array_equal(vlad(batch, centers), expected)


def test_a_cluster_without_descriptors_is_zeros(material):
    descriptors, centers = material
    far = np.vstack([centers, np.full(5, 1e3)])
    vector = vlad(descriptors, far).reshape(5, 5)
    assert not vector[4].any()
    np.testing.assert_allclose(vector[:4].ravel(), vlad(descriptors, centers), atol=1e-6)


def netvlad_at(centers, alpha):
    """The layer whose softmax is exp(-alpha |x - c_k|^2), up to what all clusters share."""
    layer = NetVLAD(centers.shape[1], num_clusters=len(centers), vector_norm=True).double()
    exact = torch.from_numpy(centers)
    layer.centers.data = exact.clone()
    layer.assignment.weight.data = (2 * alpha * exact)[:, :, None]
    layer.assignment.bias.data = -alpha * exact.square().sum(dim=1)
    return layer


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), clusters=st.integers(1, 6), dim=st.integers(1, 8))
def test_netvlad_with_a_large_alpha_is_vlad(seed, clusters, dim):
    rng = np.random.default_rng(seed)
    descriptors, centers = rng.normal(size=(20, dim)), rng.normal(size=(clusters, dim))
    squares = np.square(descriptors[:, None] - centers).sum(axis=2)
    if clusters > 1:
        two = np.sort(squares, axis=1)[:, :2]
        assume((two[:, 1] - two[:, 0]).min() > 1e-4)
    hard = vlad(descriptors, centers)
    soft = netvlad_at(centers, alpha=1e6)(torch.from_numpy(descriptors.T[None]))
    np.testing.assert_allclose(soft[0].detach().numpy(), hard, atol=1e-5)


def test_nothing_is_learnt_through_a_hard_assignment(material):
    """Moving what assigns moves no descriptor to another cluster; NetVLAD's gradient tells more."""
    descriptors, centers = material
    frames = torch.from_numpy(descriptors.T[None])
    target = torch.from_numpy(np.random.default_rng(0).normal(size=20))

    def loss(layer):
        return (layer(frames)[0] * target).sum()

    def hard_loss(moved):
        """VLAD as a function of the centres that assign, those of the residuals unmoved."""
        nearest = np.square(descriptors[:, None] - moved).sum(axis=2).argmin(axis=1)
        sums = [(descriptors[nearest == k] - centers[k]).sum(axis=0) for k in range(4)]
        return float(unit(unit(np.stack(sums)).ravel()) @ target.numpy())

    for number in range(20):
        direction = np.random.default_rng(number).normal(size=centers.shape)
        slope = (hard_loss(centers + 1e-6 * direction) - hard_loss(centers)) / 1e-6
        assert slope == 0
    gradients = []
    for alpha in (1.0, 1e6):
        layer = netvlad_at(centers, alpha)
        loss(layer).backward()
        gradients.append(layer.assignment.weight.grad.abs().max().item())
    assert gradients[0] > 1e-2
    assert gradients[1] < 1e-6


def test_fit_centers_is_the_vocabulary_of_k_means():
    rng = np.random.default_rng(0)
    middles = 5 * rng.normal(size=(3, 4))
    descriptors = (middles[:, None] + 0.1 * rng.normal(size=(3, 40, 4))).reshape(-1, 4)
    centers = fit_centers(descriptors, 3)
    distances = np.linalg.norm(centers[:, None] - middles, axis=2)
    assert sorted(distances.argmin(axis=1)) == [0, 1, 2]
    assert distances.min(axis=1).max() < 0.1
    np.testing.assert_array_equal(centers, fit_centers(descriptors, 3, seed=0))


CENTERS = np.zeros((4, 5))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vlad(np.zeros((9, 6)), CENTERS), r"shape \(9, 6\) do not fit .*shape \(4, 5\)"),
        (lambda: vlad(np.zeros((0, 5)), CENTERS), r"descriptors of shape \(0, 5\): .*none empty"),
        (lambda: vlad(np.zeros(5), CENTERS), r"descriptors of shape \(5,\): expected 2 or 3 axes"),
        (lambda: vlad(np.zeros((9, 5)), CENTERS * np.nan), r"centers of shape \(4, 5\): .*NaN"),
        (lambda: vlad(np.full((9, 5), np.inf), CENTERS), r"descriptors of shape \(9, 5\): .*inf"),
        (lambda: fit_centers(np.zeros((3, 5)), 4), r"num_clusters=4: .*shape is \(3, 5\)"),
        (lambda: fit_centers(np.zeros((3, 5)), 0), r"num_clusters=0: must be at least 1"),
        (lambda: fit_centers(np.full((9, 5), np.nan), 4), r"shape \(9, 5\): some values are NaN"),
    ],
)
def test_what_does_not_fit_is_named_with_its_shape(call, words):
    with pytest.raises(ValueError, match=words):
        call()
