"""Who else speaks where two do: what the segmentation's local speakers are called elsewhere."""

from itertools import pairwise

import numpy as np

from speakervlad.audio.local_speakers import FIRST_PAIR, POWERSET, WINDOW_FRAMES
from speakervlad.diarization.cells import Plan
from speakervlad.diarization.clustering import Limits
from speakervlad.diarization.talk import Talk, runs

# Where one speaker was found, two speak at once in this share of the speech at least if there is
# another who is never alone; reverberation is taken for two in up to 5 %.
ANOTHER_SHARE = 0.08


def second_speakers(talk: Talk, plan: Plan, labels: np.ndarray, limits: Limits) -> np.ndarray:
    """(cells,) int: the second speaker of cells in which two speak, -1 of others.

    A local speaker of a window is whoever speaks where that one is alone; in overlap each window
    votes for its two. Where no vote is left, it is the speaker who is nearest in time. If one
    speaker was found, but two speak at once for long enough, it is another one.

    Args:
        talk: what was heard.
        plan: the cells of its speech.
        labels: int (cells,), the speaker of each, from 0 on.
        limits: of the number of speakers.
    """
    found = np.full(len(plan), -1)
    if not plan.doubled.any():
        return found
    if labels.max() == 0:
        return np.where(plan.doubled & _is_another(plan, limits), 1, -1)
    known = _known(talk, plan, labels)
    for first, stop in _stretches(plan):
        begin, end = np.searchsorted(talk.local.edges(), plan.bounds[[first, stop - 1], [0, 1]])
        votes = _votes(talk, known, int(begin), int(end))
        for label in np.unique(labels[first:stop]).tolist():
            others = votes.copy()
            others[label] = 0
            second = int(others.argmax()) if others.any() else _nearest(labels, first, stop, label)
            found[first:stop][labels[first:stop] == label] = second
    return found


def _is_another(plan: Plan, limits: Limits) -> bool:
    """Whether two speak at once for so long that there must be another than the one found."""
    seconds, shared = plan.seconds.sum(), plan.seconds[plan.doubled].sum()
    return limits.most > 1 and shared >= max(limits.seconds, ANOTHER_SHARE * seconds)


def _known(talk: Talk, plan: Plan, labels: np.ndarray) -> np.ndarray:
    """(windows, 3, speakers): how each window's local speaker divides among the speakers."""
    edges = talk.local.edges()
    middles = (edges[1:] + edges[:-1]) / 2
    cell = np.searchsorted(plan.bounds[:, 0], middles, "right") - 1
    said = (cell >= 0) & (middles < plan.bounds[cell, 1]) & ~plan.doubled[cell]
    speaker = np.where(said, labels[cell], -1)
    known = np.zeros((len(talk.local.starts), POWERSET.shape[1], labels.max() + 1))
    for window, (start, classes) in enumerate(
        zip(talk.local.starts.tolist(), talk.local.classes, strict=True)
    ):
        of_it = speaker[start : start + WINDOW_FRAMES]
        heard = classes[: len(of_it)]
        counted = (of_it >= 0) & (heard > 0) & (heard < FIRST_PAIR)
        np.add.at(known[window], (heard[counted] - 1, of_it[counted]), 1)
    return known / np.maximum(known.sum(axis=2, keepdims=True), 1)


def _stretches(plan: Plan) -> list[tuple[int, int]]:
    """Cells (first, stop) of each stretch in which two speak, cut at pauses."""
    found = []
    for first, stop in runs(plan.doubled).tolist():
        cuts = first + 1 + np.flatnonzero(np.diff(plan.segments[first:stop]))
        edges = [first, *cuts.tolist(), stop]
        found += pairwise(edges)
    return found


def _votes(talk: Talk, known: np.ndarray, begin: int, end: int) -> np.ndarray:
    """(speakers,) of all windows for the speakers of frames ``begin`` to ``end``."""
    starts = talk.local.starts
    votes = np.zeros(known.shape[2])
    for window in np.flatnonzero((starts < end) & (starts + WINDOW_FRAMES > begin)).tolist():
        start = starts[window]
        classes = talk.local.classes[window, max(0, begin - start) : end - start]
        votes += POWERSET[classes[classes >= FIRST_PAIR]].sum(axis=0) @ known[window]
    return votes


def _nearest(labels: np.ndarray, first: int, stop: int, label: int) -> int:
    """The speaker of the nearest cell who is another, or -1."""
    others = np.flatnonzero(labels != label)
    others = others[(others < first) | (others >= stop)]
    if not len(others):
        return -1
    away = np.where(others < first, first - others, others - stop + 1)
    return int(labels[others[away.argmin()]])
