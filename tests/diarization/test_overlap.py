"""What two detectors make of a recording, and who the second of two speakers is."""

from dataclasses import replace

import numpy as np
import pytest

from speakervlad.audio.local_speakers import (
    FRAME_SAMPLES,
    POWERSET,
    STEP_FRAMES,
    WINDOW_FRAMES,
    LocalSpeakers,
    frame_edges,
)
from speakervlad.diarization import talk as talk_module
from speakervlad.diarization.cells import CELL, plan_cells
from speakervlad.diarization.clustering import Limits
from speakervlad.diarization.overlap import second_speakers
from speakervlad.diarization.talk import Talk, listen, smoothed
from speakervlad.diarization.ticks import BOUND, SEGMENTATION_SHARE

RATE = 16000
PAIRS = {frozenset(np.flatnonzero(row).tolist()): number for number, row in enumerate(POWERSET)}


def talk_of(said, windows=3, silero=None):
    """``said``: (frames,) sets of people; local numbers of a window are in the order they speak."""
    count = WINDOW_FRAMES + (windows - 1) * STEP_FRAMES
    said = [*said, *[set()] * (count - len(said))][:count]
    starts, classes = STEP_FRAMES * np.arange(windows), []
    for start in starts:
        numbers: dict[str, int] = {}
        window = said[start : start + WINDOW_FRAMES]
        for who in window:
            for one in sorted(who):
                numbers.setdefault(one, len(numbers))
        classes.append([PAIRS[frozenset(numbers[one] for one in who)] for who in window])
    speech = np.array([len(who) > 0 for who in said], np.float32)
    overlap = np.array([len(who) > 1 for who in said], np.float32)
    samples = 495 + 135 + count * FRAME_SAMPLES
    local = LocalSpeakers(samples, starts, np.array(classes, np.uint8), speech, overlap)
    return Talk(local, speech if silero is None else silero)


@pytest.fixture
def three():
    """Ann, Ann and Bo, Bo, a pause, Cy."""
    return talk_of([{"a"}] * 200 + [{"a", "b"}] * 60 + [{"b"}] * 200 + [set()] * 40 + [{"c"}] * 200)


def test_cells_end_at_pauses_overlap_and_changes(three):
    plan = plan_cells(three)
    edges = frame_edges(len(three.local), three.local.num_samples)
    assert plan.seconds.max() <= CELL * 1.5
    for frame in (0, 200, 260, 500):
        assert edges[frame] in plan.bounds[:, 0]
    assert plan.seconds[plan.doubled].sum() == pytest.approx(60 * FRAME_SAMPLES / RATE)
    assert len(np.unique(plan.segments)) == 2
    assert plan.spans()[0].tolist() == [0, edges[460]]
    heard = np.flatnonzero(plan.changes > 0.5)
    assert edges[260] in plan.bounds[heard, 0]


def test_the_second_speaker_is_who_the_windows_mean(three):
    plan = plan_cells(three)
    middles = plan.bounds.mean(axis=1) / FRAME_SAMPLES
    labels = np.select([middles < 230, middles < 480], [1, 0], 2)
    second = second_speakers(three, plan, labels, Limits())
    assert (second[~plan.doubled] == -1).all()
    assert (second[plan.doubled] == np.where(labels[plan.doubled] == 1, 0, 1)).all()


def test_who_is_only_heard_at_once_is_the_nearest_other_speaker():
    talk = talk_of([{"a"}] * 300 + [{"a", "b"}] * 60 + [{"a"}] * 100 + [set()] * 60 + [{"c"}] * 100)
    plan = plan_cells(talk)
    labels = np.where(plan.bounds[:, 0] / FRAME_SAMPLES < 480, 0, 1)
    assert set(second_speakers(talk, plan, labels, Limits())[plan.doubled].tolist()) == {1}
    assert set(second_speakers(talk, plan, np.zeros(len(plan), int), Limits()).tolist()) == {-1}


