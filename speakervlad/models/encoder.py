"""The network that users keep, and the network that is trained."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speakervlad.config import PIECE_SECONDS
from speakervlad.models.losses import Classifier, Distillation, Loss
from speakervlad.models.pooling import Pooling
from speakervlad.models.spectrogram import Spectrogram
from speakervlad.models.trunk import FeatureMap, Trunk

# False where augmentation hides the spectrogram behind its mean.
SpectrogramMask = Bool[Tensor, "batch freq time"] | None


class ColumnDescriptors(nn.Module):
    """One ReLU layer over all rows and channels of a frame (the release's ``x_fc``)."""

    def __init__(self, channels: int, num_rows: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.linear: nn.Conv2d = nn.Conv2d(channels, dim, (num_rows, 1))

    def forward(self, feature_map: FeatureMap) -> Float[Tensor, "batch dim frame"]:
        return F.relu(self.linear(feature_map)).squeeze(2)


class RowMean(nn.Module):
    """The mean over the rows of a frame (the release's average aggregation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels

    def forward(self, feature_map: FeatureMap) -> Float[Tensor, "batch dim frame"]:
        return feature_map.mean(dim=2)


class EmbeddingLayer(nn.Module):
    """Pooled vector to embedding.

    Args:
        in_dim: size of the pooled vector.
        dim: size of the embedding.
        relu: pass it through the ReLU of the release's ``fc6``.
        batch_norm: centre and scale every dimension over the batch, as most modern recipes do:
            pooled vectors share a large mean, and learning is slow until it is gone.
    """

    def __init__(self, in_dim: int, dim: int, *, relu: bool, batch_norm: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.linear: nn.Linear = nn.Linear(in_dim, dim)
        self.relu = relu
        self.norm: nn.Module = nn.BatchNorm1d(dim, affine=False) if batch_norm else nn.Identity()

    def forward(self, pooled: Float[Tensor, "batch in_dim"]) -> Float[Tensor, "batch dim"]:
        embedding = self.linear(pooled)
        return self.norm(F.relu(embedding) if self.relu else embedding)


class SpeakerEncoder(nn.Module):
    """Waveforms of 16 kHz in [-1, 1] to utterance embeddings.

    ``forward`` returns the embeddings that the classifier sees, of any length; cosine scoring is
    indifferent to it, and ``inference`` hands out unit vectors. It computes what it is given in one
    piece; ``piece_seconds`` tells inference how to cut what is longer, if the trunk's frames see
    all of their piece.
    """

    def __init__(
        self,
        front_end: Spectrogram,
        trunk: Trunk,
        descriptors: ColumnDescriptors | RowMean,
        pooling: Pooling,
        projection: EmbeddingLayer,
        piece_seconds: float = PIECE_SECONDS,
    ) -> None:
        super().__init__()
        self.piece_seconds = piece_seconds
        self.front_end = front_end
        self.trunk = trunk
        self.descriptors = descriptors
        self.pooling = pooling
        self.projection = projection

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return self.projection.dim

    def forward(
        self, waveforms: Float[Tensor, "batch samples"], keep: SpectrogramMask = None
    ) -> Float[Tensor, "batch dim"]:
        frames, guide = self.frames(waveforms, keep)
        return self.projection(self.pooling(frames, guide))

    def embed_map(self, feature_map: FeatureMap) -> Float[Tensor, "batch dim"]:
        """Embeddings of what the trunk has made of spectrograms."""
        frames, guide = self.describe_map(feature_map)
        return self.projection(self.pooling(frames, guide))

    def frames(
        self, waveforms: Float[Tensor, "batch samples"], keep: SpectrogramMask = None
    ) -> tuple[Float[Tensor, "batch dim frame"], Float[Tensor, "batch guide_dim frame"] | None]:
        """Frame descriptors, and what the pooling weights look at if that is something else."""
        spectrograms = self.front_end(waveforms)
        if keep is not None:
            mean = spectrograms.mean(dim=(1, 2), keepdim=True)
            spectrograms = torch.where(keep, spectrograms, mean)
        return self.describe(spectrograms)

    def describe(
        self, spectrograms: Float[Tensor, "batch freq time"]
    ) -> tuple[Float[Tensor, "batch dim frame"], Float[Tensor, "batch guide_dim frame"] | None]:
        """The same from spectrograms."""
        return self.describe_map(self.trunk(spectrograms))

    def describe_map(
        self, feature_map: FeatureMap
    ) -> tuple[Float[Tensor, "batch dim frame"], Float[Tensor, "batch guide_dim frame"] | None]:
        """The same from the trunk's feature maps."""
        guide = feature_map.flatten(1, 2) if self.pooling.guided else None
        return self.descriptors(feature_map), guide


class SpeakerClassifier(nn.Module):
    """Encoder and objective; the only module that DDP and ``torch.compile`` wrap."""

    def __init__(
        self,
        encoder: SpeakerEncoder,
        classifier: Classifier,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier
        self.distillation = distillation

    def forward(
        self,
        sound: Float[Tensor, "batch samples"] | FeatureMap,
        speakers: Int[Tensor, " batch"],
        keep: SpectrogramMask = None,
        targets: Float[Tensor, "batch teacher_dim"] | None = None,
    ) -> Loss:
        """The loss of waveforms, or of feature maps that the trunk has made before."""
        is_map = sound.dim() == 4
        embeddings = self.encoder.embed_map(sound) if is_map else self.encoder(sound, keep)
        loss = self.classifier(embeddings, speakers)
        if targets is None or self.distillation is None:
            return loss
        return self.distillation(loss, embeddings, targets)
