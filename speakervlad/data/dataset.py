"""Random crops of utterances: one seek each, the same whatever the workers, ranks and restarts."""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from speakervlad.data.audio import read_audio
from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError


class Crop(NamedTuple):
    """A training example; a batch of crops holds tensors of shape (batch, samples) and (batch,)."""

    waveform: torch.Tensor
    speaker: int
    epoch: int
    index: int


class UtteranceDataset(Dataset[Crop]):
    """Crops of a fixed length, drawn by ``np.random.default_rng((seed, epoch, index))``.

    Utterances shorter than the crop are repeated to its length.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        crop_samples: int,
        seed: int,
        wrap: bool = False,
        reverse_probability: float = 0.0,
    ) -> None:
        """Keep the manifest; nothing is read yet.

        Args:
            manifest: The utterances; its ``num_samples`` are trusted.
            crop_samples: Length of a crop at 16 kHz.
            seed: Key of all randomness, together with epoch and index.
            wrap: A crop may begin anywhere and run over the end into the beginning, as in the
                doubled signal of the GhostVLAD release.
            reverse_probability: Chance that a crop runs backwards in time (the release: 0.3).
        """
        self.manifest = manifest
        self.crop_samples = crop_samples
        self.seed = seed
        self.wrap = wrap
        self.reverse_probability = reverse_probability

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        """The crop of utterance ``index`` in ``epoch``.

        Raises:
            InputError: the file cannot be read, or is shorter than the manifest says.
        """
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        try:
            waveform = self._crop(index, rng)
        except InputError as error:
            name = self.manifest.utterance_ids[index]
            raise InputError(f"utterance {name}: {error}") from error
        if rng.random() < self.reverse_probability:
            waveform = waveform[::-1].copy()
        speaker = int(self.manifest.speakers.codes[index])
        return Crop(torch.from_numpy(waveform), speaker, epoch, index)

    def _crop(self, index: int, rng: np.random.Generator) -> np.ndarray:
        path, size = self.manifest.path(index), self.crop_samples
        length = int(self.manifest.num_samples[index])
        if self.wrap:
            start = int(rng.integers(length))
        else:
            start = int(rng.integers(max(length - size, 0) + 1))
        if start + size <= length:
            return read_audio(path, start=start, num_samples=size)
        if length < size:
            return np.resize(np.roll(read_audio(path, num_samples=length), -start), size)
        tail = read_audio(path, start=start, num_samples=length - start)
        return np.concatenate([tail, read_audio(path, num_samples=size - len(tail))])
