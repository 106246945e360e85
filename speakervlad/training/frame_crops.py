"""Crops of cached frames: drawn as crops of sound are, by what they belong to alone."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from speakervlad.config import Config
from speakervlad.models.trunk import Trunk
from speakervlad.tables.manifest import Manifest
from speakervlad.training.augment import Examples
from speakervlad.training.frame_cache import FrameCache
from speakervlad.training.teacher import Targets

# Random streams that are drawn by the batch, and by its crops.
LENGTH_STREAM, CROP_STREAM = 14, 15


class FrameBatch(NamedTuple):
    """Crops of frames side by side: float16 (batch, frame, dim), and int64 (batch,)."""

    frames: Tensor
    speaker: Tensor
    index: Tensor
    speed: Tensor


@dataclass(frozen=True)
class Drawing:
    """How crops are drawn.

    Attributes:
        seed: of all draws.
        batch_size: of all processes; crops of one batch have one length.
        lengths: fewest and most frames of a crop.
        clean_share: probability of copy 0, where there are others.
    """

    seed: int
    batch_size: int
    lengths: tuple[int, int]
    clean_share: float


class FrameCrops(Dataset[FrameBatch]):
    """Batches of crops of the frames of a cache, for keys ``(position, index)``.

    The length of the crops is drawn by ``(seed, batch)``, the copy and the place of a crop by
    ``(seed, position, index)``. Utterances with fewer frames are repeated.

    Args:
        cache: the frames.
        drawing: how crops are drawn.
    """

    def __init__(self, cache: FrameCache, drawing: Drawing) -> None:
        self.cache, self.drawing = cache, drawing
        self.speakers = cache.manifest.speaker_indices

    @property
    def manifest(self) -> Manifest:
        """The utterances."""
        return self.cache.manifest

    @property
    def usable(self) -> np.ndarray:
        """Bool (utterances,), of which there are frames."""
        return self.cache.kept[0]

    def bad_utterances(self) -> list[str]:
        """Ids of the utterances that could not be read."""
        return self.cache.bad

    def __len__(self) -> int:
        return len(self.speakers)

    def __getitems__(self, keys: list[tuple[int, int]]) -> FrameBatch:
        """The crops of one batch, or of a process's share of it."""
        seed, (shortest, longest) = self.drawing.seed, self.drawing.lengths
        batch = keys[0][0] // self.drawing.batch_size
        rng = np.random.default_rng((seed, batch, LENGTH_STREAM))
        length = int(rng.integers(shortest, longest + 1))
        frames = np.empty((len(keys), length, self.cache.frames.dim), np.float16)
        copies = [self._draw(key, out) for key, out in zip(keys, frames, strict=True)]
        rows = np.array([index for _, index in keys])
        return FrameBatch(
            torch.from_numpy(frames),
            torch.from_numpy(self.speakers[rows]),
            torch.from_numpy(rows),
            torch.from_numpy(self.cache.speeds[copies, rows]),
        )

    def maps_of(self, count: int, trunk: Trunk) -> Tensor:
        """Feature maps (count, channel, row, frame) of one crop each of some utterances.

        Args:
            count: utterances, or as many as there are.
            trunk: whose feature maps they are.
        """
        rng = np.random.default_rng((self.drawing.seed, 0, CROP_STREAM))
        rows = rng.permutation(np.flatnonzero(self.usable))[:count]
        frames = np.empty((len(rows), self.drawing.lengths[1], self.cache.frames.dim), np.float16)
        for row, out in zip(rows.tolist(), frames, strict=True):
            self._crop(0, row, rng, out)
        maps = torch.from_numpy(frames).float().transpose(1, 2)
        return maps.unflatten(1, (trunk.channels, trunk.num_rows))

    def _draw(self, key: tuple[int, int], out: np.ndarray) -> int:
        """Fill ``out`` (frames, dim) with a crop; the number of its copy."""
        position, row = key
        rng = np.random.default_rng((self.drawing.seed, position, row, CROP_STREAM))
        others = np.flatnonzero(self.cache.kept[1:, row]) + 1
        is_clean = rng.random() < self.drawing.clean_share or not len(others)
        number = 0 if is_clean else int(rng.choice(others))
        self._crop(number, row, rng, out)
        return number

    def _crop(self, number: int, row: int, rng: np.random.Generator, out: np.ndarray) -> None:
        frames, length = self.cache.frames_of(row, number), len(out)
        count = len(frames)
        if count >= length:
            start = int(rng.integers(count - length + 1))
            out[:] = frames[start : start + length]
        else:
            out[:] = frames[(np.arange(length) + rng.integers(count)) % count]


def build_frame_crops(config: Config, cache: FrameCache) -> FrameCrops:
    """The crops that a config asks for."""
    settings = config.data.frame_cache
    shortest, longest = (
        max(2, round(seconds * cache.frames.per_second)) for seconds in settings.crop_seconds
    )
    return FrameCrops(
        cache,
        Drawing(
            config.train.seed,
            config.train.batch_size,
            (shortest, longest),
            settings.clean_share,
        ),
    )


class FrameExamples:
    """From batches of cached frames to what a training step takes.

    Args:
        shape: channels and rows of a frame.
        num_speakers: classes per speed; class = speaker + number of the speed * num_speakers.
        device: where training is.
        precision: of training; frames of a training in bfloat16 stay as they are kept.
        targets: what a teacher says, if there is one.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        num_speakers: int,
        device: torch.device,
        precision: str,
        targets: Targets | None = None,
    ) -> None:
        self.shape, self.num_speakers, self.device = shape, num_speakers, device
        self.precision, self.targets = precision, targets

    def __call__(self, batch: FrameBatch) -> Examples:
        """Feature maps (batch, channel, row, frame), classes and targets."""
        classes = batch.speaker + batch.speed * self.num_speakers
        sound = self.maps(batch.frames)
        if self.targets is None:
            return Examples(sound, self._move(classes))
        classes = torch.where(self.targets.labelled[batch.speaker], classes, -1)
        targets = self._move(self.targets.vectors[batch.speed, batch.index])
        return Examples(sound, self._move(classes), None, targets)

    def maps(self, frames: Tensor) -> Tensor:
        """Feature maps of frames (batch, frame, dim); channels stay next to each other."""
        moved = self._move(frames)
        if self.precision == "float32":
            moved = moved.float()
        return moved.transpose(1, 2).unflatten(1, self.shape)

    def _move(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)
