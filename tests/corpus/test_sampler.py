from itertools import islice

import numpy as np
import pytest

from speakervlad.corpus.dataset import BalancedSampler, DrawSampler, EndlessSampler, draw_shares
from speakervlad.errors import InputError


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


def test_visits_repeat_utterances_within_an_epoch_but_no_crop():
    visits = np.array([1, 3, 2])
    stream = take(12, num_items=3, visits=visits)
    for epoch in (stream[:6], stream[6:]):
        assert sorted(index for _, index in epoch) == [0, 1, 1, 1, 2, 2]
    assert len(set(stream)) == 12
    assert take(6, num_items=3, visits=visits, start=6) == stream[6:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_crops_of_a_visit_come_to_one_rank_one_after_another(world_size):
    options = {"num_items": 6, "visits": np.array([1, 3, 2, 1, 1, 4]), "crops": 2}
    stream = take(48, **options)
    assert len(set(stream)) == 48
    for epoch in (stream[:24], stream[24:]):
        wanted = np.repeat(range(6), 2 * options["visits"])
        assert sorted(index for _, index in epoch) == wanted.tolist()
    for rank in range(world_size):
        items = take(24 // world_size, **options, rank=rank, world_size=world_size)
        assert [index for _, index in items[::2]] == [index for _, index in items[1::2]]
    assert take(24, **options, start=24) == stream[24:]


SPEAKERS = np.array([3, 0, 0, 1, 1, 1, 2, 0, 4, 1, 3])


def take_balanced(count, **options):
    sampler = BalancedSampler(
        SPEAKERS, speakers_per_block=2, utterances_per_speaker=3, seed=3, **options
    )
    return list(islice(sampler, count))


def test_balanced_blocks_hold_p_speakers_and_k_utterances():
    stream = take_balanced(6 * 50)
    for begin in range(0, len(stream), 6):
        speakers = [SPEAKERS[index] for _, index in stream[begin : begin + 6]]
        assert speakers[:2] == speakers[2:4] == speakers[4:]
        assert speakers[0] != speakers[1]
    assert len(set(stream)) == len(stream)


def test_balanced_stream_uses_every_speaker_and_utterance_alike():
    indices = np.array([index for _, index in take_balanced(6 * 2 * 500)])
    per_speaker = np.bincount(SPEAKERS[indices])
    assert per_speaker.max() < 1.1 * per_speaker.min()
    per_utterance = np.bincount(indices) * np.bincount(SPEAKERS)[SPEAKERS] / per_speaker[SPEAKERS]
    np.testing.assert_allclose(per_utterance, 1, atol=0.1)


@pytest.mark.parametrize("start", [1, 5, 6, 12, 100])
def test_balanced_resume_continues_the_unbroken_stream(start):
    assert take_balanced(30, start=start) == take_balanced(30 + start)[start:]


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("start", [0, 42])
def test_balanced_ranks_interleave_to_the_stream_of_one_rank(world_size, start):
    ranks = [
        take_balanced(20, start=start, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    interleaved = [item for items in zip(*ranks, strict=True) for item in items]
    assert interleaved == take_balanced(20 * world_size, start=start)


def test_balanced_rank_keeps_the_utterances_of_a_speaker_together():
    for rank in range(2):
        items = take_balanced(30, rank=rank, world_size=2)
        for begin in range(0, 30, 3):
            assert len({SPEAKERS[index] for _, index in items[begin : begin + 3]}) == 1


def test_more_speakers_asked_than_there_are():
    with pytest.raises(InputError, match="6 speakers per batch asked, the manifest has 5"):
        BalancedSampler(SPEAKERS, speakers_per_block=6, utterances_per_speaker=2, seed=0)


def test_balanced_blocks_of_a_large_corpus_are_cheap():
    speakers = np.repeat(np.arange(6000), 200)
    sampler = BalancedSampler(speakers, speakers_per_block=64, utterances_per_speaker=4, seed=0)
    items = list(islice(sampler, 256 * 4))
    assert len({index for _, index in items}) == len(items)


def test_draws_follow_the_shares_and_not_ranks_or_restarts():
    shares = draw_shares(np.array([0, 0, 0, 0, 1]), 0.5)
    np.testing.assert_allclose(shares, np.array([0.5, 0.5, 0.5, 0.5, 1.0]) / 3)
    np.testing.assert_allclose(draw_shares(np.array([0, 0, 0, 0, 1]), 1.0)[-1], 0.5)
    np.testing.assert_allclose(draw_shares(np.array([0, 0, 1]), 0.0), 1 / 3)
    whole = list(islice(DrawSampler(shares, seed=3), 20_000))
    assert [position for position, _ in whole] == list(range(20_000))
    counts = np.bincount([index for _, index in whole], minlength=5) / 20_000
    np.testing.assert_allclose(counts, shares, atol=0.015)
    assert list(islice(DrawSampler(shares, seed=3, start=5000), 9000)) == whole[5000:14_000]
    for start in (0, 4095, 4097):
        ranks = [
            list(islice(DrawSampler(shares, seed=3, start=start, rank=r, world_size=3), 3000))
            for r in range(3)
        ]
        together = sorted(item for rank in ranks for item in rank)
        assert together == whole[start : start + 9000]
    assert list(islice(DrawSampler(shares, seed=4), 100)) != whole[:100]
    never = np.array([0.0, 1.0, 0.0])
    assert {index for _, index in islice(DrawSampler(never, seed=0), 500)} == {1}
    with pytest.raises(InputError, match="no utterance can be used"):
        DrawSampler(np.zeros(3), seed=0)
