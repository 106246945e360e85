"""The voices of a stream: what was said lately, and whose it is as far as is known by now.

A speaker who was heard for two seconds is little known, so some of what is taken for somebody else
is this speaker's, and somebody recorded in two ways makes two. What was said is told anew from time
to time by the voices that are known by then, as k-means does (MacQueen 1967); speakers whose voices
have become alike are one.
"""

from collections import Counter, deque
from typing import NamedTuple

import numpy as np

from speakervlad.diarization.judging import Finish, Voice, seconds_of, stacked, together, without
from speakervlad.diarization.speakers import expected

# So many utterances are remembered, each at most so long; shorter ones and voices say too little.
MOST, LONGEST, LEAST = 300, 2.0, 0.5
# Speakers whose expected cosine is high are one if each said so much. Seconds.
LEAST_JOINED = 2.0
# What was nobody's goes to a speaker who is so near.
NEAR = 0.5
# Times that utterances are told anew.
ROUNDS = 2


class LiveSpeaker:
    """Somebody who spoke.

    Attributes:
        number: from 1 on, for those without a name.
        voice: what is certain of it, sums and seconds.
        name: of the store.
        asked: seconds of speech when the store was asked last.
    """

    def __init__(self, number: int, numbers: int) -> None:
        self.number = number
        self.voice: Voice = np.zeros(numbers), 0.0
        self.name: str | None = None
        self.asked = 0.0
        self._same: LiveSpeaker | None = None

    @property
    def now(self) -> "LiveSpeaker":
        """The speaker as which this one is known by now."""
        return self if self._same is None else self._same.now

    @property
    def label(self) -> str:
        """The name, or the number as ``speaker 1``."""
        now = self.now
        return now.name or f"speaker {now.number}"

    def become(self, other: "LiveSpeaker") -> None:
        """Be the same as another from now on, to whom the voice is added."""
        other.voice = together([other.voice, self.voice])
        other.name = other.name or self.name
        self._same = other

    def add(self, voice: Voice) -> None:
        """More speech."""
        self.voice = together([self.voice, voice])

    def remove(self, voice: Voice) -> None:
        """Speech that is somebody else's."""
        self.voice = without(self.voice, voice)


class Joined(NamedTuple):
    """A speaker who turned out to be another."""

    speaker: LiveSpeaker
    other: LiveSpeaker


class _Utterance:
    """Some speech of one, up to a sample of the recording; of nobody if that is not known."""

    def __init__(self, end: int, voice: Voice, speaker: LiveSpeaker | None) -> None:
        self.end = end
        self.voice = voice
        self.speaker = speaker
        self.vector: np.ndarray | None = None


