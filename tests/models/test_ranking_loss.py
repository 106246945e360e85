"""The weakly supervised ranking loss of the NetVLAD paper, against its equation 7."""

import pytest
import torch

from speakervlad import WeaklySupervisedRankingLoss


def naive(query, positives, negatives, margin):
    best = min(((query - p) ** 2).sum() for p in positives)
    return sum(max(best + margin - ((query - n) ** 2).sum(), 0) for n in negatives)


@pytest.fixture
def material():
    generator = torch.Generator().manual_seed(1)
    sizes = ((3, 4), (3, 2, 4), (3, 7, 4))
    return [torch.randn(*size, generator=generator, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize("margin", [0.0, 0.1, 20.0])
def test_loss_is_equation_7(material, margin):
    expected = sum(naive(*each, margin) for each in zip(*material, strict=True)) / 3
    loss = WeaklySupervisedRankingLoss(margin=margin, hardest=None)
    torch.testing.assert_close(loss(*material), torch.as_tensor(expected, dtype=torch.float64))


def test_only_the_hardest_negatives_count(material):
    queries, positives, negatives = material
    order = (negatives - queries[:, None]).square().sum(2).argsort(dim=1)
    nearest = negatives.take_along_dim(order[:, :2, None], dim=1)
    few, every = (WeaklySupervisedRankingLoss(margin=20.0, hardest=n) for n in (2, None))
    torch.testing.assert_close(few(*material), every(queries, positives, nearest))
    more = WeaklySupervisedRankingLoss(margin=20.0, hardest=50)
    torch.testing.assert_close(more(*material), every(*material))


def test_gradient_reaches_the_best_positive_and_the_violators_alone(material):
    _, positives, negatives = material
    queries = positives[:, 1] + 0.1
    for each in (positives, negatives):
        each.requires_grad_()
    with torch.no_grad():
        negatives[:, 0] = queries + 0.15
        negatives[:, 1:] += 100
    WeaklySupervisedRankingLoss(margin=0.1)(queries, positives, negatives).backward()
    assert positives.grad[:, 1].abs().min() > 0
    assert not positives.grad[:, 0].any()
    assert negatives.grad[:, 0].abs().min() > 0
    assert not negatives.grad[:, 1:].any()


@pytest.mark.parametrize(
    ("positives", "negatives", "words"),
    [
        ((3, 0, 4), (3, 7, 4), r"positives of shape \(3, 0, 4\).*queries of shape \(3, 4\)"),
        ((3, 2, 4), (3, 7, 5), r"negatives of shape \(3, 7, 5\)"),
        ((3, 2, 4), (2, 7, 4), r"negatives of shape \(2, 7, 4\)"),
        ((2, 4), (3, 7, 4), r"positives of shape \(2, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(positives, negatives, words):
    loss = WeaklySupervisedRankingLoss()
    with pytest.raises(ValueError, match=words):
        loss(torch.zeros(3, 4), torch.zeros(positives), torch.zeros(negatives))


def test_options_have_ranges():
    with pytest.raises(ValueError, match="margin=-1"):
        WeaklySupervisedRankingLoss(margin=-1)
    with pytest.raises(ValueError, match="hardest=0"):
        WeaklySupervisedRankingLoss(hardest=0)
