"""The network that says which local speakers speak, and what is made of its windows."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from speakervlad.audio.local_speakers import (
    BATCH,
    FRAME_SAMPLES,
    POWERSET,
    STEP_FRAMES,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    LocalSpeakerFinder,
    LocalSpeakers,
    batch_scores,
    hear_window,
    local_speakers,
    scores_by,
    window_scores,
)
from speakervlad.corpus.voices import Voice, synthesise

RATE = 16000
REFERENCE = Path(__file__).parent / "segmentation_reference.npy"


def talk(seconds=10.0, starts=(1.0, 4.0)):
    """The samples of ``recipes/segmentation/parity.py``: two voices, together from 4 to 5 s."""
    rng = np.random.default_rng(0)
    said = [synthesise(Voice.draw(np.random.default_rng(key)), rng, 4.5)[: 4 * RATE]
            for key in (1, 2)]  # fmt: skip
    samples = 1e-3 * rng.standard_normal(round(seconds * RATE))
    for wave, begin in zip(said, starts, strict=True):
        start = round(begin * RATE)
        part = wave[: len(samples) - start]
        samples[start : start + len(part)] += 0.2 * part / np.abs(wave).max()
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def long_talk():
    parts = [talk(11.3), talk(8.7, (0.5, 3.0)), talk(6.4, (0.2, 1.8))]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def heard(long_talk):
    return local_speakers([long_talk])


def test_probabilities_are_those_of_the_original():
    theirs = np.load(REFERENCE)
    ours = np.exp(window_scores(talk()))[::19]
    assert ours.shape == theirs.shape == (31, 7)
    assert np.abs(ours - theirs).max() < 1e-4
    assert theirs.argmax(axis=1).max() >= 1


def test_classes_are_the_sets_of_at_most_two():
    sets = [set(np.flatnonzero(row).tolist()) for row in POWERSET]
    assert sets == [set(pair) for size in range(3) for pair in combinations(range(3), size)]


@pytest.mark.parametrize("size", [1, 999, 16000, 70_001])
def test_how_samples_arrive_changes_nothing(long_talk, heard, size):
    size = max(size, len(long_talk) // 300)
    blocks = [long_talk[at : at + size] for at in range(0, len(long_talk), size)]
    again = local_speakers(blocks)
    for name in ("num_samples", "starts", "classes", "speech", "overlap"):
        assert np.array_equal(getattr(again, name), getattr(heard, name))


@pytest.mark.parametrize("cores", [1, 3])
def test_the_number_of_cores_changes_nothing(long_talk, heard, monkeypatch, cores):
    monkeypatch.setattr("speakervlad.audio.local_speakers.available_cores", lambda: cores)
    again = local_speakers([long_talk])
    assert np.array_equal(again.speech, heard.speech)
    assert np.array_equal(again.classes, heard.classes)


def test_another_runtime_hears_each_window_in_its_place(long_talk, heard):
    batches = []

    def scores(windows):
        batches.append(len(windows))
        return batch_scores(windows)

    assert np.array_equal(local_speakers([long_talk], scores).classes, heard.classes)
    assert sum(batches) == len(heard.starts)
    assert max(batches) == BATCH


def test_windows_lie_on_one_grid_and_the_last_ends_with_the_recording(long_talk, heard):
    assert heard.starts[:-1].tolist() == [STEP_FRAMES * n for n in range(len(heard.starts) - 1)]
    assert heard.starts[-1] == len(heard) - WINDOW_FRAMES
    start = heard.starts[1] * FRAME_SAMPLES
    alone = window_scores(long_talk[start : start + WINDOW_SAMPLES])
    assert np.array_equal(alone.argmax(axis=1), heard.classes[1])
    edges = heard.edges()
    assert (edges[0], edges[-1]) == (0, len(long_talk))
    assert (np.diff(edges)[1:-1] == FRAME_SAMPLES).all()


def test_means_and_counts_are_those_of_all_windows_of_a_frame(long_talk, heard):
    at = 3 * STEP_FRAMES + 7
    windows = [start for start in heard.starts if start <= at < start + WINDOW_FRAMES]
    assert len(windows) > 2
    scores = [
        np.exp(window_scores(long_talk[s * FRAME_SAMPLES :][:WINDOW_SAMPLES])[at - s])
        for s in windows
    ]
    assert heard.speech[at] == pytest.approx(np.mean([1 - row[0] for row in scores]), abs=1e-3)
    assert heard.overlap[at] == pytest.approx(np.mean([row[4:].sum() for row in scores]), abs=1e-3)
    counts = [POWERSET[row.argmax()].sum() for row in scores]
    assert heard.counts()[at] == round(np.mean(counts))


def test_speech_is_heard_where_it_is(heard):
    edges = heard.edges() / RATE
    middle = (edges[1:] + edges[:-1]) / 2
    said = (middle > 1.5) & (middle < 7.5)
    assert heard.speech[said].mean() > 0.8
    assert (heard.counts()[said] > 0).mean() > 0.9
    assert heard.speech[middle > 26.0].mean() < 0.2


@pytest.mark.parametrize("num_samples", [1, 500, 991, 1261, 16000, WINDOW_SAMPLES + 1])
def test_any_length_has_frames_to_its_end(num_samples):
    found = local_speakers([talk(11.0)[:num_samples]])
    assert found.num_samples == num_samples == found.edges()[-1]
    assert len(found) == len(found.overlap) == len(found.counts()) >= 1
    assert np.isfinite(found.speech).all()
    assert (np.diff(found.edges()) > 0).all()


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_nobody_speaks_in_silence_and_noise(noise):
    samples = noise * np.random.default_rng(0).standard_normal(3 * RATE)
    assert local_speakers([samples.astype(np.float32)]).speech.max() < 0.5


def test_nothing_heard_has_no_frames():
    found = LocalSpeakerFinder().finish()
    assert isinstance(found, LocalSpeakers)
    assert (len(found), len(found.starts), found.num_samples) == (0, 0, 0)


def test_a_window_is_heard_by_another_network_too():
    window = talk()
    own = hear_window(window)
    other = hear_window(window, scores_by(lambda samples: batch_scores(samples[:, 0])))
    np.testing.assert_array_equal(own.classes, other.classes)
    np.testing.assert_array_equal(own.probabilities, other.probabilities)
