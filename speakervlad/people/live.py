"""Who of the store is speaking now: names that come with the speech, and do not flicker."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from speakervlad.audio.samples import Samples
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.hops import Hop, Hops
from speakervlad.encoder.stream import EncoderStream
from speakervlad.people.following import LONGEST, Followed, Follower, Window
from speakervlad.people.matching import Identification

# Seconds of speech at which a cosine is half of what it may become, and of recordings that the
# threshold of the store is for.
HALF_KNOWN, USUAL_SECONDS = 1.5, 5.0
# The threshold of a window of live speech is so much of the one that this gives, and at least so
# much of the store's is left of it before that.
LOWERED, LEAST_LEFT = 0.93, 0.8
# So many hops in a row must be of nobody before somebody unknown is said to speak.
UNKNOWN_HOPS = 2
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

    def __call__(self, vectors: np.ndarray, *, top: int) -> list[Identification]: ...


def threshold_for(threshold: float, seconds: float) -> float:
    """The threshold of whole recordings for a window of less speech, of which cosines are lower."""
    usual = USUAL_SECONDS / (USUAL_SECONDS + HALF_KNOWN)
    known = min(seconds, USUAL_SECONDS)
    left = max(LEAST_LEFT, float(np.sqrt(known / (known + HALF_KNOWN) / usual)))
    return threshold * LOWERED * left


class Listener:
    """Tells who speaks, half a second of speech after the other; what ``people.listen`` returns.

    Windows of the last 0.5 to 3 s of speech are compared with the store, and ``Follower`` weighs
    where the present speaker may have begun. How the samples were cut changes nothing.

    Args:
        frames: makes the vectors.
        stream: takes the samples.
        match: asks the store.
        threshold: its threshold at present, for live speech.
    """

    def __init__(
        self,
        frames: FrameEncoder,
        stream: EncoderStream,
        match: Match,
        threshold: Callable[[], float],
    ) -> None:
        self._hops = Hops(frames, stream)
        self._frames = frames
        self._match = match
        self._threshold = threshold
        self._follower = Follower()
        self._last: deque[Hop] = deque(maxlen=LONGEST)
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
        return [answer for hop in self._hops.add(samples) for answer in self.hear(hop)]

    def finish(self) -> list[Speaking]:
        """Who speaks in what is left when the recording ends."""
        return [answer for hop in self._hops.finish() for answer in self.hear(hop)]

    def hear(self, hop: Hop) -> list[Speaking]:
        """Who speaks in one more hop; nothing where that is not clear."""
        self._last.append(hop)
        windows = self._windows()
        found = self._follower.hear(windows, after_pause=hop.begins)
        if not found.is_sure:
            return []
        if found.name is None:
            self._lost_since = self._lost_since if self._lost else hop.start
            self._lost += 1
            if self._lost < UNKNOWN_HOPS:
                return []
        else:
            self._lost = 0
        before, window = self._now, windows[found.window]
        is_new = before is None or before.name != found.name
        start = self._begin_of(found) if is_new or before is None else before.start
        best = window.nearest(found.name)
        self._now = Speaking(
            found.name, start, hop.end, best.score, window.threshold, best.probability, is_new
        )
        return [self._now]

    def _windows(self) -> list[Window]:
        """Of the last hop, the last two, and so on."""
        last = list(reversed(self._last))
        rows = np.cumsum([hop.sums.row() for hop in last], axis=0)
        seconds = np.cumsum([hop.seconds for hop in last]).tolist()
        vectors = self._frames.finish(last[0].sums.of_rows(rows))
        answers, threshold = self._match(vectors, top=TOP), self._threshold()
        return [
            Window(answer.candidates, threshold_for(threshold, heard), heard)
            for answer, heard in zip(answers, seconds, strict=True)
        ]

    def _begin_of(self, found: Followed) -> float:
        """Since when somebody new speaks: not before the last answer's end."""
        last = self._last[-1]
        begin = self._last[-1 - found.window].start if found.name else self._lost_since
        return begin if self._now is None else max(begin, min(self._now.end, last.start))
