"""Pooling layers: any number of local descriptors in, one vector out.

Every layer maps ``frames (batch, dim, *positions)`` to ``(batch, out_dim)``; positions may be time,
width x height, or time x width x height. ``guide`` is what a soft assignment may look at instead of
the frames themselves; layers without an assignment ignore it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.precision import at_least_float32
from speakervlad.models.vlad_init import vlad_parameters

# tf.nn.l2_normalize: x * rsqrt(max(sum x^2, 1e-12))
L2_EPSILON = 1e-6
VARIANCE_FLOOR = 1e-7

Frames = Float[Tensor, "batch dim *positions"]
Pooled = Float[Tensor, "batch out"]


class TemporalAveragePooling(nn.Module):
    """The mean over all positions (TAP; global average pooling of an image)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out_dim = dim

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        return frames.flatten(2).mean(dim=2)


class StatisticsPooling(nn.Module):
    """Mean and population standard deviation over all positions (Snyder et al. 2017)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out_dim = 2 * dim

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        variance, mean = torch.var_mean(at_least_float32(frames.flatten(2)), dim=2, correction=0)
        return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1)


class NetVLAD(nn.Module):
    """Soft-assigned sums of residuals to trainable centres; GhostVLAD when ``num_ghosts > 0``.

    ``V_k = sum_i a_k(x_i) (x_i - c_k)`` with ``a(x) = softmax(W x + b)`` over all K + G clusters,
    of which the G ghosts are dropped. W, b and c are independent parameters. Arandjelovic et al.,
    "NetVLAD", CVPR 2016, equations 1-4; Zhong et al., "GhostVLAD", ACCV 2018, equation 2.

    Args:
        dim: size D of a descriptor.
        num_clusters: K, the clusters that reach the output.
        num_ghosts: G, the clusters that only absorb weight.
        guide_dim: size of the vectors that the assignment looks at, if not the descriptors.
        intra_norm: L2-normalise every cluster's residual.
        vector_norm: L2-normalise the whole vector too (the NetVLAD paper does, the speaker
            release does not).
    """

    def __init__(
        self,
        dim: int,
        *,
        num_clusters: int,
        num_ghosts: int = 0,
        guide_dim: int | None = None,
        intra_norm: bool = True,
        vector_norm: bool = False,
    ) -> None:
        super().__init__()
        self.num_clusters = num_clusters
        self.num_ghosts = num_ghosts
        self.intra_norm = intra_norm
        self.vector_norm = vector_norm
        self.out_dim = num_clusters * dim
        self.assignment = nn.Conv1d(guide_dim or dim, num_clusters + num_ghosts, 1)
        self.centers = nn.Parameter(nn.init.orthogonal_(torch.empty(num_clusters, dim)))

    def forward(self, frames: Frames, guide: Tensor | None = None) -> Pooled:
        return self.normalise(self.residual_sums(frames, guide))

    def assign(self, guide: Frames) -> Float[Tensor, "batch clusters position"]:
        """Soft assignment over all K + G clusters; the ghosts are the last G."""
        return self.assignment(guide.flatten(2)).softmax(dim=1)

    def residual_sums(
        self, frames: Frames, guide: Tensor | None = None
    ) -> Float[Tensor, "batch clusters dim"]:
        """The un-normalised V, at least in float32; it adds up over disjoint sets of positions."""
        with torch.autocast(frames.device.type, enabled=False):
            frames = at_least_float32(frames.flatten(2))
            weights = self.assign(frames if guide is None else at_least_float32(guide))
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


POOLINGS = {
    "average": TemporalAveragePooling,
    "statistics": StatisticsPooling,
    "netvlad": NetVLAD,
}
