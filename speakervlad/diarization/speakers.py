"""From cells of speech to the speaker of each: clusters of windows, and the best sequence."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speakervlad.diarization.cells import BLOCK, CELL, SpeechCells
from speakervlad.diarization.clustering import MOST, TINY, Limits, cluster
from speakervlad.diarization.resegmentation import best_path
from speakervlad.models.sums import unit

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
# A speaker is taken for two, until they are joined again, if the expected cosine of what each half
# of its windows says is lower: so many windows at least, so many seconds in each half.
TWO_VOICES, FEWEST_WINDOWS, LEAST_HALF = 0.5, 6, 3.0
# Both bounds rise with the cosine below which so many percent of a recording's pairs of windows
# are, from what it is in a clear recording on: pairs of two people, whom a telephone makes more
# alike. Where one speaks it says nothing of the channel, so there is a limit.
LEAST_ALIKE, CLEAR_COSINE, MOST_RAISED = 10, 0.03, 0.1
# Windows are of a speaker if this share of their cells is.
OWN_SHARE = 0.8
# Rounds of the assignment to the nearer of two means.
ROUNDS = 10
# Seconds of speech at which the expected cosine of two vectors of a speaker is half of its limit.
HALF_KNOWN = 1.5
# Seconds to either side that a cell is judged with.
REACH = 0.26
# What a cosine is worth in natural logarithms, a cell of full length, and what a change of speaker
# costs: within speech, where a change was heard, and at a pause.
SHARPNESS = 16.0
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
        alike: the cosine from which on two speakers are one in a clear recording.
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
    vectors = cells.vectors(windows)
    raised = channel_likeness(vectors)
    alike = alike + raised
    found = cluster(vectors, seconds * share, limits, method, SPARE)
    labels = _majority(windows, found, len(cells))
    labels = joined(cells, labels, limits, alike, known)
    sequence = Sequence.of(cells)
    for number in range(PASSES):
        labels = sequence.best(cells.speaker_vectors(labels))
        labels = without_small(cells, labels, limits)
        if not number:
            labels = halved(cells, windows, vectors, numbered(labels), TWO_VOICES + raised)
            labels = sequence.best(cells.speaker_vectors(labels))
            labels = without_small(cells, labels, limits)
        labels = joined(cells, labels, limits, alike, known)
    return numbered(sequence.best(cells.speaker_vectors(labels)))


@dataclass(frozen=True)
class Sequence:
    """What a sequence of speakers is judged by.

    Attributes:
        vectors: float16 (cells, dim), of the cells around each, within its stretch of speech,
            pooled as a recording is; 26 MB for three hours.
        worth: (cells,), what a cosine with a speaker's vector counts.
        changes: (cells,), what it costs if another speaker goes on.
    """

    vectors: np.ndarray
    worth: np.ndarray
    changes: np.ndarray

    @classmethod
    def of(cls, cells: SpeechCells) -> "Sequence":
        """That of a recording."""
        around = cells.around(REACH)
        vectors = np.zeros((len(cells), cells.encoder.ends.dim), np.float16)
        for first in range(0, len(cells), BLOCK):
            vectors[first : first + BLOCK] = cells.vectors(around[first : first + BLOCK])
        seconds = cells.seconds_alone(around)
        sure = np.sqrt(seconds / max(seconds.max(), 1e-9)) * cells.plan.seconds / CELL
        heard = cells.plan.changes
        changes = CHANGE * (1 - heard) + CHANGE_HEARD * heard
        begins = np.diff(cells.plan.segments, prepend=-1) != 0
        changes[begins] = np.minimum(changes[begins], CHANGE_AT_PAUSE)
        return cls(vectors, SHARPNESS * sure, changes)

    def best(self, speakers: np.ndarray) -> np.ndarray:
        """The best sequence (Viterbi 1967), int (cells,), of unit vectors (speakers, dim)."""
        return best_path(self.worth[:, None] * (self.vectors @ speakers.T), self.changes)


def joined(
    cells: SpeechCells,
    labels: np.ndarray,
    limits: Limits,
    alike: float,
    known: Known = strangers,
) -> np.ndarray:
    """Labels where speakers whose vectors are too much alike have become one, numbered from 0.

    If there are more than there may be, those most alike are one in any case.

    Cosines are divided by what is expected of so much speech. Whoever has a name is joined with
    those of the same name alone.
    """
    labels = numbered(labels)
    sums, seconds = cells.speaker_sums(labels), spoken(cells, labels)
    while len(sums) > limits.least:
        vectors = cells.finish(sums)
        longer = expected(vectors, seconds)
        cosines = _by_name(longer @ longer.T, known(vectors))
        one, other = np.unravel_index(cosines.argmax(), cosines.shape)
        is_one = cosines[one, other] >= alike
        if not is_one and (len(sums) <= limits.most or np.isneginf(cosines[one, other])):
            break
        sums[one] += sums[other]
        seconds[one] += seconds[other]
        sums, seconds = np.delete(sums, other, axis=0), np.delete(seconds, other)
        labels = numbered(np.where(labels == other, one, labels))
    return labels


def channel_likeness(vectors: np.ndarray) -> float:
    """What a recording's channel adds to the cosine of any two speakers.

    Args:
        vectors: (windows, dim) unit vectors.
    """
    some = vectors[:: -(-len(vectors) // MOST)]
    pairs = (some @ some.T)[np.triu_indices(len(some), 1)]
    if not len(pairs):
        return 0.0
    return float(np.clip(np.percentile(pairs, LEAST_ALIKE) - CLEAR_COSINE, 0, MOST_RAISED))


def halved(
    cells: SpeechCells,
    windows: np.ndarray,
    vectors: np.ndarray,
    labels: np.ndarray,
    below: float = TWO_VOICES,
) -> np.ndarray:
    """Labels where a speaker whose windows are of two voices is two.

    Spectral clustering now and then puts two people in one cluster, which later steps, that only
    join, cannot mend.

    Args:
        cells: of the recording.
        windows: (windows, 2) cells.
        vectors: (windows, dim), theirs.
        labels: int (cells,), numbers from 0 without gaps; -1 for nobody.
        below: expected cosine of two halves that are two speakers.
    """
    owners = _owners(windows, labels)
    found, count = labels.copy(), labels.max() + 1
    for label in range(count):
        own = np.flatnonzero(owners == label)
        if len(own) < FEWEST_WINDOWS:
            continue
        half = _majority(windows[own], two_means(vectors[own].astype(np.float64)), len(cells))
        half[labels != label] = -1
        seconds = spoken(cells, half)
        if len(seconds) == 2 and seconds.min() >= LEAST_HALF:
            halves = expected(cells.speaker_vectors(half), seconds)
            if halves[0] @ halves[1] < below:
                found[half == 1], count = count, count + 1
    return found


def two_means(vectors: np.ndarray) -> np.ndarray:
    """(items,) 0 or 1: two groups of unit vectors (items, dim), each near a mean of its own.

    They begin as the two sides of the mean along the direction in which the vectors differ most.
    """
    centred = vectors - vectors.mean(axis=0)
    groups = (centred @ np.linalg.svd(centred, full_matrices=False)[2][0] > 0).astype(int)
    for _ in range(ROUNDS):
        if groups.min() == groups.max():
            break
        means = np.stack([vectors[groups == group].mean(axis=0) for group in (0, 1)])
        groups = (vectors @ unit(means, TINY).T).argmax(axis=1)
    return groups


def _owners(windows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(windows,) the label that most cells of each have, -1 where it is not most of it."""
    total = np.zeros((len(labels) + 1, labels.max() + 1))
    total[1:] = (labels[:, None] == np.arange(total.shape[1])).cumsum(axis=0)
    counts = total[windows[:, 1]] - total[windows[:, 0]]
    enough = counts.max(axis=1) >= OWN_SHARE * (windows[:, 1] - windows[:, 0])
    return np.where(enough, counts.argmax(axis=1), -1)


def expected(vectors: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Vectors (speakers, dim), as long as products of them need to be what all speech would give.

    The less somebody says, the lower are the cosines of a vector, with the same speaker too.
    """
    return vectors / np.sqrt(seconds / (seconds + HALF_KNOWN))[:, None]


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
