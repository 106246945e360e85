"""Who of the store is speaking now: names that come with the speech, and do not flicker."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from speakervlad.audio.samples import Samples
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.hops import APART, HOP, Hop, Hops
from speakervlad.encoder.stream import EncoderStream
from speakervlad.people.matching import Candidate, Identification

# Seconds of speech at which a cosine is half of what it may become, and of recordings that the
# threshold of the store is for.
HALF_KNOWN, USUAL_SECONDS = 1.5, 5.0
# A window of less speech decides nothing.
LEAST_SECONDS = 1.0
# Cosines below the threshold down to which whoever speaks is believed to go on, and by which
# somebody else must be nearer.
GOES_ON, NEARER = 0.1, 0.03
# So many hops in a row must be of nobody before somebody unknown is said to speak.
UNKNOWN_HOPS = 3
# People looked at for each window.
TOP = 5


class Speaking(NamedTuple):
    """Who speaks, as far as the speech of the last seconds tells.

    Attributes:
        name: of the person; None for somebody who is not in the store.
        start: since when, in seconds of the recording.
        end: until when, so far.
        cosine: of the speech and the person's nearest voice, or the nearest of all.
        threshold: that it is compared with, for so much speech.
        probability: that it is this person, or the nearest of all; None without a calibration.
        is_new: whether this is the first time that it is said of these seconds.
    """

    name: str | None
    start: float
    end: float
    cosine: float
    threshold: float
    probability: float | None
    is_new: bool


class Match(Protocol):
    """Whose voices some vectors are, as ``PeopleStore.match`` says it."""

    def __call__(self, vectors: np.ndarray, *, fpir: float, top: int) -> list[Identification]: ...


def threshold_for(threshold: float, seconds: float) -> float:
    """The threshold of whole recordings for a window of less speech, of which cosines are lower."""
    usual = USUAL_SECONDS / (USUAL_SECONDS + HALF_KNOWN)
    known = min(seconds, USUAL_SECONDS)
    return float(threshold * np.sqrt(known / (known + HALF_KNOWN) / usual))


class Listener:
    """Tells who speaks, half a second of speech after the other; what ``people.listen`` returns.

    Windows of the last 1.5 s of speech decide, and those of the last 3 s where nobody else spoke
    meanwhile. Whoever speaks goes on until the windows are clearly somebody else's. How the samples
    were cut changes nothing.

    Args:
        frames: makes the vectors.
        stream: takes the samples.
        match: asks the store.
        fpir: share of windows of strangers that may get a name.
    """

    def __init__(
        self, frames: FrameEncoder, stream: EncoderStream, match: Match, fpir: float
    ) -> None:
        self._hops = Hops(frames, stream)
        self._frames = frames
        self._match = match
        self._fpir = fpir
        self._last: deque[Hop] = deque(maxlen=APART + 1)
        self._now: Speaking | None = None
        # Hops in a row that are of nobody who is known, and when the first of them begins.
        self._lost = 0
        self._lost_since = 0.0

    @property
    def stream(self) -> EncoderStream:
        """Of all speech, whoever speaks."""
        return self._hops.stream

    def add(self, samples: Samples) -> list[Speaking]:
        """Hear samples, see ``EncoderStream.add``.

        Returns:
            Who speaks in what is complete by now.

        Raises:
            InputError: as ``EncoderStream.add`` and ``PeopleStore.match``.
        """
        return [answer for hop in self._hops.add(samples) for answer in self._told(hop)]

    def finish(self) -> list[Speaking]:
        """Who speaks in what is left when the recording ends."""
        return [answer for hop in self._hops.finish() for answer in self._told(hop)]

    def _told(self, hop: Hop) -> Iterator[Speaking]:
        self._last.append(hop)
        if hop.seconds < LEAST_SECONDS:
            return
        before = self._now
        windows = [(hop.vector, hop.seconds), *self._longer(hop)]
        found = self._match(np.stack([each for each, _ in windows]), fpir=self._fpir, top=TOP)
        judged = [
            _Judged(answer.candidates, threshold_for(answer.threshold, seconds))
            for answer, (_, seconds) in zip(found, windows, strict=True)
        ]
        since = hop.start if not self._lost else self._lost_since
        name, is_sure = self._decided(judged)
        self._lost_since = since
        if not is_sure:
            return
        judge = max(judged, key=lambda each: each.margin_of(name))
        best = judge.of(name)
        same = before is not None and before.name == name
        began = self._begin_of(hop) if name else self._lost_since
        start = before.start if same and before is not None else began
        self._now = Speaking(
            name, start, hop.end, best.score, judge.threshold, best.probability, not same
        )
        yield self._now

    def _longer(self, hop: Hop) -> list[tuple[np.ndarray, float]]:
        """The window of 3 s, if one person spoke in it."""
        if len(self._last) <= APART or self._now is None:
            return []
        first = self._last[0]
        if first.end - HOP < self._now.start:
            return []
        vector = self._frames.finish(first.sums.merge(hop.sums))
        return [(vector, first.seconds + hop.seconds)]

    def _decided(self, judged: list["_Judged"]) -> tuple[str | None, bool]:
        """Whose voice it is, and whether that can be said."""
        short = judged[0]
        if len(judged) > 1 and short.margin_of(judged[1].name) < -GOES_ON:
            judged = judged[:1]  # the longer one is of who spoke before
        now = None if self._now is None else self._now.name
        best = max(judged, key=lambda each: each.margin).name
        margin = max(each.margin for each in judged)
        of_now = max(each.margin_of(now) for each in judged) if now else -2.0
        if margin >= 0 and (best == now or short.margin_of(best) > of_now + NEARER):
            self._lost = 0
            return best, True
        if now is not None and of_now >= -GOES_ON:
            self._lost = 0
            return now, True
        self._lost += 1
        return None, self._lost >= UNKNOWN_HOPS

    def _begin_of(self, hop: Hop) -> float:
        """Since when somebody new speaks: the beginning of the window, if nobody spoke in it."""
        count = min(APART, len(self._last))
        start = next(
            (each.start for each in reversed(list(self._last)[-count:]) if each.begins),
            self._last[-count].start,
        )
        return start if self._now is None else max(start, min(self._now.end, hop.start))


class _Judged(NamedTuple):
    """The people who are nearest to a window, and the threshold for so much speech."""

    candidates: tuple[Candidate, ...]
    threshold: float

    @property
    def name(self) -> str | None:
        return self.candidates[0].name if self.candidates else None

    @property
    def margin(self) -> float:
        """Of the nearest."""
        return self.candidates[0].score - self.threshold if self.candidates else -2.0

    def margin_of(self, name: str | None) -> float:
        """How far a person is above the threshold; of nobody, how far the nearest is below it."""
        if name is None:
            return -self.margin
        return next(
            (each.score - self.threshold for each in self.candidates if each.name == name), -2.0
        )

    def of(self, name: str | None) -> Candidate:
        """A person of these, or the nearest."""
        found = [each for each in self.candidates if each.name == name] or self.candidates
        return found[0] if found else Candidate("", -1.0, None)
