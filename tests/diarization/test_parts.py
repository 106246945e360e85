"""The parts of diarization against their definitions."""

import math
import tracemalloc
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from speakervlad.audio.waves import SampleWave, SpeechWave
from speakervlad.diarization import rows
from speakervlad.diarization.cells import Plan, speech_cells
from speakervlad.diarization.clustering import METHODS, Limits, cluster, k_means
from speakervlad.diarization.diarize import turns_of
from speakervlad.diarization.resegmentation import best_path
from speakervlad.diarization.speakers import (
    MOST_RAISED,
    channel_likeness,
    halved,
    joined,
    two_means,
)
from speakervlad.encoder.frames import FrameGrid
from speakervlad.errors import InputError
from speakervlad.models.sums import Finish, PoolingSums

RATE = 16000


def plan_of(spans, *, doubled=(), changes=(), unclear=()):
    """Cells of 0.1 s in some stretches of speech, in seconds; two speak in some of them."""
    bounds, segments = [], []
    for segment, (start, stop) in enumerate(spans):
        edges = np.arange(round(start * RATE), round(stop * RATE) + 1, RATE // 10)
        bounds += zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        segments += [segment] * (len(edges) - 1)
    of_two, sure = np.zeros(len(bounds), bool), np.zeros(len(bounds))
    of_two[list(doubled)] = True
    sure[list(changes)] = 1.0
    clear = ~np.isin(np.arange(len(bounds)), unclear)
    return Plan(np.array(bounds), np.array(segments), of_two, sure, clear)


def encoder_of(kind="mean", dim=4, hop=160, stride=2, chunk=None):
    """An encoder whose frames are numbers drawn once, and whose vectors are pooled frames."""
    grid = FrameGrid(hop, stride, None if chunk is None else 8)
    ends = SimpleNamespace(grid=grid, pooling=Finish(kind, floor=1e-6), dim=None)
    ends.dim = dim * (2 if kind == "statistics" else 1)
    heard = []

    def frames(wave, *, mirror):
        count = grid.num_frames(wave.num_samples)
        found = np.random.default_rng(len(heard)).normal(size=(dim, count)).astype(np.float32)
        heard.append(found)
        for start in range(0, count, chunk or count):
            yield found[:, start : start + (chunk or count)], None

    return SimpleNamespace(ends=ends, frames=frames, heard=heard, finish=lambda sums: sums.finish())


def cells_of(plan, **options):
    encoder = encoder_of(**options)
    total = int((plan.bounds[:, 1] - plan.bounds[:, 0]).sum())
    wave = SampleWave(np.zeros(plan.bounds[-1, 1], np.float32))
    speech = SpeechWave(wave, plan.spans().tolist())
    assert speech.num_samples == total
    return speech_cells(encoder, speech, plan), encoder


@pytest.mark.parametrize("kind", ["mean", "statistics"])
@pytest.mark.parametrize("chunk", [None, 7])
def test_sums_of_cells_are_those_of_their_frames(kind, chunk):
    plan = plan_of([(0.5, 2.0), (3.0, 13.0)], doubled=[4], unclear=[5])
    cells, encoder = cells_of(plan, kind=kind, chunk=chunk)
    frames = np.concatenate(encoder.heard, axis=1)
    # 0.02 s from frame to frame, 0.1 s a cell; pieces of 10 s have a frame more than cells need.
    assert cells.sizes[:15].tolist() == [5] * 15
    # Cell 4 is of two speakers, 5 is unclear.
    first = np.delete(frames[:, :50], np.s_[20:30], axis=1).mean(axis=1)
    mine = cells.speaker_vectors(np.where(np.arange(len(plan)) < 10, 0, -1))[0]
    assert np.allclose(mine[:4], first, atol=2e-3)
    alone = np.r_[frames[:, 5:20].T, frames[:, 30:50].T].T
    expected = Finish(kind, floor=1e-6)
    naive = PoolingSums.empty(expected).add(alone).finish()
    assert np.allclose(cells.vectors(np.array([[1, 10]]))[0], naive, atol=2e-3)
    assert not cells.vectors(np.array([[4, 6]])).any()


def test_every_piece_has_its_own_frames_at_its_own_times():
    plan = plan_of([(0.0, 25.0)])
    cells, encoder = cells_of(plan)
    assert [found.shape[1] for found in encoder.heard] == [501, 751]
    assert cells.sizes.sum() in (1250, 1251, 1252)
    assert (cells.sizes >= 5).all()


def test_hours_of_cells_are_small_and_in_memory_once_or_on_disk(monkeypatch):
    rng = np.random.default_rng(0)
    plan = plan_of([(0.0, 600.0)])
    grid = FrameGrid(160, 2, 8)
    ends = SimpleNamespace(grid=grid, pooling=Finish("statistics"), dim=1024)
    chunk = rng.normal(size=(512, 500)).astype(np.float32)
    encoder = encoder_of()
    encoder.ends, encoder.frames = ends, lambda *_, **__: iter([(chunk, None)] * 60)
    speech = SimpleNamespace(num_samples=600 * RATE)
    tracemalloc.start()
    cells = speech_cells(encoder, speech, plan)
    size = 2 * math.prod(cells.moments.shape)
    assert cells.moments.shape == (6000, 1026)
    assert tracemalloc.get_traced_memory()[1] < size + 8_000_000
    tracemalloc.reset_peak()
    labels = np.arange(len(cells)) % 3
    before = cells.speaker_sums(labels)
    monkeypatch.setattr(rows, "IN_MEMORY", size // 10)
    on_disk = speech_cells(encoder, speech, plan)
    assert np.array_equal(on_disk.speaker_sums(labels), before)
    assert tracemalloc.get_traced_memory()[1] < size + 8_000_000
    spans = cells.windows(1.5, 0.75)[:50]
    assert np.array_equal(on_disk.vectors(spans), cells.vectors(spans))
    tracemalloc.stop()


def test_no_room_for_rows_is_told(monkeypatch):
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    many = rows.Rows(2, 3)
    many.write(1, np.arange(3.0))
    assert many.read(0, 2).tolist() == [[0, 0, 0], [0, 1, 2]]
    monkeypatch.setattr(many, "_file", SimpleNamespace(seek=full))
    with pytest.raises(InputError, match="Set TMPDIR to another"):
        many.write(0, np.zeros(3))


def full(_):
    raise OSError(28, "No space left on device")


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


def test_windows_cover_every_cell_within_stretches():
    plan = plan_of([(0.0, 4.0), (5.0, 5.2), (6.0, 8.5)], changes=[17])
    cells, _ = cells_of(plan)
    for across in (True, False):
        windows = cells.windows(1.0, 0.5, across=across)
        covered = np.zeros(len(plan), bool)
        for start, stop in windows:
            covered[start:stop] = True
            assert len(set(plan.segments[start:stop])) == 1
            assert across or not start < 17 < stop
        assert covered.all()
        assert (np.diff(windows) <= 10).all()


def test_neighbours_are_of_the_same_stretch():
    cells, _ = cells_of(plan_of([(0.0, 1.0), (1.1, 2.1)]))
    around = cells.around(0.21)
    assert around[9].tolist() == [7, 10]
    assert around[10].tolist() == [10, 13]
    assert around[5].tolist() == [3, 8]


def test_names_decide_which_speakers_are_one():
    plan = plan_of([(0.0, 3.0), (4.0, 7.0), (8.0, 11.0)])
    cells, _ = cells_of(plan)
    labels = np.repeat([0, 1, 2], 30)

    def of(alike, *names):
        return joined(cells, labels, Limits(), alike, lambda vectors: list(names[: len(vectors)]))

    assert len(np.unique(of(2.0, None, None, None))) == 3
    assert len(np.unique(of(-2.0, None, None, None))) == 1
    assert of(2.0, "Ada", "Bo", "Ada").tolist() == np.repeat([0, 1, 0], 30).tolist()
    assert len(np.unique(of(-2.0, "Ada", "Bo", "Cy"))) == 3
    assert len(np.unique(joined(cells, labels, Limits(2), -2.0))) == 2
    assert len(np.unique(joined(cells, labels, Limits(1, 2), 2.0))) == 2
    most = joined(cells, labels, Limits(1, 2), 2.0, lambda vectors: ["Ada", "Bo", "Cy"])
    assert len(np.unique(most)) == 3


def voices_of(plan, whose, noise=0.3):
    """Cells whose frames are of some voices, one a cell, and noise."""
    cells, _ = cells_of(plan, dim=16)
    rng = np.random.default_rng(3)
    for cell, who in enumerate(whose.tolist()):
        row = np.concatenate([[5.0, 5.0], 5 * np.eye(16)[who] + noise * rng.standard_normal(16)])
        cells.scales[cell] = 1.0
        cells.moments.write(cell, row)
    return cells


def test_a_speaker_with_two_voices_is_two_until_joined():
    plan = plan_of([(0.0, 8.0), (9.0, 17.0), (18.0, 20.0)])
    cells = voices_of(plan, np.repeat([0, 1], [80, 100]), noise=0.05)
    windows = cells.windows(1.5, 0.75)
    vectors = cells.vectors(windows)
    found = halved(cells, windows, vectors, np.zeros(len(plan), int))
    assert len(np.unique(found)) == 2
    assert len(np.unique(found[:80])) == len(np.unique(found[80:])) == 1
    # One voice stays one, and so do two of which one says too little.
    one = voices_of(plan, np.zeros(180, int))
    assert not halved(one, windows, one.vectors(windows), np.zeros(len(plan), int)).any()
    little = voices_of(plan, np.repeat([0, 1], [160, 20]), noise=0.05)
    assert not halved(little, windows, little.vectors(windows), np.zeros(len(plan), int)).any()
    # Nobody's cells stay so, and another speaker keeps the number.
    other = np.repeat([0, -1, 1], [150, 10, 20])
    again = halved(cells, windows, vectors, other)
    assert (again[150:160] == -1).all()
    # The last cells before a gap are in no window that is all of theirs.
    assert sorted([*set(again[:80]), *set(again[80:140])]) == [0, 2]
    assert set(again[160:]) == {1}


def test_what_a_channel_adds_to_every_cosine_raises_the_bounds():
    rng = np.random.default_rng(4)
    voices = np.repeat(np.eye(64)[:4], 30, axis=0) + 0.02 * rng.standard_normal((120, 64))

    def through(share):
        heard = voices + share * np.eye(64)[50]
        return channel_likeness(heard / np.linalg.norm(heard, axis=1, keepdims=True))

    assert through(0.0) == 0.0
    assert 0.01 < through(0.3) < through(0.35) < MOST_RAISED
    assert through(1.0) == MOST_RAISED
    assert channel_likeness(voices[:1]) == 0.0
    # Halves that a clear recording has for one voice are two in such a channel.
    plan = plan_of([(0.0, 8.0), (9.0, 17.0)])
    cells = voices_of(plan, np.repeat([0, 1], 80), noise=0.05)
    windows = cells.windows(1.5, 0.75)
    whole = np.zeros(len(plan), int)
    assert halved(cells, windows, cells.vectors(windows), whole, 0.5).max() == 1
    assert halved(cells, windows, cells.vectors(windows), whole, -0.5).max() == 0


def test_two_means_are_of_two_groups():
    vectors = np.repeat(np.eye(3)[:2], [7, 4], axis=0) + 0.01 * np.arange(33).reshape(11, 3) % 0.02
    groups = two_means(vectors)
    assert len(np.unique(groups[:7])) == len(np.unique(groups[7:])) == 1
    assert groups[0] != groups[-1]
    assert len(np.unique(two_means(np.ones((5, 3))))) == 1


def test_k_means_finds_the_tightest_groups_and_needs_no_luck():
    """Of 12 groups in a row, one beginning of k-means often leaves two together."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 8)
    rows = groups[:, None] + 0.05 * rng.standard_normal((96, 1))
    labels = k_means(rows, 12)
    assert len(set(zip(labels.tolist(), groups.tolist(), strict=True))) == 12
    np.testing.assert_array_equal(k_means(rows, 12), labels)


def test_k_means_of_rows_that_repeat():
    labels = k_means(np.zeros((5, 2)), 3)
    assert labels.shape == (5,)
    assert labels.min() >= 0


def test_turns_are_runs_of_cells_that_touch():
    plan = plan_of([(0.1, 0.5), (1.2, 1.5)])
    labels = np.array([0, 0, 1, 1, 1, 0, -1])
    assert turns_of(plan, labels, {0: "a", 1: "b"}) == (
        (0.1, 0.3, "a"),
        (0.3, 0.5, "b"),
        (1.2, 1.3, "b"),
        (1.3, 1.4, "a"),
    )
    assert turns_of(plan, np.full(7, -1), {}) == ()


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
