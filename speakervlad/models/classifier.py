"""Training objectives: embeddings and speakers in, one loss out."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Embeddings = Float[Tensor, "batch dim"]
Speakers = Int[Tensor, " batch"]
Logits = Float[Tensor, "batch speakers"]


class Loss(NamedTuple):
    """The mean loss of a batch, and the share of it that is classified right without margin."""

    value: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]


class Softmax(nn.Module):
    """Cross entropy over ``W x`` without bias, on embeddings of any length."""

    def __init__(self, dim: int, num_speakers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(num_speakers, dim)))

    def forward(self, embeddings: Embeddings, speakers: Speakers) -> Loss:
        logits = F.linear(embeddings, self.weight).float()
        return _loss(logits, logits, speakers)


class MarginSoftmax(nn.Module):
    """What the margin losses share: cosines to class directions, a scale, a margin to warm up.

    Args:
        dim: size of the embeddings.
        num_speakers: number of classes.
        scale: s, multiplies the cosines.
        margin: m, its final value; ``margin_now`` is what the schedule has reached.
    """

    def __init__(
        self, dim: int, num_speakers: int, *, scale: float = 30.0, margin: float = 0.35
    ) -> None:
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(num_speakers, dim)))
        # A tensor: a changing float would make torch.compile compile again.
        self.register_buffer("margin_now", torch.tensor(float(margin)), persistent=False)
        self.margin_now: Tensor

    def forward(self, embeddings: Embeddings, speakers: Speakers) -> Loss:
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
            with_margin = self.apply_margin(cosines, speakers)
            return _loss(self.scale * with_margin, cosines, speakers)

    def warm_up(self, share: float) -> None:
        """Use this share of the margin from now on, 0 to 1."""
        self.margin_now.fill_(share * self.margin)

    def apply_margin(self, cosines: Logits, speakers: Speakers) -> Logits:
        """The cosines with the margin taken from each row's own class."""
        raise NotImplementedError


class AMSoftmax(MarginSoftmax):
    """Additive margin: ``s (cos theta - m)`` for the own class (Wang et al. 2018; CosFace)."""

    def apply_margin(self, cosines: Logits, speakers: Speakers) -> Logits:
        own = F.one_hot(speakers, cosines.shape[1])
        return cosines - self.margin_now * own


class AAMSoftmax(MarginSoftmax):
    """Additive angular margin: ``s cos(theta + m)`` for the own class (Deng et al. 2019; ArcFace).

    Beyond ``theta = pi - m``, where the cosine would rise again, the margin is ``m sin m``.
    """

    def __init__(
        self, dim: int, num_speakers: int, *, scale: float = 30.0, margin: float = 0.2
    ) -> None:
        super().__init__(dim, num_speakers, scale=scale, margin=margin)

    def apply_margin(self, cosines: Logits, speakers: Speakers) -> Logits:
        margin = self.margin_now
        own = cosines.gather(1, speakers[:, None])
        sines = (1 - own.square()).clamp(min=1e-9).sqrt()
        turned = own * margin.cos() - sines * margin.sin()
        beyond = own <= (math.pi - margin).cos()
        turned = torch.where(beyond, own - margin * margin.sin(), turned)
        return cosines.scatter(1, speakers[:, None], turned)


CLASSIFIERS = {"softmax": Softmax, "am_softmax": AMSoftmax, "aam_softmax": AAMSoftmax}


def _loss(logits: Logits, scores: Logits, speakers: Speakers) -> Loss:
    correct = scores.detach().argmax(dim=1) == speakers
    return Loss(F.cross_entropy(logits, speakers), correct.float().mean())
