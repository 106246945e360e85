import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses

from speakervlad.models.losses import AAMSoftmax, AMSoftmax, Softmax, SubcentreAAMSoftmax

DIM, SPEAKERS = 16, 7


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    embeddings = 4 * torch.randn(32, DIM, generator=generator)
    return embeddings, torch.randint(SPEAKERS, (32,), generator=generator)


def with_same_weights(classifier, oracle):
    oracle.W.data = classifier.weight.data.T.clone()
    return oracle


def test_softmax_is_cross_entropy_without_bias(batch):
    embeddings, speakers = batch
    classifier = Softmax(DIM, SPEAKERS)
    logits = embeddings @ classifier.weight.T
    shares = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -shares[torch.arange(32), speakers].log().mean()
    loss = classifier(embeddings, speakers)
    torch.testing.assert_close(loss.value, expected)
    assert loss.accuracy == (logits.argmax(dim=1) == speakers).float().mean()


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.35), (10.0, 0.0), (64.0, 0.5)])
def test_am_softmax_equals_metric_learnings_cosface(batch, scale, margin):
    classifier = AMSoftmax(DIM, SPEAKERS, scale=scale, margin=margin)
    oracle = losses.CosFaceLoss(SPEAKERS, DIM, margin=margin, scale=scale)
    torch.testing.assert_close(
        classifier(*batch).value, with_same_weights(classifier, oracle)(*batch)
    )


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.2), (10.0, 0.0), (64.0, 0.5)])
def test_aam_softmax_equals_metric_learnings_arcface(batch, scale, margin):
    classifier = AAMSoftmax(DIM, SPEAKERS, scale=scale, margin=margin)
    oracle = losses.ArcFaceLoss(SPEAKERS, DIM, margin=math.degrees(margin), scale=scale)
    torch.testing.assert_close(
        classifier(*batch).value, with_same_weights(classifier, oracle)(*batch)
    )


def test_gradients_equal_metric_learnings(batch):
    for classifier, oracle in (
        (AMSoftmax(DIM, SPEAKERS), losses.CosFaceLoss(SPEAKERS, DIM, margin=0.35, scale=30)),
        (
            AAMSoftmax(DIM, SPEAKERS),
            losses.ArcFaceLoss(SPEAKERS, DIM, margin=math.degrees(0.2), scale=30),
        ),
    ):
        ours, theirs = (batch[0].clone().requires_grad_() for _ in range(2))
        classifier(ours, batch[1]).value.backward()
        with_same_weights(classifier, oracle)(theirs, batch[1]).backward()
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(classifier.weight.grad, oracle.W.grad.T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [AMSoftmax, AAMSoftmax])
def test_length_of_embeddings_does_not_matter_to_margin_losses(batch, kind):
    classifier = kind(DIM, SPEAKERS)
    torch.testing.assert_close(
        classifier(*batch).value, classifier(0.01 * batch[0], batch[1]).value
    )


@pytest.mark.parametrize("kind", [AMSoftmax, AAMSoftmax])
def test_warm_up_moves_the_margin_from_none_to_all(batch, kind):
    classifier = kind(DIM, SPEAKERS, margin=0.3)
    full = classifier(*batch).value
    classifier.warm_up(0.0)
    embeddings, speakers = batch
    cosines = F.normalize(embeddings) @ F.normalize(classifier.weight).T
    torch.testing.assert_close(classifier(*batch).value, F.cross_entropy(30 * cosines, speakers))
    classifier.warm_up(0.5)
    half = classifier(*batch).value
    classifier.warm_up(1.0)
    assert half < full
    torch.testing.assert_close(classifier(*batch).value, full)


