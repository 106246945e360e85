"""Whose voice the last half second of speech is: a sequence of speakers of any length each.

Whoever speaks now began with one of the last hops, and all that was said since is compared as one
recording, which VLAD's sums allow. Over the places where the present speaker may have begun runs
the forward recursion of a hidden semi-Markov model (Yu, "Hidden semi-Markov models", Artificial
Intelligence 174, 2010), of people and "somebody unknown".
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from speakervlad.people.matching import Candidate

# Hops that the longest window has.
LONGEST = 6
# What a cosine above the threshold counts, in natural logarithms, in windows of a second and more,
# and what a window counts at most.
SHARPNESS, FULL_SECONDS, MOST = 60.0, 1.0, 20.0
# Odds, as logarithms, at the threshold: that somebody unknown begins, or somebody whom the store
# has named since the stream began, or whoever spoke last, to others of the store.
UNKNOWN, HEARD_BEFORE, SPOKE_LAST = 2.0, 2.0, 2.0
# That another speaker begins with a hop, and with the first behind a pause.
CHANGE, CHANGE_AT_PAUSE = 0.12, 0.5
# Probabilities from which on somebody is said to speak, whoever spoke last is said to go on, and
# somebody is expected again.
SAID, GOES_ON, EXPECTED = 0.6, 0.2, 0.95


class Window(NamedTuple):
    """The last seconds of speech, and who is nearest to them.

    Attributes:
        candidates: the nearest people, the nearest first.
        threshold: of the cosine of so much speech.
        seconds: of speech.
    """

    candidates: tuple[Candidate, ...]
    threshold: float
    seconds: float

    def nearest(self, name: str | None) -> Candidate:
        """A person; for nobody the nearest, for somebody farther than all of these the last."""
        others = self.candidates[0 if name is None else -1 :] or (Candidate("", -1.0, None),)
        return next((each for each in self.candidates if each.name == name), others[0])


class Followed(NamedTuple):
    """Who speaks in a hop.

    Attributes:
        name: None for somebody unknown.
        is_sure: whether that can be said.
        window: the number of the window that it is read off most.
    """

    name: str | None
    is_sure: bool
    window: int


class Follower:
    """Follows who speaks from hop to hop."""

    def __init__(self) -> None:
        # For each of the last hops, the first of them first: the logarithm of how probable all
        # before it is, relative to all so far; of whether somebody else begins with it, or not;
        # and who was said to speak before.
        self._hops: deque[tuple[float, float, str | None]] = deque(maxlen=LONGEST)
        self._said: str | None = None
        self._expected: set[str] = set()

    def hear(self, windows: list[Window], *, after_pause: bool) -> Followed:
        """Hear one more hop.

        Args:
            windows: of the last hop, the last two, ... as many as there are, ``LONGEST`` at most.
            after_pause: whether there was a pause before it.
        """
        change = CHANGE_AT_PAUSE if after_pause else CHANGE
        self._hops.append((float(np.log(change)), float(np.log1p(-change)), self._said))
        begins, stays, before = zip(*reversed(self._hops), strict=True)
        base = np.array(begins) + np.concatenate([[0.0], np.cumsum(stays[:-1])])
        names = sorted({each.name for window in windows for each in window.candidates})
        people = [base + self._evidence(windows, name, before) for name in names]
        joint = np.stack([base + UNKNOWN, *people])
        totals = np.logaddexp.reduce(joint, axis=1)
        whole = float(np.logaddexp.reduce(totals))
        relative = [(begin - whole, stay, said) for begin, stay, said in self._hops]
        self._hops = deque(relative, maxlen=LONGEST)
        chances, best = np.exp(totals - whole), int(totals.argmax())
        expected = np.flatnonzero(chances[1:] >= EXPECTED).tolist()
        self._expected.update(names[place] for place in expected)
        everybody = [None, *names]
        is_sure = bool(chances[best] >= SAID)
        if not is_sure and self._said in names:
            best = everybody.index(self._said)
            is_sure = bool(chances[best] >= GOES_ON)
        if is_sure:
            self._said = everybody[best]
        return Followed(everybody[best], is_sure, int(joint[best].argmax()))

    def _evidence(
        self, windows: list[Window], name: str, before: tuple[str | None, ...]
    ) -> np.ndarray:
        """(windows,) for a person against somebody unknown, and how likely this person begins."""
        above = np.array([each.nearest(name).score - each.threshold for each in windows])
        share = np.minimum(1, np.array([each.seconds for each in windows]) / FULL_SECONDS)
        last = np.array([SPOKE_LAST if each == name else 0.0 for each in before])
        known = HEARD_BEFORE if name in self._expected else 0.0
        return np.clip(SHARPNESS * share * above, -MOST, MOST) + last + known
