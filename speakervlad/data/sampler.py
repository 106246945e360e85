"""The order of utterances: one endless stream, shared by ranks and continued by restarts."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EndlessSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)`` of shuffled epochs without end.

    Position p of the global stream lies in epoch p // N, which is permuted by
    ``np.random.default_rng((seed, epoch))``. Rank r takes the positions p >= start with
    p mod world_size = r, so ranks interleave to the stream of one rank, and a run resumed at
    position p continues an unbroken one.
    """

    def __init__(
        self, num_items: int, *, seed: int, start: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Take the number of utterances N and the global position to begin at."""
        if num_items < 1 or start < 0 or not 0 <= rank < world_size:
            raise ValueError(f"{num_items=}, {start=}, {rank=}, {world_size=} describe no stream")
        self.num_items = num_items
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + (self.rank - self.start) % self.world_size
        while True:
            epoch, offset = divmod(position, self.num_items)
            order = np.random.default_rng((self.seed, epoch)).permutation(self.num_items)
            indices = order[offset :: self.world_size].tolist()
            yield from ((epoch, index) for index in indices)
            position += len(indices) * self.world_size
