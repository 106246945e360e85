"""From cells of speech to the speaker of each: clusters of windows, and the best sequence."""

from collections.abc import Callable

import numpy as np

from speakervlad.diarization.cells import CELL, SpeechCells
from speakervlad.diarization.clustering import Limits, cluster
from speakervlad.diarization.resegmentation import best_path

# Seconds of a window, and from window to window.
WINDOW, HOP = 1.5, 0.75
# Windows with less speech of one speaker are too uncertain to be clustered.
SHORTEST = 0.9
# Whether a window may cross a change of speaker that was heard.
ACROSS = True
# Rounds of assigning cells to speakers and computing the speakers' vectors again.
PASSES = 2
# Extra clusters beyond the number that is found (at least half as many again): clusters of one
# speaker are joined afterwards.
SPARE = 3
# Seconds of speech at which the expected cosine of two vectors of a speaker is half of its limit.
HALF_KNOWN = 1.5
# Seconds to either side that a cell is judged with.
REACH = 0.32
# What a cosine is worth in natural logarithms, a cell of full length, and what a change of speaker
# costs: within speech, where a change was heard, and at a pause.
SHARPNESS = 8.0
CHANGE, CHANGE_HEARD, CHANGE_AT_PAUSE = 3.0, 1.5, 1.5


# Of vectors (speakers, dim), the name of each, or None for a stranger.
Known = Callable[[np.ndarray], list[str | None]]


def strangers(vectors: np.ndarray) -> list[str | None]:
    """Nobody is known."""
    return [None] * len(vectors)


def speakers_of_cells(
    cells: SpeechCells,
    limits: Limits,
    alike: float,
    method: str = "spectral",
    known: Known = strangers,
) -> np.ndarray:
    """Find who speaks in each cell; where two do, the one who goes on or comes.

    Args:
        cells: of the recording.
        limits: of the number of speakers.
        alike: the cosine from which on two speakers are one.
        method: row of ``METHODS``.
        known: who is known; speakers of one name are one, of two names never.

    Returns:
        int (cells,), numbers from 0.
    """
    windows = cells.windows(WINDOW, HOP, across=ACROSS)
    seconds = cells.seconds_alone(windows)
    enough = seconds >= SHORTEST
    if not enough.any():
        enough = seconds >= seconds.max()
    windows, seconds = windows[enough], seconds[enough]
    share = min(1.0, HOP / WINDOW)
    found = cluster(cells.vectors(windows), seconds * share, limits, method, SPARE)
    labels = _majority(windows, found, len(cells))
    labels = joined(cells, labels, limits, alike, known)
    for _ in range(PASSES):
        labels = resegment(cells, cells.speaker_vectors(labels))
        labels = without_small(cells, labels, limits)
        labels = joined(cells, labels, limits, alike, known)
    return numbered(resegment(cells, cells.speaker_vectors(labels)))


def resegment(cells: SpeechCells, speakers: np.ndarray) -> np.ndarray:
    """The best sequence of speakers (Viterbi 1967).

    The cells around each, within its stretch of speech, are pooled as a recording is; the cosine
    with a speaker's vector says how well the two agree.

    Args:
        cells: of the recording.
        speakers: (speakers, dim) unit vectors.

    Returns:
        int (cells,): rows of ``speakers``.
    """
    around = cells.around(REACH)
    agreement = cells.vectors(around) @ speakers.T
    seconds = cells.seconds_alone(around)
    sure = SHARPNESS * np.sqrt(seconds / max(seconds.max(), 1e-9)) * cells.plan.seconds / CELL
    heard = cells.plan.changes
    changes = CHANGE * (1 - heard) + CHANGE_HEARD * heard
    begins = np.diff(cells.plan.segments, prepend=-1) != 0
    changes[begins] = np.minimum(changes[begins], CHANGE_AT_PAUSE)
    return best_path(sure[:, None] * agreement, changes)


def joined(
    cells: SpeechCells,
    labels: np.ndarray,
    limits: Limits,
    alike: float,
    known: Known = strangers,
) -> np.ndarray:
    """Labels where speakers whose vectors are too much alike have become one, numbered from 0.

    The less somebody says, the lower are the cosines of a vector, with the same speaker too: they
    are divided by what is expected of so much speech. Whoever has a name is joined with those of
    the same name alone.
    """
    labels = numbered(labels)
    sums, seconds = cells.speaker_sums(labels), spoken(cells, labels)
    while len(sums) > limits.least:
        vectors = cells.finish(sums)
        expected = vectors / np.sqrt(seconds / (seconds + HALF_KNOWN))[:, None]
        cosines = _by_name(expected @ expected.T, known(vectors))
        one, other = np.unravel_index(cosines.argmax(), cosines.shape)
        if cosines[one, other] < alike:
            break
        sums[one] += sums[other]
        seconds[one] += seconds[other]
        sums, seconds = np.delete(sums, other, axis=0), np.delete(seconds, other)
        labels = numbered(np.where(labels == other, one, labels))
    return labels


def _by_name(cosines: np.ndarray, names: list[str | None]) -> np.ndarray:
    """Infinite for one name, minus infinity for two names and for a speaker with itself."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names)) if name is not None}
    named = np.array([numbers.get(name, -1) if name is not None else -1 for name in names])
    both = (named[:, None] >= 0) & (named >= 0)
    same = named[:, None] == named
    decided = np.where(both, np.where(same, np.inf, -np.inf), cosines)
    np.fill_diagonal(decided, -np.inf)
    return decided


def spoken(cells: SpeechCells, labels: np.ndarray) -> np.ndarray:
    """(speakers,) seconds of the cells of each label."""
    known = labels >= 0
    return np.bincount(labels[known], cells.plan.seconds[known])


def numbered(labels: np.ndarray) -> np.ndarray:
    """The same speakers by numbers from 0 without gaps; -1 stays."""
    numbers = np.cumsum(np.isin(np.arange(labels.max() + 1), labels)) - 1
    return np.where(labels >= 0, numbers[labels], -1)


def without_small(cells: SpeechCells, labels: np.ndarray, limits: Limits) -> np.ndarray:
    """-1 for the cells of speakers who say too little, but for as many as there must be."""
    seconds = spoken(cells, labels)
    ranked = np.argsort(-seconds, kind="stable")
    kept = [label for label in ranked if seconds[label] >= limits.seconds]
    kept = ranked[: max(len(kept), limits.least)]
    return np.where(np.isin(labels, kept), labels, -1)


def _majority(windows: np.ndarray, labels: np.ndarray, num_cells: int) -> np.ndarray:
    """(cells,) the label of most windows that a cell is in; -1 where they have none."""
    votes = np.zeros((num_cells, labels.max() + 1), int)
    for (start, stop), label in zip(windows.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            votes[start:stop, label] += 1
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
