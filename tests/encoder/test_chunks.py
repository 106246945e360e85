import numpy as np
import pytest

from speakervlad.encoder.frames import FrameGrid, plan_chunks

GRID = FrameGrid(hop=160, stride=16, context=92)


@pytest.mark.parametrize("num_samples", [512, 16000, 640_000, 1_000_001, 5_123_456])
def test_kept_frames_follow_each_other(num_samples):
    chunks = plan_chunks(num_samples, GRID, chunk_frames=50)
    position = 0
    for chunk in chunks:
        begin = chunk.start // (GRID.hop * GRID.stride)
        assert begin + chunk.first == position
        position = None if chunk.last is None else begin + chunk.last
    assert position is None
    assert chunks[-1].stop == num_samples


@pytest.mark.parametrize("num_samples", [640_000, 1_000_001, 5_123_456])
def test_every_chunk_aligns_with_the_whole(num_samples):
    total = 1 + num_samples // GRID.hop
    for chunk in plan_chunks(num_samples, GRID, chunk_frames=50):
        assert chunk.start % (GRID.hop * GRID.stride) == 0
        frames = 1 + (chunk.stop - chunk.start) // GRID.hop
        assert (frames - total) % GRID.stride == 0
        assert chunk.start < chunk.stop <= num_samples


def test_context_is_wider_than_the_receptive_field():
    for chunk in plan_chunks(16000 * 300, GRID, chunk_frames=50):
        if chunk.start:
            assert chunk.first * GRID.stride >= GRID.context + 2
        if chunk.last is not None:
            frames = 1 + (chunk.stop - chunk.start) // GRID.hop
            assert frames - chunk.last * GRID.stride >= GRID.context + 2


def test_chunks_are_of_bounded_length():
    for seconds in np.geomspace(30, 3 * 3600, 40):
        for chunk in plan_chunks(round(seconds * 16000), GRID, chunk_frames=50):
            assert chunk.stop - chunk.start < 16000 * 16


@pytest.mark.parametrize("num_samples", [16000, 640_000, 1_000_001])
def test_chunks_of_frames_that_lie_in_the_signal(num_samples):
    """Each has the frames of the whole signal, from its own first sample on."""
    grid = GRID._replace(span=400)
    total, position = 1 + (num_samples - 400) // 160, 0
    for chunk in plan_chunks(num_samples, grid, chunk_frames=50):
        begin = chunk.start // (grid.hop * grid.stride)
        assert begin + chunk.first == position
        frames = 1 + (chunk.stop - chunk.start - 400) // grid.hop
        assert (frames - total) % grid.stride == 0
        kept = -(-frames // grid.stride) if chunk.last is None else chunk.last
        position = begin + kept
        assert chunk.start < chunk.stop <= num_samples
    assert position == -(-total // grid.stride) == grid.num_frames(num_samples)


def test_middles_of_frames():
    np.testing.assert_allclose(GRID.times(3), [0, 0.16, 0.32])
    np.testing.assert_allclose(GRID._replace(span=400).times(3), [0.0125, 0.1725, 0.3325])