@pytest.mark.parametrize(
    ("shared", "alone", "limits", "is_another"),
    [
        (130, 300, Limits(), True),
        (110, 300, Limits(), False),  # less than 2 s
        (130, 1600, Limits(), False),  # hardly any of the speech
        (130, 300, Limits(1, 1), False),
        (110, 300, Limits(seconds=1.0), True),
    ],
)
def test_who_is_never_alone_is_another_speaker_if_there_is_enough(
    shared, alone, limits, is_another
):
    talk = talk_of([{"a"}] * alone + [{"a", "b"}] * shared + [{"a"}] * 40, windows=12)
    plan = plan_cells(talk)
    second = second_speakers(talk, plan, np.zeros(len(plan), int), limits)
    assert set(second[plan.doubled].tolist()) == {1 if is_another else -1}
    assert set(second[~plan.doubled].tolist()) == {-1}


def test_speech_that_one_detector_hardly_hears_is_unclear(three):
    silero = np.where(np.arange(len(three.local)) < 100, 1e-3, three.silero).astype(np.float32)
    faint = three.local.speech.copy()
    faint[:100] = 0.95
    local = replace(three.local, speech=faint)
    plan = plan_cells(Talk(local, silero))
    assert plan.bounds[0, 0] == 0
    last = frame_edges(len(local), local.num_samples)[100]
    assert not plan.clear[plan.bounds[:, 1] <= last - 2000].any()
    assert plan.clear[plan.bounds[:, 0] >= last].all()
    # Where nothing is clear, all of it has to do.
    whole = replace(local, speech=np.where(local.speech > 0, 0.95, 0.0).astype(np.float32))
    assert plan_cells(Talk(whole, 0 * silero)).clear.all()


def test_what_one_detector_misses_the_other_hears():
    said = [{"a"}] * 300 + [set()] * 100
    deaf = talk_of(said)
    unsure = np.full(len(deaf.local), 0.45, np.float32)
    sure = deaf.local.speech.copy()
    assert Talk(deaf.local, unsure).speech()[:300].all()
    lost = LocalSpeakers(
        deaf.local.num_samples, deaf.local.starts, deaf.local.classes, unsure, 0 * unsure
    )
    assert Talk(lost, sure).speech()[:300].all()
    assert not Talk(lost, sure).speech()[300:].any()


def test_short_pauses_and_sounds_vanish():
    mask = np.zeros(100, bool)
    mask[10:40] = mask[44:70] = mask[90:93] = True
    found = smoothed(mask, pause=0.1, sound=0.1)
    assert found[10:70].all()
    assert found.sum() == 60
    assert np.array_equal(smoothed(mask, 0.0, 0.0), mask)


def test_both_detectors_hear_blocks_of_any_size(talk):
    samples = talk[0][: 12 * RATE]
    whole = listen([samples])
    parts = listen(np.array_split(samples, 37))
    assert np.array_equal(whole.silero, parts.silero)
    assert np.array_equal(whole.local.speech, parts.local.speech)
    assert len(whole.silero) == len(whole.local)
    assert whole.speech().mean() > 0.5
    assert not len(listen([]).speech())
    assert talk_module.SURE < 0.5


def test_what_is_doubtful_is_no_speech_live():
    """Log odds of -0.3 in both detectors: below even, above the bound of whole recordings."""
    talk = talk_of([{"a"}] * 300)
    doubt = np.full(len(talk.local), 1 / (1 + np.exp(0.3)), np.float32)
    local = LocalSpeakers(
        talk.local.num_samples, talk.local.starts, talk.local.classes, doubt, 0 * doubt
    )
    stricter = SEGMENTATION_SHARE, BOUND
    assert Talk(local, doubt).speech().all()
    assert not Talk(local, doubt, *stricter).speech().any()
    assert Talk(talk.local, talk.silero, *stricter).speech()[:300].all()
