"""Pooling layers: any number of local descriptors in, one vector out.

Every layer maps ``frames (batch, dim, *positions)`` to ``(batch, out_dim)``; positions may be time,
width x height, or time x width x height. ``guide`` is what a soft assignment may look at instead of
the frames themselves: the trunk's feature map, as the GhostVLAD release does.

A layer is trained by its ``forward``. In inference a runtime computes its ``weights``, and numpy
does the rest with moments of the frames, as its ``finish`` says: see ``models/sums.py``.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.errors import InputError
from speakervlad.models.precision import at_least_float32
from speakervlad.models.sums import (
    L2_EPSILON,
    LEAST_WEIGHT,
    VARIANCE_FLOOR,
    Finish,
    FinishPart,
    sample_factor,
)
from speakervlad.models.vlad import fit_centers, vlad_parameters
from speakervlad.schema import Part, Range, Row, Size

# Of the real cluster when all frames are weighed alike: two ghosts then take a fifth of a frame.
EVEN_BIAS = 2.0
VarianceFloor = Annotated[float, Range(above=0, at_most=1)]

Frames = Float[Tensor, "batch dim *positions"]
Pooled = Float[Tensor, "batch out"]
Weights = Float[Tensor, "batch row position"]


class Pooling(nn.Module):
    """What all layers have in common; a subclass gives ``out_dim``, ``forward`` and ``finish``.

    Args:
        dim: size D of a descriptor.
        guide_dim: size of the vectors of the guide, if there is one.

    Attributes:
        out_dim: size of the pooled vector.
        guided: whether the layer looks at the guide.
        whole: whether the weights of a frame depend on all other frames, so that a recording cannot
            be computed in exact chunks.
        starts_from_frames: whether there is an ``init_from`` that can be used.
    """

    out_dim: int
    guided = False
    whole = False
    starts_from_frames = False

    def __init__(self, dim: int, guide_dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def weights(self, frames: Frames, guide: Tensor | None = None) -> Weights | None:
        """What weighs the frames in the moments of ``finish``; None where nothing does."""
        return None

    def finish(self) -> Finish:
        """How moments of the frames become the pooled vector."""
        raise NotImplementedError

    def moments_of(self, frames: Frames, guide: Tensor | None = None) -> Frames:
        """Of what ``finish`` takes the moments: the frames, as long as nothing else is said."""
        return frames

    def weigh_evenly(self) -> None:
        """Weigh all frames alike from now on, where weights are learnt and can be told to."""

    def positions(self, frames: Frames) -> Float[Tensor, "batch dim position"]:
        """The frames with one axis of positions.

        Raises:
            ValueError: descriptors of another size than ``dim``, or no positions.
        """
        if frames.dim() < 3 or frames.shape[1] != self.dim or 0 in frames.shape[2:]:
            raise InputError(
                f"{type(self).__name__}: frames of shape {tuple(frames.shape)}; expected "
                f"(batch, {self.dim}, ...) with at least one position."
            )
        return frames.flatten(2)


Clusters = Annotated[int, Range(at_least=1, at_most=4096)]
Ghosts = Annotated[int, Range(at_least=0, at_most=4096)]


class GlobalAveragePooling(Pooling):
    """The mean over all positions: of an image or a clip; of time, "TAP" in speaker recognition.

    >>> import torch
    >>> from speakervlad import GlobalAveragePooling
    >>> feature_map = torch.rand(2, 512, 3, 3)  # two images, 512 channels, 3 x 3 positions
    >>> GlobalAveragePooling(512)(feature_map).shape
    torch.Size([2, 512])
    """

    def __init__(self, dim: int, guide_dim: int | None = None) -> None:
        super().__init__(dim)
        self.out_dim: int = dim

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        return self.positions(frames).mean(dim=2)

    def finish(self) -> Finish:
        return Finish("mean")


class StatisticsPooling(Pooling):
    """Mean and standard deviation over all positions (Snyder et al. 2017).

    Args:
        dim: size D of a descriptor.
        guide_dim: not looked at.
        unbiased: divide squared deviations by the number of positions less one, as 3D-Speaker does.
        variance_floor: added to the variance.
    """

    def __init__(
        self,
        dim: int,
        guide_dim: int | None = None,
        *,
        unbiased: bool = False,
        variance_floor: VarianceFloor = VARIANCE_FLOOR,
    ) -> None:
        super().__init__(dim)
        self.out_dim: int = 2 * dim
        self.unbiased = unbiased
        self.variance_floor = variance_floor

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        positions = at_least_float32(self.positions(frames))
        variance, mean = torch.var_mean(positions, dim=2, correction=0)
        if self.unbiased:
            variance = variance * sample_factor(positions.shape[2])
        return torch.cat([mean, (variance + self.variance_floor).sqrt()], dim=1)

    def finish(self) -> Finish:
        return Finish("statistics", correction=int(self.unbiased), floor=self.variance_floor)


class GhostStatisticsPooling(Pooling):
    """Mean and standard deviation over all positions, weighted by what ghost clusters leave.

    ``a(x) = softmax(W x + b)`` over one real cluster and G ghosts; every frame has the weight
    ``a_0(x)``, whatever that of the others. GhostVLAD (Zhong et al. 2018) with one cluster, and
    its mean and deviation in place of its residual.

    Args:
        dim: size D of a descriptor.
        guide_dim: not looked at.
        num_ghosts: G.
        unbiased: divide squared deviations by the number of frames less one, not by the sum of
            weights.
        variance_floor: added to the variance.
    """

    starts_from_frames = True

    def __init__(
        self,
        dim: int,
        guide_dim: int | None = None,
        *,
        num_ghosts: Annotated[int, Range(at_least=1, at_most=4096)] = 2,
        unbiased: bool = False,
        variance_floor: VarianceFloor = VARIANCE_FLOOR,
    ) -> None:
        super().__init__(dim)
        self.out_dim: int = 2 * dim
        self.num_ghosts = num_ghosts
        self.unbiased = unbiased
        self.variance_floor = variance_floor
        self.assignment: nn.Conv1d = nn.Conv1d(dim, 1 + num_ghosts, 1)

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        with torch.autocast(frames.device.type, enabled=False):
            frames = at_least_float32(self.positions(frames))
            shares = self.weights(frames)[:, :1].softmax(dim=2).transpose(1, 2)
            mean = frames @ shares
            # The mean's own part of this gradient is zero.
            variance = (frames - mean.detach()).square() @ shares
            if self.unbiased:
                variance = variance * sample_factor(frames.shape[2])
            return torch.cat([mean, (variance + self.variance_floor).sqrt()], dim=1).squeeze(2)

    def weights(self, frames: Frames, guide: Tensor | None = None) -> Weights:
        """The logarithms of the shares of the real cluster and of the ghosts."""
        # A convolution would bring frames whose dimensions lie side by side into another order.
        weight, bias = self.assignment.weight.squeeze(2), self.assignment.bias
        assert bias is not None
        return (weight @ frames.flatten(2) + bias[:, None]).log_softmax(dim=1)

    @torch.no_grad()
    def weigh_evenly(self) -> None:
        """Leave every frame the same weight, most of it, so that there is something to take."""
        assert self.assignment.bias is not None
        self.assignment.weight.zero_()
        self.assignment.bias.zero_()
        self.assignment.bias[0] = EVEN_BIAS

    @torch.no_grad()
    def init_from(
        self,
        frames: Float[Tensor, "count dim"],
        ghost_frames: Float[Tensor, "count2 dim"] | None = None,
        *,
        seed: int = 0,
    ) -> float:
        """Start as a soft VLAD whose real cluster is the mean, and whose ghosts are of noise.

        At the mean of clean frames a ghost has ``exp(-2 EVEN_BIAS)`` of the real cluster's weight;
        at a ghost's centre, as much as it.

        Args:
            frames: descriptors of clean material.
            ghost_frames: descriptors of what shall not count.
            seed: of the k-means that finds the ghosts' centres.

        Returns:
            alpha.

        Raises:
            ValueError: there are no frames to start ghosts from.
        """
        if ghost_frames is None:
            raise ValueError("ghost clusters start from degraded frames: pass ghost_frames.")
        ghosts = torch.from_numpy(
            fit_centers(ghost_frames.cpu().numpy(), self.num_ghosts, seed=seed)
        )
        mean = frames.mean(dim=0, keepdim=True)
        centers = torch.cat([mean, ghosts.to(mean)])
        distance = float((centers[1:] - mean).square().sum(dim=1).mean())
        alpha = EVEN_BIAS / max(distance, 1e-12)
        assert self.assignment.bias is not None
        self.assignment.weight.copy_(2 * alpha * centers[:, :, None])
        self.assignment.bias.copy_(-alpha * centers.square().sum(dim=1))
        self.assignment.bias[0] += EVEN_BIAS
        return alpha

    def finish(self) -> Finish:
        return Finish(
            "statistics",
            "clusters",
            log_weights=True,
            num_ghosts=self.num_ghosts,
            floor=self.variance_floor,
            correction=int(self.unbiased),
        )


class AttentiveStatisticsPooling(Pooling):
    """Mean and standard deviation over all positions, weighted by attention.

    ``e(x) = V f(W x + b) + k``, and ``a = softmax(e)`` over the positions weighs both; ``f`` is
    ReLU, batch norm and tanh. Okabe et al., "Attentive Statistics Pooling for Deep Speaker
    Embedding", Interspeech 2018, with one weight for all dimensions; Desplanques et al.,
    "ECAPA-TDNN", Interspeech 2020, equations 1 to 4, with one for each, and context.

    Args:
        dim: size D of a descriptor.
        guide_dim: not looked at.
        attention_dim: size of the attention's hidden layer, the rows of W.
        per_channel: every dimension has weights of its own.
        context: attention sees, beside a descriptor, the mean and standard deviation of all.
        unbiased: divide squared deviations by the number of positions less one.
        variance_floor: added to the variances.
    """

    def __init__(
        self,
        dim: int,
        guide_dim: int | None = None,
        *,
        attention_dim: Size = 128,
        per_channel: bool = True,
        context: bool = False,
        unbiased: bool = False,
        variance_floor: VarianceFloor = VARIANCE_FLOOR,
    ) -> None:
        super().__init__(dim)
        self.out_dim: int = 2 * dim
        self.unbiased = unbiased
        self.whole = context
        self.variance_floor = variance_floor
        self.context: StatisticsPooling = StatisticsPooling(dim, variance_floor=variance_floor)
        self.attention: nn.Sequential = nn.Sequential(
            nn.Conv1d(3 * dim if context else dim, attention_dim, 1),
            nn.ReLU(),
            nn.BatchNorm1d(attention_dim),
            nn.Tanh(),
            nn.Conv1d(attention_dim, dim if per_channel else 1, 1),
        )

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        with torch.autocast(frames.device.type, enabled=False):
            frames = at_least_float32(self.positions(frames))
            shares = self.weights(frames).softmax(dim=2)
            mean = (shares * frames).sum(dim=2, keepdim=True)
            variance = (shares * (frames - mean).square()).sum(dim=2)
            if self.unbiased:
                variance = variance * sample_factor(frames.shape[2])
            return torch.cat([mean.squeeze(2), (variance + self.variance_floor).sqrt()], dim=1)

    def weights(self, frames: Frames, guide: Tensor | None = None) -> Weights:
        """The logarithms of the weights, up to a constant."""
        seen = frames.flatten(2)
        if self.whole:
            context = self.context(seen).unsqueeze(2).expand(-1, -1, seen.shape[2])
            seen = torch.cat([seen, context], dim=1)
        return self.attention(seen)

    @torch.no_grad()
    def weigh_evenly(self) -> None:
        last = self.attention[-1]
        assert isinstance(last, nn.Conv1d)
        last.weight.zero_()

    def finish(self) -> Finish:
        return Finish(
            "statistics",
            "channels",
            log_weights=True,
            floor=self.variance_floor,
            correction=int(self.unbiased),
        )


class NetVLAD(Pooling):
    """Soft-assigned sums of residuals to trainable centres; GhostVLAD when ``num_ghosts > 0``.

    ``V_k = sum_i a_k(x_i) (x_i - c_k)`` with ``a(x) = softmax(W x + b)`` over all K + G clusters,
    of which the G ghosts are dropped. W, b and c are independent parameters. Arandjelovic et al.,
    "NetVLAD", CVPR 2016, equations 1-4; Zhong et al., "GhostVLAD", ACCV 2018, equation 2.

    Args:
        dim: size D of a descriptor.
        guide_dim: size of the vectors that the assignment may look at instead of the descriptors.
        num_clusters: K, the clusters that reach the output.
        num_ghosts: G, the clusters that only absorb weight.
        assignment: ``trunk`` looks at the guide, where there is one; ``descriptors`` is the layer
            of the NetVLAD paper.
        intra_norm: L2-normalise every cluster's residual.
        vector_norm: L2-normalise the whole vector too (the NetVLAD paper does, the speaker
            release does not).
        second_order: beside its residual, every cluster gives the standard deviation of its
            frames, as Fisher vectors have one (Perronnin et al. 2010): 2 D numbers a cluster.

    >>> import torch
    >>> from speakervlad import NetVLAD
    >>> feature_map = torch.rand(2, 512, 3, 3)  # two images, a VGG-like network's last map
    >>> pool = NetVLAD(512, num_clusters=16, vector_norm=True)  # the layer of the NetVLAD paper
    >>> pool(feature_map).shape  # 512 x K
    torch.Size([2, 8192])
    >>> descriptors = torch.rand(1000, 512)  # of many images
    >>> alpha = pool.init_from(descriptors)  # the start of the paper: k-means
    """

    def __init__(
        self,
        dim: int,
        guide_dim: int | None = None,
        *,
        num_clusters: Clusters = 8,
        num_ghosts: Ghosts = 0,
        assignment: Literal["trunk", "descriptors"] = "trunk",
        intra_norm: bool = True,
        vector_norm: bool = False,
        second_order: bool = False,
    ) -> None:
        super().__init__(dim)
        self.num_clusters = num_clusters
        self.num_ghosts = num_ghosts
        self.intra_norm = intra_norm
        self.vector_norm = vector_norm
        self.second_order = second_order
        self.out_dim: int = num_clusters * dim * (1 + second_order)
        self.guided: bool = guide_dim is not None and assignment == "trunk"
        looked_at = guide_dim if guide_dim is not None and self.guided else dim
        self.assignment: nn.Conv1d = nn.Conv1d(looked_at, num_clusters + num_ghosts, 1)
        self.centers: nn.Parameter = nn.Parameter(
            nn.init.orthogonal_(torch.empty(num_clusters, dim))
        )
        self.starts_from_frames: bool = not self.guided

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        residuals = self.residual_sums(frames, guide)
        if not self.second_order:
            return self.normalise(residuals)
        return self.normalise(residuals, self.deviations(frames, guide))

    def assign(self, guide: Frames) -> Float[Tensor, "batch clusters position"]:
        """Soft assignment over all K + G clusters; the ghosts are the last G."""
        return self.assignment(guide.flatten(2)).softmax(dim=1)

    def weights(self, frames: Frames, guide: Tensor | None = None) -> Weights:
        return self.assign(frames if guide is None else guide)

    def finish(self) -> Finish:
        return Finish(
            "residuals",
            "clusters",
            num_clusters=self.num_clusters,
            num_ghosts=self.num_ghosts,
            floor=L2_EPSILON,
            intra_norm=self.intra_norm,
            vector_norm=self.vector_norm,
            second_order=self.second_order,
            centers=self.centers.detach().cpu().float().numpy(),
        )

    def residual_sums(
        self, frames: Frames, guide: Tensor | None = None
    ) -> Float[Tensor, "batch clusters dim"]:
        """The un-normalised V, at least in float32; it adds up over disjoint sets of positions."""
        with torch.autocast(frames.device.type, enabled=False):
            frames = at_least_float32(self.positions(frames))
            weights = self.weights(frames, None if guide is None else at_least_float32(guide))
            weights = weights[:, : self.num_clusters]
            sums = torch.einsum("bkt,bdt->bkd", weights, frames)
            return sums - weights.sum(dim=-1, keepdim=True) * self.centers

    def deviations(
        self, frames: Frames, guide: Tensor | None = None
    ) -> Float[Tensor, "batch clusters dim"]:
        """The standard deviation of every cluster's frames, times its weight."""
        with torch.autocast(frames.device.type, enabled=False):
            frames = at_least_float32(self.positions(frames))
            weights = self.weights(frames, None if guide is None else at_least_float32(guide))
            weights = weights[:, : self.num_clusters]
            total = weights.sum(dim=-1, keepdim=True).clamp(min=LEAST_WEIGHT)
            # A deviation does not know where zero is; float32 does.
            frames = frames - frames.mean(dim=2, keepdim=True)
            mean, square = (
                torch.einsum("bkt,bdt->bkd", weights, moment) / total
                for moment in (frames, frames.square())
            )
            variance = (square - mean.square()).clamp(min=0)
            return total * (variance + VARIANCE_FLOOR).sqrt()

    def normalise(self, *blocks: Float[Tensor, "batch clusters dim"]) -> Pooled:
        """Normalise per cluster and as a whole, as asked for; flatten cluster by cluster."""
        if self.intra_norm:
            blocks = tuple(F.normalize(block, dim=-1, eps=L2_EPSILON) for block in blocks)
        vector = torch.cat(blocks, dim=-1).flatten(1)
        return F.normalize(vector, dim=-1, eps=L2_EPSILON) if self.vector_norm else vector

    @torch.no_grad()
    def init_from(
        self,
        frames: Float[Tensor, "count dim"],
        ghost_frames: Float[Tensor, "count2 dim"] | None = None,
        *,
        seed: int = 0,
    ) -> float:
        """Start as a hard-ish VLAD of the data: k-means centres, W = 2 alpha c, b = -alpha |c|^2.

        Args:
            frames: descriptors of clean material, for the K real clusters.
            ghost_frames: descriptors of degraded material, for the G ghosts.
            seed: of the k-means.

        Returns:
            alpha.

        Raises:
            ValueError: the assignment looks at a guide of another size than the descriptors, or
                ghosts have no frames to start from.
        """
        if self.assignment.in_channels != self.centers.shape[1]:
            raise ValueError(
                "init_from needs an assignment on the descriptors: pooling.assignment=descriptors."
            )
        if self.num_ghosts and ghost_frames is None:
            raise ValueError("ghost clusters start from degraded frames: pass ghost_frames.")
        centers, alpha = vlad_parameters(
            frames.cpu().numpy(),
            None if ghost_frames is None else ghost_frames.cpu().numpy(),
            self.num_clusters,
            self.num_ghosts,
            seed,
        )
        all_centers = torch.from_numpy(centers).to(self.centers)
        self.centers.copy_(all_centers[: self.num_clusters])
        self.assignment.weight.copy_(2 * alpha * all_centers[:, :, None])
        assert self.assignment.bias is not None
        self.assignment.bias.copy_(-alpha * all_centers.square().sum(dim=1))
        return alpha


