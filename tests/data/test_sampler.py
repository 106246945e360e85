from itertools import islice

import numpy as np
import pytest

from speakervlad.data.sampler import EndlessSampler


def take(count, num_items=7, **options):
    return list(islice(EndlessSampler(num_items, seed=3, **options), count))


def test_every_epoch_is_a_permutation_of_its_own():
    stream = take(21)
    epochs = [[index for epoch, index in stream if epoch == number] for number in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert [epoch for epoch, _ in stream] == sorted(epoch for epoch, _ in stream)


@pytest.mark.parametrize("start", [0, 1, 6, 7, 20, 35])
def test_resume_continues_the_unbroken_stream(start):
    assert take(30, start=start) == take(30 + start)[start:]


@pytest.mark.parametrize("world_size", [2, 3, 10])
@pytest.mark.parametrize("start", [0, 60])
def test_ranks_interleave_to_the_stream_of_one_rank(world_size, start):
    ranks = [take(30, start=start, rank=rank, world_size=world_size) for rank in range(world_size)]
    interleaved = [item for items in zip(*ranks, strict=True) for item in items]
    assert interleaved == take(30 * world_size, start=start)


def test_another_world_size_resumes_at_any_position():
    ranks = [take(5, start=17, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(item for items in ranks for item in items) == sorted(take(15, start=17))


def test_seeds_differ():
    assert take(7) != list(islice(EndlessSampler(7, seed=4), 7))


@pytest.mark.parametrize("options", [{"start": -1}, {"rank": 2, "world_size": 2}])
def test_nonsense_is_refused(options):
    with pytest.raises(ValueError, match="no stream"):
        EndlessSampler(7, seed=0, **options)
    with pytest.raises(ValueError, match="no stream"):
        EndlessSampler(0, seed=0)


def test_large_epoch_is_drawn_at_once():
    indices = np.array([index for _, index in take(1000, num_items=1_200_000)])
    assert len(np.unique(indices)) == 1000
    assert indices.max() > 1_000_000
