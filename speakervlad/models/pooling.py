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
from speakervlad.models.sums import L2_EPSILON, Finish
from speakervlad.models.vlad import vlad_parameters
from speakervlad.schema import Range, Size

VARIANCE_FLOOR = 1e-7
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
        self.out_dim = dim

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
        self.out_dim = 2 * dim
        self.unbiased = unbiased
        self.variance_floor = variance_floor

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        positions = at_least_float32(self.positions(frames))
        variance, mean = torch.var_mean(positions, dim=2, correction=0)
        if self.unbiased:
            count = positions.shape[2]
            variance = variance * (count / max(count - 1, 1))
        return torch.cat([mean, (variance + self.variance_floor).sqrt()], dim=1)

    def finish(self) -> Finish:
        return Finish("statistics", correction=int(self.unbiased), floor=self.variance_floor)


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
        variance_floor: VarianceFloor = VARIANCE_FLOOR,
    ) -> None:
        super().__init__(dim)
        self.out_dim = 2 * dim
        self.whole = context
        self.variance_floor = variance_floor
        self.context = StatisticsPooling(dim, variance_floor=variance_floor)
        self.attention = nn.Sequential(
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
            return torch.cat([mean.squeeze(2), (variance + self.variance_floor).sqrt()], dim=1)

    def weights(self, frames: Frames, guide: Tensor | None = None) -> Weights:
        """The logarithms of the weights, up to a constant."""
        seen = frames.flatten(2)
        if self.whole:
            context = self.context(seen).unsqueeze(2).expand(-1, -1, seen.shape[2])
            seen = torch.cat([seen, context], dim=1)
        return self.attention(seen)

    def finish(self) -> Finish:
        return Finish("statistics", "channels", log_weights=True, floor=self.variance_floor)


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
    ) -> None:
        super().__init__(dim)
        self.num_clusters = num_clusters
        self.num_ghosts = num_ghosts
        self.intra_norm = intra_norm
        self.vector_norm = vector_norm
        self.out_dim = num_clusters * dim
        self.guided = guide_dim is not None and assignment == "trunk"
        looked_at = guide_dim if guide_dim is not None and self.guided else dim
        self.assignment = nn.Conv1d(looked_at, num_clusters + num_ghosts, 1)
        self.centers = nn.Parameter(nn.init.orthogonal_(torch.empty(num_clusters, dim)))
        self.starts_from_frames = not self.guided

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        return self.normalise(self.residual_sums(frames, guide))

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
            floor=L2_EPSILON,
            intra_norm=self.intra_norm,
            vector_norm=self.vector_norm,
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

    def normalise(self, residuals: Float[Tensor, "batch clusters dim"]) -> Pooled:
        """Normalise per cluster and as a whole, as asked for; flatten cluster by cluster."""
        if self.intra_norm:
            residuals = F.normalize(residuals, dim=-1, eps=L2_EPSILON)
        vector = residuals.flatten(1)
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
    ) -> None:
        super().__init__(
            dim,
            guide_dim,
            num_clusters=num_clusters,
            num_ghosts=num_ghosts,
            assignment=assignment,
            intra_norm=intra_norm,
            vector_norm=vector_norm,
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
        self.out_dim = num_clusters * dim
        self.assignment = nn.Conv1d(dim, num_clusters + num_ghosts, 1)

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
            floor=L2_EPSILON,
            intra_norm=True,
            vector_norm=True,
        )


# What speaker recognition calls it.
TemporalAveragePooling = GlobalAveragePooling

POOLINGS: dict[str, Callable[..., Pooling]] = {
    "average": GlobalAveragePooling,
    "statistics": StatisticsPooling,
    "attentive_statistics": AttentiveStatisticsPooling,
    "netvlad": NetVLAD,
    "supervlad": SuperVLAD,
    "one_cluster_vlad": functools.partial(SuperVLAD, num_clusters=1, num_ghosts=2),
}