class GhostVLAD(NetVLAD):
    """NetVLAD with ghosts: clusters that take weight from the others and are dropped.

    Zhong et al., "GhostVLAD for set-based face recognition", ACCV 2018. The arguments are those of
    ``NetVLAD``.

    >>> import torch
    >>> from speakervlad import GhostVLAD
    >>> pool = GhostVLAD(512, num_clusters=16, num_ghosts=2)
    >>> feature_map = torch.rand(2, 512, 3, 3)
    >>> pool(feature_map).shape  # 512 x K: ghosts reach no output
    torch.Size([2, 8192])
    >>> pool.assign(feature_map).shape  # softmax over K + G, the ghosts last, at 9 positions
    torch.Size([2, 18, 9])
    """

    def __init__(
        self,
        dim: int,
        guide_dim: int | None = None,
        *,
        num_clusters: Clusters = 8,
        num_ghosts: Ghosts = 2,
        assignment: Literal["trunk", "descriptors"] = "trunk",
        intra_norm: bool = True,
        vector_norm: bool = False,
        second_order: bool = False,
    ) -> None:
        super().__init__(
            dim,
            guide_dim,
            num_clusters=num_clusters,
            num_ghosts=num_ghosts,
            assignment=assignment,
            intra_norm=intra_norm,
            vector_norm=vector_norm,
            second_order=second_order,
        )


