"""Whose the last seconds of a stream are: what cells are judged by, and groups of their speech."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speakervlad.diarization.cells import CELL, HEARD_CHANGE, Plan
from speakervlad.diarization.resegmentation import best_path
from speakervlad.diarization.speakers import CHANGE, CHANGE_AT_PAUSE, CHANGE_HEARD, expected
from speakervlad.diarization.ticks import Tick

# Seconds to either side that a cell is judged with, more than offline: speakers are less well
# known. What a cosine is worth in natural logarithms, a cell of full length.
REACH, SHARPNESS = 0.64, 12.0
# Groups of speech are of one speaker from this expected cosine on.
ALIKE = 0.65
# Speech is grouped in samples of one stretch without a heard change. Seconds.
LEAST_SAMPLE, LONGEST_SAMPLE = 0.5, 2.0

# Rows of sums (rows, numbers) to unit vectors (rows, dim), zeros where there are no frames.
Finish = Callable[[np.ndarray], np.ndarray]
# Sums of some speech as a row, and its seconds.
Voice = tuple[np.ndarray, float]


@dataclass(frozen=True)
class Judged:
    """The cells of a tick, and what a sequence of speakers is judged by.

    Attributes:
        plan: where they are.
        rows: (cells, numbers) sums.
        alone: (cells,) bool, whether one speaks in it, clearly.
        vectors: float32 (cells, dim), of what is around each in its stretch of speech.
        worth: (cells,), what a cosine counts.
        costs: (cells,), of a change of speaker.
    """

    plan: Plan
    rows: np.ndarray
    alone: np.ndarray
    vectors: np.ndarray
    worth: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, tick: Tick, finish: Finish) -> "Judged":
        """That of a tick with cells."""
        plan, rows = tick.plan, tick.rows
        alone = ~plan.doubled & plan.clear & (rows[:, 0] > 0)
        near = np.abs(plan.middles[:, None] - plan.middles) <= REACH
        around = near & (plan.segments[:, None] == plan.segments) & alone
        sure = np.sqrt(np.minimum(1, around @ plan.seconds / (2 * REACH)))
        worth = SHARPNESS * sure * plan.seconds / CELL
        costs = CHANGE * (1 - plan.changes) + CHANGE_HEARD * plan.changes
        begins = np.diff(plan.segments, prepend=-1) != 0
        costs[begins] = np.minimum(costs[begins], CHANGE_AT_PAUSE)
        return cls(plan, rows, alone, finish(around.astype(np.float32) @ rows), worth, costs)

    def stretches(self) -> list[int]:
        """(cells,) where the stretch without a pause or a heard change begins that each is in."""
        begins = np.diff(self.plan.segments, prepend=-1) != 0
        begins |= self.plan.changes >= HEARD_CHANGE
        first = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
        return self.plan.bounds[first, 0].tolist()

    def samples(self) -> list[Voice]:
        """What one speaks alone, cut at pauses and heard changes and where it is long."""
        found: list[Voice] = []
        last, stretches = None, self.stretches()
        for cell in np.flatnonzero(self.alone).tolist():
            voice = self.rows[cell], float(self.plan.seconds[cell])
            if stretches[cell] == last and found[-1][1] < LONGEST_SAMPLE:
                found[-1] = together([found[-1], voice])
            else:
                found.append(voice)
            last = stretches[cell]
        return [each for each in found if each[1] >= LEAST_SAMPLE]

    def best(self, voices: list[Voice], last: int | None, finish: Finish) -> np.ndarray:
        """The best sequence of some voices, int (cells,).

        Args:
            voices: who may speak.
            last: whose voice was heard before the first cell, if that is known.
            finish: sums to vectors.
        """
        vectors = expected(finish(stacked(voices)), seconds_of(voices))
        scores = self.worth[:, None] * (self.vectors @ vectors.T)
        if last is not None:
            scores[0, np.arange(len(voices)) != last] -= self.costs[0]
        return best_path(scores, self.costs)


def grouped(voices: list[Voice], fixed: int, finish: Finish) -> list[list[int]]:
    """Groups of voices, the two most alike of which are joined until none are ``ALIKE``.

    Cosines are those that are expected of more speech; a group's vector is that of its sums.

    Args:
        voices: of speakers first, then samples.
        fixed: how many are of speakers, who are not joined with each other.
        finish: sums to vectors.

    Returns:
        The places of the voices of each group, of speakers first, in their order.
    """
    groups, known = [[place] for place in range(len(voices))], list(voices)
    vectors = expected(finish(stacked(known)), seconds_of(known))
    cosines = vectors @ vectors.T
    cosines[:fixed, :fixed] = -np.inf
    np.fill_diagonal(cosines, -np.inf)
    while True:
        one, other = sorted(divmod(int(cosines.argmax()), len(known)))
        if cosines[one, other] < ALIKE:
            return [group for group in groups if group]
        groups[one], groups[other] = groups[one] + groups[other], []
        known[one] = together([known[one], known[other]])
        vectors[one] = expected(finish(stacked([known[one]])), seconds_of([known[one]]))[0]
        apart = np.isneginf(cosines[one])
        cosines[one] = cosines[:, one] = np.where(apart, -np.inf, vectors @ vectors[one])
        cosines[other] = cosines[:, other] = -np.inf


def together(voices: list[Voice]) -> Voice:
    """One voice of several."""
    return stacked(voices).sum(axis=0), float(seconds_of(voices).sum())


def without(voice: Voice, part: Voice) -> Voice:
    """A voice without some of its speech."""
    return voice[0] - part[0], max(0.0, voice[1] - part[1])


def stacked(voices: list[Voice]) -> np.ndarray:
    """float64 (voices, numbers), their rows."""
    return np.stack([row for row, _ in voices]).astype(np.float64)


def seconds_of(voices: list[Voice]) -> np.ndarray:
    """(voices,) seconds of each."""
    return np.array([seconds for _, seconds in voices])
