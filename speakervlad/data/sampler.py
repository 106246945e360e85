"""The order of utterances: one endless stream, shared by ranks and continued by restarts."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from speakervlad.errors import InputError


class EndlessSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)`` of shuffled epochs without end.

    Position p of the global stream lies in epoch p // N, which is permuted by
    ``np.random.default_rng((seed, epoch))``. Rank r takes the positions p >= start with
    p mod world_size = r, so ranks interleave to the stream of one rank, and a run resumed at
    position p continues an unbroken one.

    With ``visits`` an epoch takes each utterance so many times, N being their sum; ``epoch`` then
    counts visits, so that no crop repeats.
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
    ) -> None:
        """Take the number of utterances, the global position to begin at, visits (utterances,)."""
        if num_items < 1 or start < 0 or not 0 <= rank < world_size:
            raise ValueError(f"{num_items=}, {start=}, {rank=}, {world_size=} describe no stream")
        if visits is None:
            visits = np.ones(num_items, np.int64)
        self.utterances = np.repeat(np.arange(num_items), visits)
        self.visit = np.arange(len(self.utterances)) - (np.cumsum(visits) - visits)[self.utterances]
        self.visits_per_epoch = int(visits.max())
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + (self.rank - self.start) % self.world_size
        size = len(self.utterances)
        while True:
            epoch, offset = divmod(position, size)
            order = np.random.default_rng((self.seed, epoch)).permutation(size)
            order = order[offset :: self.world_size]
            epochs = epoch * self.visits_per_epoch + self.visit[order]
            yield from zip(epochs.tolist(), self.utterances[order].tolist(), strict=True)
            position += len(order) * self.world_size


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