class ActionVLAD(NetVLAD):
    """NetVLAD over time x height x width of a clip: one set of centres for all positions.

    ``V_k = sum_t sum_i a_k(x_it) (x_it - c_k)``: Girdhar et al., "ActionVLAD", CVPR 2017,
    equation 1. The arguments are those of ``NetVLAD``. Two streams are two layers, whose vectors
    are concatenated (their late fusion averages the scores of two classifiers).

    >>> import torch
    >>> from speakervlad import ActionVLAD
    >>> rgb, flow = torch.rand(2, 512, 16, 3, 3), torch.rand(2, 512, 16, 3, 3)  # 16 frames of 3 x 3
    >>> pools = [ActionVLAD(512, num_clusters=16, vector_norm=True) for _ in range(2)]
    >>> torch.cat([pool(clip) for pool, clip in zip(pools, (rgb, flow))], dim=1).shape
    torch.Size([2, 16384])
    """

    def positions(self, frames: Frames) -> Float[Tensor, "batch dim position"]:
        if frames.dim() != 5:
            raise InputError(
                f"ActionVLAD: frames of shape {tuple(frames.shape)}; expected "
                f"(batch, {self.dim}, time, height, width)."
            )
        return super().positions(frames)


class SuperVLAD(Pooling):
    """Soft-assigned sums of the descriptors themselves: NetVLAD without centres.

    ``V_k = sum_i a_k(x_i) x_i`` with ``a(x) = softmax(W x + b)`` over all K + G clusters, of which
    the G ghosts are dropped; every V_k is L2-normalised, and the whole vector. Lu et al.,
    "SuperVLAD", NeurIPS 2024; its 1-cluster VLAD has one real cluster and two ghosts.

    Args:
        dim: size D of a descriptor.
        guide_dim: not looked at.
        num_clusters: K, the clusters that reach the output.
        num_ghosts: G, the clusters that only absorb weight.
    """

    def __init__(
        self,
        dim: int,
        guide_dim: int | None = None,
        *,
        num_clusters: Clusters = 4,
        num_ghosts: Ghosts = 1,
    ) -> None:
        super().__init__(dim)
        self.num_clusters = num_clusters
        self.num_ghosts = num_ghosts
        self.out_dim: int = num_clusters * dim
        self.assignment: nn.Conv1d = nn.Conv1d(dim, num_clusters + num_ghosts, 1)

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        with torch.autocast(frames.device.type, enabled=False):
            frames = at_least_float32(self.positions(frames))
            weights = self.weights(frames)[:, : self.num_clusters]
            sums = torch.einsum("bkt,bdt->bkd", weights, frames)
            vector = F.normalize(sums, dim=-1, eps=L2_EPSILON).flatten(1)
            return F.normalize(vector, dim=-1, eps=L2_EPSILON)

    def weights(self, frames: Frames, guide: Tensor | None = None) -> Weights:
        return self.assignment(frames.flatten(2)).softmax(dim=1)

    def finish(self) -> Finish:
        return Finish(
            "residuals",
            "clusters",
            num_clusters=self.num_clusters,
            num_ghosts=self.num_ghosts,
            floor=L2_EPSILON,
            intra_norm=True,
            vector_norm=True,
        )


