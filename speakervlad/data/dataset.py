"""Random crops of utterances: one seek each, the same whatever the workers, ranks and restarts."""

import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from speakervlad.data.audio import read_audio
from speakervlad.data.manifest import Manifest
from speakervlad.data.sharing import Shared
from speakervlad.errors import InputError

logger = logging.getLogger(__name__)

MAX_REPLACEMENTS = 10


class Crop(NamedTuple):
    """A training example; a batch of crops holds tensors of shape (batch, samples) and (batch,)."""

    waveform: torch.Tensor
    speaker: int
    epoch: int
    index: int


class UtteranceDataset(Dataset[Crop]):
    """Crops of a fixed length, drawn by ``np.random.default_rng((seed, epoch, index))``.

    Utterances shorter than the crop are repeated to its length. An utterance that cannot be read
    is reported once and replaced by another one, until there are too many of them.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        crop_samples: int,
        seed: int,
        wrap: bool = False,
        reverse_probability: float = 0.0,
        max_bad_fraction: float = 0.0,
    ) -> None:
        """Keep the manifest; nothing is read yet.

        Args:
            manifest: The utterances; its ``num_samples`` are trusted.
            crop_samples: Length of a crop at 16 kHz.
            seed: Key of all randomness, together with epoch and index.
            wrap: A crop may begin anywhere and run over the end into the beginning, as in the
                doubled signal of the GhostVLAD release.
            reverse_probability: Chance that a crop runs backwards in time (the release: 0.3).
            max_bad_fraction: Share of the utterances that may be unreadable.
        """
        self.manifest = manifest
        self.crop_samples = crop_samples
        self.seed = seed
        self.wrap = wrap
        self.reverse_probability = reverse_probability
        self.max_bad_fraction = max_bad_fraction
        # Shared by worker processes; a mark is set once, so they need no lock.
        self._is_bad = torch.zeros(len(manifest), dtype=torch.uint8).share_memory_()
        self._shared: Shared[Manifest] | None = None

    def __getstate__(self) -> dict[str, object]:
        """What a worker is sent: the manifest stays in one memory that all of them read."""
        self._shared = self._shared or Shared(self.manifest)
        return {**self.__dict__, "manifest": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if self._shared:
            self.manifest = self._shared.value()

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        """The crop of utterance ``index`` in ``epoch``, or of one drawn in its place.

        Raises:
            InputError: more than ``max_bad_fraction`` of the utterances cannot be read.
        """
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        for _ in range(MAX_REPLACEMENTS):
            try:
                waveform = self._crop(index, rng)
                break
            except (InputError, OSError) as error:
                self._mark_bad(index, error)
                index = int(rng.integers(len(self)))
        else:
            raise InputError(
                f"{MAX_REPLACEMENTS} utterances in a row cannot be read, the last for "
                f"{self.manifest.utterance_ids[index]}. Check the disk and the root folder."
            )
        if rng.random() < self.reverse_probability:
            waveform = waveform[::-1].copy()
        speaker = int(self.manifest.speakers.codes[index])
        return Crop(torch.from_numpy(waveform), speaker, epoch, index)

    def bad_utterances(self) -> list[str]:
        """Ids of the utterances that could not be read so far, by any worker."""
        rows = torch.nonzero(self._is_bad).flatten().tolist()
        return [self.manifest.utterance_ids[row] for row in rows]

    def _mark_bad(self, index: int, error: Exception) -> None:
        """Report an unreadable utterance once; stop when there are too many."""
        if not self._is_bad[index]:
            self._is_bad[index] = 1
            logger.warning("utterance %s: %s", self.manifest.utterance_ids[index], error)
        num_bad = int(self._is_bad.sum())
        if num_bad > self.max_bad_fraction * len(self):
            raise InputError(
                f"utterance {self.manifest.utterance_ids[index]}: {error} ({num_bad} of "
                f"{len(self)} utterances cannot be read, {self.max_bad_fraction:.2%} tolerated)"
            ) from error

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


def batches(loader: Iterable[Crop]) -> Iterator[Crop]:
    """The batches of a `DataLoader`; a worker's `InputError` arrives as the one line it was.

    Raises:
        InputError: as the dataset does; `DataLoader` would wrap it in the worker's traceback.
    """
    try:
        yield from loader
    except InputError as error:
        _, _, line = str(error).rstrip().rpartition("InputError: ")
        raise InputError(line) from None
