"""Training objectives: embeddings and speakers in, one loss out."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from speakervlad.errors import InputError
from speakervlad.models.precision import at_least_float32
from speakervlad.schema import Count, NonNegative, Range

Vectors = Float[Tensor, "batch dim"]
Speakers = Int[Tensor, " batch"]
Targets = Float[Tensor, "batch teacher_dim"]
Logits = Float[Tensor, "batch speakers"]
Directions = Float[Tensor, "speakers dim"]
Scale = Annotated[float, Range(above=0)]


class Loss(NamedTuple):
    """The mean loss of a batch, and the share of it that is classified right without margin."""

    value: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]


class Classifier(nn.Module):
    """What the trainer may call on every objective, besides its forward.

    ``weight`` has a row for every class.

    Attributes:
        groups: a number for every class, (classes,), whose logits compete only with those of the
            same number; None where all compete. A loss that knows of it has ``knows_groups``.
    """

    weight: nn.Parameter
    margin_warmup_steps = 0
    knows_groups = False
    groups: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("groups", None, persistent=False)

    def mean_loss(self, logits: Logits, scores: Logits, speakers: Speakers) -> Loss:
        """Means over the rows that have a speaker; the others are -1.

        Args:
            logits: of all classes.
            scores: by which the best class is told, which is right or wrong.
            speakers: the right ones.
        """
        if self.groups is not None:
            others = self.groups != self.groups[speakers.clamp(min=0)][:, None]
            logits, scores = (each.masked_fill(others, -torch.inf) for each in (logits, scores))
        correct = (scores.detach().argmax(dim=1) == speakers).float().sum()
        count = (speakers >= 0).sum().clamp(min=1)
        total = F.cross_entropy(logits, speakers, ignore_index=-1, reduction="sum")
        return Loss(total / count, correct / count)

    def after_step(self) -> None:
        """Keep constraints on the weights; called after every update. By default there are none."""

    def warm_up(self, share: float) -> None:
        """Use this share of the margin from now on, 0 to 1. By default there is no margin."""


class Softmax(Classifier):
    """Cross entropy over ``W x`` without bias, on embeddings of any length."""

    knows_groups = True

    def __init__(self, dim: int, num_speakers: int) -> None:
        super().__init__()
        self.weight: nn.Parameter = nn.Parameter(
            nn.init.orthogonal_(torch.empty(num_speakers, dim))
        )

    def forward(self, embeddings: Vectors, speakers: Speakers) -> Loss:
        logits = at_least_float32(F.linear(embeddings, self.weight))
        return self.mean_loss(logits, logits, speakers)


class MarginSoftmax(Classifier):
    """What the margin losses share: cosines to class directions, a scale, a margin to warm up.

    Args:
        dim: size of the embeddings.
        num_speakers: number of classes.
        scale: s, multiplies the cosines.
        margin: m, its final value.
        margin_warmup_steps: over so many first steps the margin rises linearly from 0.
    """

    knows_groups = True

    def __init__(
        self,
        dim: int,
        num_speakers: int,
        *,
        scale: Scale = 30.0,
        margin: NonNegative = 0.35,
        margin_warmup_steps: Count = 0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.margin_warmup_steps = margin_warmup_steps
        self.weight: nn.Parameter = nn.Parameter(
            nn.init.orthogonal_(torch.empty(num_speakers, dim))
        )
        # What the schedule has reached. A changing float would make torch.compile compile again.
        self.register_buffer("margin_now", torch.tensor(float(margin)), persistent=False)
        self.margin_now: Tensor

    def forward(self, embeddings: Vectors, speakers: Speakers) -> Loss:
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = F.normalize(at_least_float32(embeddings))
            cosines = self.cosines(embeddings)
            with_margin = self.apply_margin(cosines, speakers)
            return self.mean_loss(self.scale * with_margin, cosines, speakers)

    def cosines(self, embeddings: Vectors) -> Logits:
        """Cosines between unit embeddings and classes."""
        return F.linear(embeddings, self.directions(self.weight))

    def directions(self, weight: Directions) -> Directions:
        """The directions of classes with these weights, which embeddings are compared with."""
        return F.normalize(at_least_float32(weight))

    def warm_up(self, share: float) -> None:
        """Use this share of the margin from now on, 0 to 1."""
        self.margin_now.fill_(share * self.margin)

    def apply_margin(self, cosines: Logits, speakers: Speakers) -> Logits:
        """The cosines with the margin taken from each row's own class."""
        classes = speakers.clamp(min=0)[:, None]
        own = self.with_margin(cosines.gather(1, classes))
        return cosines.scatter(1, classes, own)

    def with_margin(self, own: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
        """The cosines to the own classes, less the margin."""
        raise NotImplementedError


class AMSoftmax(MarginSoftmax):
    """Additive margin: ``s (cos theta - m)`` for the own class (Wang et al. 2018; CosFace).

    Args:
        dim: size of the embeddings.
        num_speakers: number of classes.
        scale: s, multiplies the cosines.
        margin: m, its final value.
        margin_warmup_steps: over so many first steps the margin rises linearly from 0.
        unit_norm: ``forward`` normalises the class directions wherever they are used;
            ``constraint`` uses the weights as they are and renormalises them after every update
            (the GhostVLAD release, whose orthogonal start is not of unit norm).
    """

    def __init__(
        self,
        dim: int,
        num_speakers: int,
        *,
        scale: Scale = 30.0,
        margin: NonNegative = 0.35,
        margin_warmup_steps: Count = 0,
        unit_norm: Literal["forward", "constraint"] = "forward",
    ) -> None:
        super().__init__(
            dim, num_speakers, scale=scale, margin=margin, margin_warmup_steps=margin_warmup_steps
        )
        self.unit_norm = unit_norm

    def directions(self, weight: Directions) -> Directions:
        if self.unit_norm == "constraint":
            return at_least_float32(weight)
        return super().directions(weight)

    @torch.no_grad()
    def after_step(self) -> None:
        if self.unit_norm == "constraint":
            self.weight.div_(self.weight.norm(dim=1, keepdim=True) + 1e-7)

    def with_margin(self, own: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
        return own - self.margin_now


class AAMSoftmax(MarginSoftmax):
    """Additive angular margin: ``s cos(theta + m)`` for the own class (Deng et al. 2019; ArcFace).

    Beyond ``theta = pi - m``, where the cosine would rise again, the margin is ``m sin m``.
    """

    def __init__(
        self,
        dim: int,
        num_speakers: int,
        *,
        scale: Scale = 30.0,
        margin: NonNegative = 0.2,
        margin_warmup_steps: Count = 0,
    ) -> None:
        super().__init__(
            dim, num_speakers, scale=scale, margin=margin, margin_warmup_steps=margin_warmup_steps
        )

    def with_margin(self, own: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
        margin = self.margin_now
        sines = (1 - own.square()).clamp(min=1e-9).sqrt()
        turned = own * margin.cos() - sines * margin.sin()
        beyond = own <= (math.pi - margin).cos()
        return torch.where(beyond, own - margin * margin.sin(), turned)


class SubcentreAAMSoftmax(AAMSoftmax):
    """AAM-softmax with several centres a speaker and a penalty on the hardest other speakers.

    The cosine of a speaker is that of its nearest centre (Deng et al. 2020, sub-center ArcFace), so
    that wrong labels and odd channels gather around centres of their own. The ``hardest`` other
    speakers of every row get ``s cos(theta - m')`` (Zhao et al. 2021, SpeakIn at VoxSRC).

    Args:
        dim: size of the embeddings.
        num_speakers: number of classes.
        num_centers: centres of a class.
        scale: s, multiplies the cosines.
        margin: m, its final value.
        margin_warmup_steps: over so many first steps the margin rises linearly from 0.
        hardest: K, how many other speakers are penalised; 0 penalises none.
        hardest_margin: m', warms up as the margin does.
    """

    def __init__(
        self,
        dim: int,
        num_speakers: int,
        *,
        num_centers: Annotated[int, Range(at_least=1, at_most=100)] = 3,
        scale: Scale = 30.0,
        margin: NonNegative = 0.2,
        margin_warmup_steps: Count = 0,
        hardest: Count = 5,
        hardest_margin: NonNegative = 0.06,
    ) -> None:
        super().__init__(
            dim, num_speakers, scale=scale, margin=margin, margin_warmup_steps=margin_warmup_steps
        )
        self.hardest: int = min(hardest, num_speakers - 1)
        self.hardest_ratio: float = hardest_margin / margin if margin else 0.0
        centers = nn.init.orthogonal_(torch.empty(num_speakers * num_centers, dim))
        self.weight: nn.Parameter = nn.Parameter(centers.view(num_speakers, num_centers, dim))

    def cosines(self, embeddings: Vectors) -> Logits:
        centers = F.normalize(at_least_float32(self.weight), dim=2)
        return torch.einsum("bd,snd->bsn", embeddings, centers).amax(dim=2)

    def apply_margin(self, cosines: Logits, speakers: Speakers) -> Logits:
        with_margin = super().apply_margin(cosines, speakers)
        if not self.hardest:
            return with_margin
        margin = self.margin_now * self.hardest_ratio
        others = cosines.scatter(1, speakers.clamp(min=0)[:, None], -torch.inf)
        hard, columns = others.topk(self.hardest, dim=1)
        sines = (1 - hard.square()).clamp(min=1e-9).sqrt()
        return with_margin.scatter(1, columns, hard * margin.cos() + sines * margin.sin())


class Distillation(nn.Module):
    """A classifier's loss, and how far embeddings are from a teacher's.

    ``labels * loss + cosine * mean(1 - cos(x, t)) + similarity * mean((X X' - T T')^2)`` with the
    cosine matrices of the batch (Tung and Mori 2019, similarity-preserving distillation).

    Args:
        labels: weight of the classifier's loss.
        cosine: weight of the distance to the teacher's vectors.
        similarity: weight of the difference of the matrices.
    """

    def __init__(self, *, labels: float, cosine: float, similarity: float) -> None:
        super().__init__()
        self.labels, self.cosine, self.similarity = labels, cosine, similarity

    def forward(self, loss: Loss, embeddings: Vectors, targets: Targets) -> Loss:
        with torch.autocast(embeddings.device.type, enabled=False):
            own = F.normalize(at_least_float32(embeddings))
            value = self.labels * loss.value
            if self.cosine:
                value = value + self.cosine * (1 - (own * targets).sum(dim=1)).mean()
            if self.similarity:
                difference = own @ own.T - targets @ targets.T
                value = value + self.similarity * difference.square().mean()
        return Loss(value, loss.accuracy)


class WeaklySupervisedRankingLoss(nn.Module):
    """The best matching positive shall be nearer than every negative, by a margin.

    ``sum_j max(0, min_i d2(q, p_i) + m - d2(q, n_j))`` with squared Euclidean distances, averaged
    over the queries: Arandjelovic et al., "NetVLAD", CVPR 2016, equation 7. The positives are only
    *potential* ones, such as all images that were taken near the query: some may look another way,
    and the minimum takes the one that the network itself finds to match.

    Args:
        margin: m.
        hardest: the sum is over so many negatives, the nearest ones; None for all.

    >>> import torch
    >>> from speakervlad import WeaklySupervisedRankingLoss
    >>> loss = WeaklySupervisedRankingLoss(margin=0.1)
    >>> query = torch.tensor([[1.0, 0.0]])
    >>> positives = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])  # the second matches: distance 0
    >>> negatives = torch.tensor([[[-1.0, 0.0], [1.0, 0.2]]])  # squared distances 4 and 0.04
    >>> loss(query, positives, negatives)  # 0 + 0.1 - 0.04
    tensor(0.0600)
    """

    def __init__(self, *, margin: float = 0.1, hardest: int | None = 10) -> None:
        super().__init__()
        Range(at_least=0).check("margin", margin)
        Range(at_least=1).check("hardest", 1 if hardest is None else hardest)
        self.margin: float = margin
        self.hardest: int | None = hardest

    def forward(
        self,
        queries: Float[Tensor, "batch dim"],
        positives: Float[Tensor, "batch positive dim"],
        negatives: Float[Tensor, "batch negative dim"],
    ) -> Float[Tensor, ""]:
        """Refuse sets that are of other queries or vectors, or empty.

        Raises:
            ValueError: shapes that do not fit each other.
        """
        for name, vectors in (("positives", positives), ("negatives", negatives)):
            fits = vectors.dim() == 3 and (vectors.shape[0], vectors.shape[2]) == queries.shape
            if not fits or vectors.shape[1] == 0:
                raise InputError(
                    f"{name} of shape {tuple(vectors.shape)} do not fit queries of shape "
                    f"{tuple(queries.shape)}: expected (batch, at least one, dim)."
                )
        best = squared_distances(queries, positives).amin(dim=1, keepdim=True)
        others = squared_distances(queries, negatives)
        if self.hardest is not None:
            others = others.topk(min(self.hardest, others.shape[1]), largest=False).values
        return (best + self.margin - others).clamp(min=0).sum(dim=1).mean()


def squared_distances(
    queries: Float[Tensor, "batch dim"], vectors: Float[Tensor, "batch count dim"]
) -> Float[Tensor, "batch count"]:
    """Squared Euclidean distances of every query to the vectors of its own."""
    return (vectors - queries[:, None]).square().sum(dim=2)


LOSSES: dict[str, Callable[..., Classifier]] = {
    "softmax": Softmax,
    "am_softmax": AMSoftmax,
    "aam_softmax": AAMSoftmax,
    "subcentre_aam_softmax": SubcentreAAMSoftmax,
}