Layer = Annotated[
    Part, Row(lambda: {name: row for name, row in POOLINGS.items() if row is not SideBySide})
]


class SideBySide(Pooling):
    """The trunk's own frames through one layer, the descriptors through another.

    Their vectors follow each other. The trunk's frames are all channels and rows of its feature
    map, the guide of other layers; without a guide the first layer has the descriptors as well.

    Args:
        dim: size D of a descriptor.
        guide_dim: size of the trunk's frames.
        frames: the layer over the trunk's frames.
        descriptors: the layer over the descriptors.
    """

    guided = True

    def __init__(
        self,
        dim: int,
        guide_dim: int | None = None,
        *,
        frames: Layer = Part("ghost_statistics"),  # noqa: B008 - it does not change
        descriptors: Layer = Part("netvlad", num_ghosts=2, assignment="descriptors"),  # noqa: B008
    ) -> None:
        super().__init__(dim)
        self.of_frames = POOLINGS[frames.kind](guide_dim or dim, **frames.options)
        self.of_descriptors = POOLINGS[descriptors.kind](dim, guide_dim, **descriptors.options)
        self.out_dim: int = self.of_frames.out_dim + self.of_descriptors.out_dim
        self.whole = self.of_frames.whole or self.of_descriptors.whole
        layers = (self.of_frames, self.of_descriptors)
        self.starts_from_frames: bool = any(layer.starts_from_frames for layer in layers)

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        own = frames if guide is None else guide
        return torch.cat(
            [self.of_frames(own), self.of_descriptors(frames, self._guide(guide))], dim=1
        )

    def weights(self, frames: Frames, guide: Tensor | None = None) -> Weights | None:
        both = (
            self.of_frames.weights(frames if guide is None else guide),
            self.of_descriptors.weights(frames, self._guide(guide)),
        )
        known = [weights for weights in both if weights is not None]
        return torch.cat(known, dim=1) if known else None

    def moments_of(self, frames: Frames, guide: Tensor | None = None) -> Frames:
        own = frames if guide is None else guide
        return torch.cat([at_least_float32(own), at_least_float32(frames)], dim=1)

    def weigh_evenly(self) -> None:
        self.of_frames.weigh_evenly()

    def init_from(
        self,
        frames: Float[Tensor, "count dim"],
        ghost_frames: Float[Tensor, "count2 dim"] | None = None,
        *,
        own: Float[Tensor, "count guide_dim"],
        ghost_own: Float[Tensor, "count2 guide_dim"] | None = None,
        seed: int = 0,
    ) -> float:
        """Start each layer as it does alone; the trunk's own frames are ``own``.

        Returns:
            alpha of the last one.

        Raises:
            ValueError: as theirs.
        """
        alpha = 0.0
        for layer, clean, noisy in (
            (self.of_frames, own, ghost_own),
            (self.of_descriptors, frames, ghost_frames),
        ):
            if isinstance(layer, NetVLAD | GhostStatisticsPooling) and layer.starts_from_frames:
                alpha = layer.init_from(clean, noisy, seed=seed)
        return alpha

    def finish(self) -> Finish:
        layers = (self.of_frames, self.of_descriptors)
        parts = tuple(FinishPart(layer.finish(), layer.dim, layer.out_dim) for layer in layers)
        return Finish("side_by_side", parts=parts)

    def _guide(self, guide: Tensor | None) -> Tensor | None:
        return guide if self.of_descriptors.guided else None


# What speaker recognition calls it.
TemporalAveragePooling = GlobalAveragePooling

POOLINGS: dict[str, Callable[..., Pooling]] = {
    "average": GlobalAveragePooling,
    "statistics": StatisticsPooling,
    "ghost_statistics": GhostStatisticsPooling,
    "attentive_statistics": AttentiveStatisticsPooling,
    "netvlad": NetVLAD,
    "supervlad": SuperVLAD,
    "one_cluster_vlad": functools.partial(SuperVLAD, num_clusters=1, num_ghosts=2),
    "side_by_side": SideBySide,
}
