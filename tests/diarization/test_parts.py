"""The parts of diarization against their definitions."""

import tracemalloc
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from speakervlad.audio.waves import SpeechWave
from speakervlad.diarization.clustering import METHODS, Limits, cluster
from speakervlad.diarization.diarize import turns_of
from speakervlad.diarization.frames import PIECE, SpeechFrames, speech_frames
from speakervlad.diarization.resegmentation import best_path
from speakervlad.encoder.frames import FrameGrid
from speakervlad.errors import InputError
from speakervlad.models.sums import Finish


def frames_of(spans, step=1600, encoder=None):
    """Frames whose descriptors are of no interest."""
    spans = np.array(spans)
    count = -(-int(np.diff(spans).sum()) // step)
    return SpeechFrames(encoder, np.zeros((1, count)), None, step, spans)


def test_hours_of_frames_are_in_memory_once_and_a_mask_adds_little():
    rng = np.random.default_rng(0)
    ends = SimpleNamespace(grid=FrameGrid(160, 16, 8), pooling=Finish("residuals", "clusters"))
    chunk = (rng.normal(size=(128, 125)).astype(np.float32), np.ones((1, 125), np.float32))
    samples = 3 * 3600 * 16000
    encoder = SimpleNamespace(ends=ends, frames=lambda *_, **__: iter([chunk] * 541))
    tracemalloc.start()
    frames = speech_frames(encoder, SpeechWave(None, [(0, samples)]))
    size = frames.descriptors.nbytes
    assert len(frames) == samples / 2560
    assert np.array_equal(frames.descriptors[:, 250:375], chunk[0])
    mask = rng.random(len(frames)) < 0.9
    assert mask.sum() > 10 * PIECE
    sums = frames.sums(mask)
    assert tracemalloc.get_traced_memory()[1] < 1.4 * size
    tracemalloc.stop()
    assert sums.num_frames == mask.sum()
    assert np.allclose(sums.first, frames.descriptors @ mask.astype(float))


def test_best_path_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, changes = rng.normal(size=(6, 3)), rng.uniform(0, 2, 6)

        def worth(path, scores=scores, changes=changes):
            steps = np.array(path)
            kept = scores[np.arange(6), steps].sum()
            return kept - changes[1:][np.diff(steps) != 0].sum()

        best = max(product(range(3), repeat=6), key=worth)
        assert worth(best_path(scores, changes)) == pytest.approx(worth(best))


def test_windows_cover_every_frame_within_segments():
    frames = frames_of([(0, 32000), (40000, 41600), (50000, 66500)])
    windows = frames.windows(0.5, 0.3)
    covered = np.zeros(len(frames), bool)
    for start, stop in windows:
        covered[start:stop] = True
        assert any(first <= start and stop <= last for first, last in frames.segments())
    assert covered.all()
    assert (np.diff(windows) <= 5).all()


def test_neighbours_are_of_the_same_segment():
    frames = frames_of([(0, 16000), (20000, 36000)])
    around = frames.around(0.2)
    assert around[9].tolist() == [7, 10]
    assert around[10].tolist() == [10, 13]
    assert around[5].tolist() == [3, 8]


def test_turns_begin_at_pauses_where_there_is_one():
    frames = frames_of([(1600, 9000), (20000, 26000)])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0])
    turns = turns_of(frames, labels, {0: "a", 1: "b"})
    assert turns == (
        (0.1, 0.562, "a"),
        (1.25, 1.438, "b"),
        (1.438, 1.625, "a"),
    )


@pytest.fixture
def voices():
    """(60, 16) unit vectors of three speakers and a sound, and whose each is."""
    rng = np.random.default_rng(1)
    whose = np.repeat([0, 1, 2, 3], [25, 20, 14, 1])
    vectors = np.eye(16)[whose] + 0.12 * rng.standard_normal((60, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), whose


@pytest.mark.parametrize("method", METHODS)
def test_speakers_are_found_and_a_short_sound_is_none(voices, method):
    vectors, whose = voices
    labels = cluster(vectors, np.full(60, 0.75), Limits(), method)
    for speaker in range(3):
        assert len(np.unique(labels[whose == speaker])) == 1
    assert len(np.unique(labels[:59])) == 3
    assert labels.max() == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("least", "most"), [(2, 2), (1, 1), (5, 5), (4, 20), (1, 2)])
def test_limits_hold(voices, method, least, most):
    labels = cluster(voices[0], np.full(60, 0.75), Limits(least, most, 0.75), method)
    assert least <= labels.max() + 1 <= most


def test_one_window_is_one_speaker(voices):
    assert cluster(voices[0][:1], np.ones(1), Limits()).tolist() == [0]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ((0,), "min_speakers=0: must be at least 1"),
        ((3, 2), "max_speakers=2: must be at least 3"),
        ((1, 2, 0.0), r"min_seconds=0\.0: must be at least 0\.2"),
    ],
)
def test_impossible_limits_are_refused(limits, words):
    with pytest.raises(InputError, match=words):
        Limits(*limits)


def test_an_unknown_method_is_refused(voices):
    with pytest.raises(InputError, match="Did you mean 'spectral'"):
        cluster(voices[0], np.ones(60), Limits(), "spectra")


@pytest.mark.parametrize("method", METHODS)
def test_of_long_recordings_some_windows_are_clustered_and_all_get_a_speaker(method):
    rng = np.random.default_rng(2)
    whose = rng.integers(3, size=2500)
    vectors = np.eye(16)[whose] + 0.12 * rng.standard_normal((2500, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = cluster(vectors.astype(np.float32), np.full(2500, 0.75), Limits(), method)
    assert [len(np.unique(labels[whose == speaker])) for speaker in range(3)] == [1, 1, 1]
    assert len(np.unique(labels)) == 3
