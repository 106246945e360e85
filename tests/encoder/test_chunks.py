from itertools import pairwise

import numpy as np
import pytest

from speakervlad.audio.waves import SampleWave
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.frames import FrameGrid, plan_chunks, plan_pieces
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.schema import Part

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


@pytest.mark.parametrize(
    ("seconds", "cuts"),
    [
        (0.5, [0, 0.5]),
        (9.9, [0, 9.9]),
        (10, [0, 10]),
        (11.9, [0, 11.9]),
        (12, [0, 10, 12]),
        (20, [0, 10, 20]),
        (21, [0, 10, 21]),
        (35.5, [0, 10, 20, 30, 35.5]),
    ],
)
def test_pieces_are_cut_at_multiples_and_a_short_rest_joins_the_last(seconds, cuts):
    pieces = plan_pieces(round(seconds * 16000), 10)
    assert [piece.start / 16000 for piece in pieces] == cuts[:-1]
    assert [piece.stop / 16000 for piece in pieces] == cuts[1:]
    assert all(piece.first == 0 and piece.last is None for piece in pieces)


@pytest.fixture(scope="module")
def whole_trunk(tiny_encoder):
    """An encoder whose frames see all of their piece, of 2 s, and its mean over time."""
    module, _ = tiny_encoder(
        trunk=Part("campplus", layers=(1, 2), width=0.25),
        front_end=Part("kaldi_fbank", num_mels=40),
        piece_seconds=2.0,
    )
    return Encoder(TorchBackend(module, "cpu")).frames


def test_a_recording_is_the_sum_of_its_pieces_each_for_itself(whole_trunk, make_waveform):
    waveform = make_waveform(7.3, 3)
    whole = whole_trunk.sums(SampleWave(waveform))
    cuts = (0, 32000, 64000, len(waveform))
    parts = [whole_trunk.sums(SampleWave(waveform[a:b])) for a, b in pairwise(cuts)]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    np.testing.assert_allclose(whole.finish(), merged.finish(), atol=1e-5)
    assert whole.num_frames == merged.num_frames
    # The mean over time of every piece is its own: another level elsewhere changes nothing.
    louder = waveform.copy()
    louder[64000:] *= 0.2
    first = whole_trunk.frames(SampleWave(waveform), mirror=False)
    again = whole_trunk.frames(SampleWave(louder), mirror=False)
    np.testing.assert_array_equal(next(first)[0], next(again)[0])


def test_an_embedding_depends_on_the_recording_alone(whole_trunk, make_waveform):
    waveforms = [make_waveform(seconds, 5) for seconds in (1.0, 4.5, 9.0)]
    together = [whole_trunk.embed(SampleWave(waveform)) for waveform in waveforms]
    again = [whole_trunk.embed(SampleWave(waveform)) for waveform in reversed(waveforms)]
    for one, other in zip(together, reversed(again), strict=True):
        np.testing.assert_array_equal(one, other)
