"""Random crops of utterances and their order: the same whatever the workers, ranks, restarts."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from speakervlad.audio.quality import Level
from speakervlad.audio.reading import speech_blocks
from speakervlad.audio.spans import load_audio
from speakervlad.errors import InputError
from speakervlad.tables.manifest import Manifest

logger = logging.getLogger(__name__)

MAX_REPLACEMENTS = 10


class Crop(NamedTuple):
    """A training example; a batch of crops holds tensors of shape (batch, samples) and (batch,)."""

    waveform: torch.Tensor
    speaker: int
    epoch: int
    index: int


class _Texts:
    """Texts as tensors, which worker processes are sent as handles of one shared memory."""

    def __init__(self, texts: np.ndarray) -> None:
        """Take numpy strings (rows,)."""
        encoded = [text.encode() for text in texts.tolist()]
        self._bytes = torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy())
        self._ends = torch.from_numpy(np.cumsum([0, *map(len, encoded)]))

    def __getitem__(self, row: int) -> str:
        start, end = self._ends[row : row + 2].tolist()
        return self._bytes[start:end].numpy().tobytes().decode()


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
        self._ids, self._paths = _Texts(manifest.utterance_ids), _Texts(manifest.paths)
        self._num_samples = torch.from_numpy(manifest.num_samples)
        self._speakers = torch.from_numpy(manifest.speaker_indices)
        self.crop_samples = crop_samples
        self.seed = seed
        self.wrap = wrap
        self.reverse_probability = reverse_probability
        self.max_bad_fraction = max_bad_fraction
        self._root = manifest.root
        # Shared by worker processes; a mark is set once, so they need no lock.
        self._is_bad = torch.zeros(len(manifest), dtype=torch.uint8).share_memory_()

    def __getstate__(self) -> dict[str, object]:
        """What a worker is sent: of the rows only tensors, which all workers share."""
        return {**self.__dict__, "manifest": None}

    def __len__(self) -> int:
        return len(self._num_samples)

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
            except InputError as error:
                self._mark_bad(index, error)
                index = int(rng.integers(len(self)))
        else:
            raise InputError(
                f"{MAX_REPLACEMENTS} utterances in a row cannot be read, the last for "
                f"{self._ids[index]}. Check the disk and the root folder."
            )
        if rng.random() < self.reverse_probability:
            waveform = waveform[::-1].copy()
        speaker = int(self._speakers[index])
        return Crop(torch.from_numpy(waveform), speaker, epoch, index)

    def bad_utterances(self) -> list[str]:
        """Ids of the utterances that could not be read so far, by any worker."""
        rows = torch.nonzero(self._is_bad).flatten().tolist()
        return [self._ids[row] for row in rows]

    def _mark_bad(self, index: int, error: Exception) -> None:
        """Report an unreadable utterance once; stop when there are too many."""
        if not self._is_bad[index]:
            self._is_bad[index] = 1
            logger.warning("utterance %s: %s", self._ids[index], error)
        num_bad = int(self._is_bad.sum())
        if num_bad > self.max_bad_fraction * len(self):
            raise InputError(
                f"utterance {self._ids[index]}: {error} ({num_bad} of "
                f"{len(self)} utterances cannot be read, {self.max_bad_fraction:.2%} tolerated)"
            ) from error

    def _crop(self, index: int, rng: np.random.Generator) -> np.ndarray:
        path, size = self._root / self._paths[index], self.crop_samples
        length = int(self._num_samples[index])
        if self.wrap:
            start = int(rng.integers(length))
        else:
            start = int(rng.integers(max(length - size, 0) + 1))
        waveform = _read_wrapped(path, start, size, length)
        if not Level(waveform).has_sound:
            # A pause, or a recording of nothing: then it is refused.
            for _ in speech_blocks(path):
                pass
        return waveform


def _read_wrapped(path: Path, start: int, size: int, length: int) -> np.ndarray:
    """``size`` samples from ``start`` on of a recording that repeats after ``length``."""
    if start + size <= length:
        return load_audio(path, start=start, num_samples=size)
    if length < size:
        return np.resize(np.roll(load_audio(path, num_samples=length), -start), size)
    tail = load_audio(path, start=start, num_samples=length - start)
    return np.concatenate([tail, load_audio(path, num_samples=size - len(tail))])


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


class EndlessSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)`` of shuffled epochs without end.

    Position p of the global stream lies in epoch p // N, which is permuted by
    ``np.random.default_rng((seed, epoch))``. Rank r takes the positions p >= start with
    p mod world_size = r, so ranks interleave to the stream of one rank, and a run resumed at
    position p continues an unbroken one.

    With ``visits`` an epoch takes each utterance so many times, N being their sum; ``epoch`` then
    counts visits, so that no crop repeats. Of every visit ``crops`` follow each other, one a rank
    apart, so that all of them come to the same rank.
    """

    def __init__(
        self,
        num_items: int,
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        visits: np.ndarray | None = None,
        crops: int = 1,
    ) -> None:
        """Take the number of utterances, the global position to begin at, visits (utterances,)."""
        if num_items < 1 or start < 0 or not 0 <= rank < world_size:
            raise ValueError(f"{num_items=}, {start=}, {rank=}, {world_size=} describe no stream")
        if visits is None:
            visits = np.ones(num_items, np.int64)
        self.utterances = np.repeat(np.arange(num_items), visits)
        self.visit = np.arange(len(self.utterances)) - (np.cumsum(visits) - visits)[self.utterances]
        self.visits_per_epoch = int(visits.max())
        self.crops = crops
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + (self.rank - self.start) % self.world_size
        size = len(self.utterances) * self.crops
        while True:
            epoch, offset = divmod(position, size)
            order, crop = self._epoch(epoch)
            order, crop = order[offset :: self.world_size], crop[offset :: self.world_size]
            epochs = (epoch * self.visits_per_epoch + self.visit[order]) * self.crops + crop
            yield from zip(epochs.tolist(), self.utterances[order].tolist(), strict=True)
            position += len(order) * self.world_size

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Visits of an epoch and the number of each one's crop, in order."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.utterances))
        ranks, crops = self.world_size, np.arange(self.crops)
        groups, rest = divmod(len(order), ranks)
        whole, tail = order[: groups * ranks], order[groups * ranks :]
        visits = np.repeat(whole.reshape(groups, 1, ranks), self.crops, axis=1).ravel()
        numbers = np.tile(np.repeat(crops, ranks), groups)
        return (
            np.concatenate([visits, np.tile(tail, self.crops)]),
            np.concatenate([numbers, np.repeat(crops, rest)]),
        )


class BalancedSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)`` in blocks of P speakers x K utterances, without end.

    A round visits every speaker once, in an order drawn by ``default_rng((seed, round))``; the
    speakers that do not fill the last block of a round rest. In round r a speaker's utterances r K
    to r K + K - 1 of its own endless shuffled stream are taken, so all are used equally often;
    ``epoch`` counts how often that stream has begun anew, so no crop repeats. Inside a block the
    speaker changes fastest: with P a multiple of the world size, all K utterances of a speaker
    come to one rank. ``start``, ``rank``, ``world_size`` slice the stream as in `EndlessSampler`.
    """

    def __init__(
        self,
        speaker_indices: np.ndarray,
        *,
        speakers_per_block: int,
        utterances_per_speaker: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Take the speaker number of every utterance (utterances,), and P and K.

        Raises:
            InputError: fewer than P speakers.
        """
        self.counts = np.bincount(speaker_indices)
        self.counts = self.counts[self.counts > 0]
        if len(self.counts) < speakers_per_block:
            raise InputError(
                f"{speakers_per_block} speakers per batch asked, the manifest has "
                f"{len(self.counts)}. Ask for fewer."
            )
        if speakers_per_block < 1 or utterances_per_speaker < 1 or not 0 <= rank < world_size:
            raise ValueError(f"{speakers_per_block=}, {utterances_per_speaker=}: no stream")
        self.by_speaker = np.argsort(speaker_indices, kind="stable")
        self.firsts = np.cumsum(self.counts) - self.counts
        self.speakers_per_block = speakers_per_block
        self.utterances_per_speaker = utterances_per_speaker
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        size = self.speakers_per_block * self.utterances_per_speaker
        position = self.start + (self.rank - self.start) % self.world_size
        while True:
            block, offset = divmod(position, size)
            items = self._block(block)[offset :: self.world_size]
            yield from items
            position += len(items) * self.world_size

    def _block(self, block: int) -> list[tuple[int, int]]:
        """The P x K items of one block, the speaker changing fastest."""
        blocks_per_round = len(self.counts) // self.speakers_per_block
        number, place = divmod(block, blocks_per_round)
        order = np.random.default_rng((self.seed, number)).permutation(len(self.counts))
        speakers = order[place * self.speakers_per_block :][: self.speakers_per_block].tolist()
        columns = [self._visit(speaker, number) for speaker in speakers]
        return [item for row in zip(*columns, strict=True) for item in row]

    def _visit(self, speaker: int, number: int) -> list[tuple[int, int]]:
        """The K utterances of a speaker in one round."""
        count = int(self.counts[speaker])
        begin = number * self.utterances_per_speaker
        epochs, offsets = np.divmod(begin + np.arange(self.utterances_per_speaker), count)
        orders = {
            epoch: np.random.default_rng((self.seed, 1 + speaker, epoch)).permutation(count)
            for epoch in np.unique(epochs).tolist()
        }
        utterances = self.by_speaker[self.firsts[speaker] :][:count]
        return [
            (epoch, int(utterances[orders[epoch][offset]]))
            for epoch, offset in zip(epochs.tolist(), offsets.tolist(), strict=True)
        ]


class DrawSampler(Sampler[tuple[int, int]]):
    """Yields ``(position, index)``, an utterance drawn with replacement at every position.

    The block of ``BLOCK`` positions b is drawn by ``np.random.default_rng((seed, b))``. ``start``,
    ``rank``, ``world_size`` slice the stream as in `EndlessSampler`.
    """

    BLOCK = 4096

    def __init__(
        self,
        shares: np.ndarray,
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Take how often each utterance is drawn in comparison, (utterances,), some of it above 0.

        Raises:
            InputError: no utterance can be drawn.
        """
        if not shares.sum() > 0:
            raise InputError("no utterance can be used.")
        self.edges = np.cumsum(shares) / shares.sum()
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + (self.rank - self.start) % self.world_size
        while True:
            block, offset = divmod(position, self.BLOCK)
            drawn = np.random.default_rng((self.seed, block)).random(self.BLOCK)
            found = np.searchsorted(self.edges, drawn, "right").clip(max=len(self.edges) - 1)
            own = range(offset, self.BLOCK, self.world_size)
            for place in own:
                yield block * self.BLOCK + place, int(found[place])
            position += len(own) * self.world_size


def draw_shares(speaker_indices: np.ndarray, balance: float) -> np.ndarray:
    """How often utterances (utterances,) are drawn: one over their speaker's count to a power."""
    counts = np.bincount(speaker_indices)[speaker_indices]
    shares = counts.astype(np.float64) ** -balance
    return shares / shares.sum()