def test_accuracy_counts_without_margin(batch):
    classifier = AMSoftmax(DIM, SPEAKERS, margin=0.9)
    embeddings = F.normalize(classifier.weight.detach()) + 0.02
    assert classifier(embeddings, torch.arange(SPEAKERS)).accuracy == 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_aam_softmax_has_finite_gradients_at_the_poles(sign):
    classifier = AAMSoftmax(DIM, SPEAKERS)
    embeddings = (sign * classifier.weight.detach()).requires_grad_()
    classifier(embeddings, torch.arange(SPEAKERS)).value.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_aam_softmax_falls_steadily_over_the_whole_half_circle():
    classifier = AAMSoftmax(2, 2, margin=0.5)
    classifier.weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    angles = torch.linspace(0, math.pi, 200)
    cosines = torch.stack([angles.cos(), torch.zeros(200)], dim=1)
    with_margin = classifier.apply_margin(cosines, torch.zeros(200, dtype=torch.long))[:, 0]
    assert (with_margin.diff() < 0).all()


def test_class_constraint_uses_the_weights_as_they_are_until_the_update(batch):
    classifier = AMSoftmax(DIM, SPEAKERS, unit_norm="constraint")
    classifier.weight.data *= torch.rand(SPEAKERS, 1) + 0.5
    embeddings, speakers = batch
    raw = F.normalize(embeddings) @ classifier.weight.T
    expected = F.cross_entropy(30 * (raw - 0.35 * F.one_hot(speakers, SPEAKERS)), speakers)
    torch.testing.assert_close(classifier(*batch).value, expected)

    directions = F.normalize(classifier.weight.detach())
    classifier.after_step()

    torch.testing.assert_close(classifier.weight.detach(), directions)


@pytest.mark.parametrize("kind", [Softmax, AMSoftmax, AAMSoftmax])
def test_unconstrained_weights_stay_after_a_step(kind):
    classifier = kind(DIM, SPEAKERS)
    before = classifier.weight.detach().clone()
    classifier.after_step()
    assert torch.equal(classifier.weight, before)


@pytest.mark.parametrize("kind", [Softmax, AMSoftmax, AAMSoftmax])
def test_loss_is_float32_under_bfloat16_autocast(batch, kind):
    classifier = kind(DIM, SPEAKERS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = classifier(batch[0].bfloat16(), batch[1])
    assert loss.value.dtype == torch.float32
    torch.testing.assert_close(loss.value, classifier(*batch).value, rtol=0.02, atol=0.02)


def naive_subcentre_loss(classifier, embeddings, speakers, margin, hardest, hardest_margin):
    """Row by row, with angles."""
    losses = []
    for embedding, speaker in zip(embeddings.tolist(), speakers.tolist(), strict=True):
        angles = [
            min(
                math.acos(F.cosine_similarity(torch.tensor(embedding), center, dim=0).item())
                for center in centers
            )
            for centers in classifier.weight.detach()
        ]
        others = sorted((n for n in range(SPEAKERS) if n != speaker), key=lambda n: angles[n])
        for number in others[:hardest]:
            angles[number] -= hardest_margin
        angles[speaker] += margin
        logits = 30 * torch.tensor([math.cos(angle) for angle in angles])
        losses.append(F.cross_entropy(logits, torch.tensor(speaker)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("hardest", [0, 2, 50])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_subcentre_loss_is_its_definition(batch, hardest, share):
    classifier = SubcentreAAMSoftmax(DIM, SPEAKERS, num_centers=3, hardest=hardest)
    classifier.warm_up(share)
    expected = naive_subcentre_loss(classifier, *batch, 0.2 * share, hardest, 0.06 * share)
    torch.testing.assert_close(classifier(*batch).value, expected, atol=1e-4, rtol=1e-4)


def test_one_centre_without_penalty_is_aam_softmax(batch):
    classifier = SubcentreAAMSoftmax(DIM, SPEAKERS, num_centers=1, hardest=0)
    plain = AAMSoftmax(DIM, SPEAKERS)
    plain.weight.data = classifier.weight.data[:, 0]
    torch.testing.assert_close(classifier(*batch).value, plain(*batch).value)


def test_only_the_nearest_centre_of_a_speaker_learns():
    classifier = SubcentreAAMSoftmax(DIM, SPEAKERS, num_centers=2, scale=1.0)
    embedding = classifier.weight.detach()[:1, 1] + 0.01
    classifier(embedding, torch.tensor([0])).value.backward()
    far, near = classifier.weight.grad[0].norm(dim=1)
    assert far == 0
    assert near > 0