class Memory:
    """What was said lately; its size is bounded.

    Args:
        finish: sums to vectors.
        alike: expected cosine from which on two speakers are one.
    """

    def __init__(self, finish: Finish, alike: float) -> None:
        self._finish = finish
        self._alike = alike
        self._lately: deque[_Utterance] = deque(maxlen=MOST)

    def add(self, begin: int, end: int, voice: Voice, speaker: LiveSpeaker | None) -> None:
        """Remember what was said between two samples, whose voice becomes its speaker's.

        Args:
            begin: first sample.
            end: the one behind the last.
            voice: of what was said.
            speaker: None if it is too uncertain whose it is.
        """
        if speaker is not None:
            speaker.add(voice)
        last = self._lately[-1] if self._lately else None
        goes_on = last is not None and last.end == begin and last.speaker is speaker
        if last is not None and goes_on and last.voice[1] < LONGEST:
            last.end, last.voice, last.vector = end, together([last.voice, voice]), None
        else:
            self._lately.append(_Utterance(end, voice, speaker))

    def tidy(self, speakers: list[LiveSpeaker]) -> list[Joined]:
        """Tell anew who said what, and who is the same.

        Args:
            speakers: all of them, whose voices change.

        Returns:
            Those who are others, in this order; they have become them.
        """
        joined: list[Joined] = []
        for _ in range(ROUNDS):
            for (speaker, other), _ in Counter(self._moved(_left(speakers))).most_common():
                is_empty = speaker.now is speaker and speaker.voice[1] < LEAST
                if is_empty and speaker.name is None and other.now is not speaker:
                    joined.append(self.join(speaker, other.now))
        while pair := self._most_alike(_left(speakers)):
            joined.append(self.join(*pair))
        return joined

    def join(self, speaker: LiveSpeaker, other: LiveSpeaker) -> Joined:
        """One speaker is another from now on."""
        speaker.become(other)
        for each in self._lately:
            each.speaker = each.speaker and each.speaker.now
        return Joined(speaker, other)

    def _moved(self, speakers: list[LiveSpeaker]) -> list[tuple[LiveSpeaker, LiveSpeaker]]:
        """Give utterances to whom they are nearest; from whom and to whom some were moved."""
        known = [each for each in speakers if each.voice[1] >= LEAST]
        heard = [each for each in self._lately if each.voice[1] >= LEAST]
        if not known or not heard:
            return []
        moved = []
        places: dict[LiveSpeaker | None, int] = {each: place for place, each in enumerate(known)}
        own = np.array([places.get(each.speaker, -1) for each in heard])
        cosines = self._cosines(heard, known, own)
        for each, place, row in zip(heard, own.tolist(), cosines, strict=True):
            best = int(row.argmax())
            if best == place or (place < 0 and row[best] < NEAR):
                continue
            if place >= 0:
                known[place].remove(each.voice)
                moved.append((known[place], known[best]))
            known[best].add(each.voice)
            each.speaker = known[best]
        return moved

    def _cosines(
        self, heard: list[_Utterance], known: list[LiveSpeaker], own: np.ndarray
    ) -> np.ndarray:
        """(utterances, speakers) expected cosines, each with what else its own speaker said.

        Infinite where that is too little. Of speakers it is not asked how much they said: somebody
        of whom little is known would take what others said.
        """
        voices = [each.voice for each in heard]
        vectors = expected(np.stack([self._vector(each) for each in heard]), seconds_of(voices))
        cosines = vectors @ self._finish(stacked([each.voice for each in known])).T
        at = np.flatnonzero(own >= 0)
        rest = [without(known[own[place]].voice, voices[place]) for place in at.tolist()]
        cosines[at, own[at]] = np.inf
        told = np.array([seconds >= LEAST for _, seconds in rest], bool)
        if told.any():
            others = self._finish(stacked([voice for voice in rest if voice[1] >= LEAST]))
            at = at[told]
            cosines[at, own[at]] = (vectors[at] * others).sum(axis=1)
        return cosines

    def _vector(self, utterance: _Utterance) -> np.ndarray:
        found = utterance.vector
        if found is None:
            found = utterance.vector = self._finish(utterance.voice[0][None])[0]
        return found

    def _most_alike(self, speakers: list[LiveSpeaker]) -> tuple[LiveSpeaker, LiveSpeaker] | None:
        """The speaker of the higher number and the one of the lower, of those most alike."""
        known = [each for each in speakers if each.voice[1] >= LEAST_JOINED]
        if len(known) < 2:
            return None
        voices = [each.voice for each in known]
        vectors = expected(self._finish(stacked(voices)), seconds_of(voices))
        cosines = np.where(_may_be_one(known), vectors @ vectors.T, -np.inf)
        one, other = divmod(int(cosines.argmax()), len(known))
        if cosines[one, other] < self._alike:
            return None
        first, second = sorted((known[one], known[other]), key=lambda each: each.number)
        return second, first


def _left(speakers: list[LiveSpeaker]) -> list[LiveSpeaker]:
    """Those who are nobody else by now."""
    return [each for each in speakers if each.now is each]


def _may_be_one(speakers: list[LiveSpeaker]) -> np.ndarray:
    """(speakers, speakers) bool, whether two may be one: not itself, nor two with names."""
    named = np.array([each.name is not None for each in speakers])
    return ~(np.eye(len(speakers), dtype=bool) | named & named[:, None])
