"""Who speaks when, while they speak: turns with numbers that stay, and names of a store.

Every half second of speech has the vector of a window around it (``Hops``). The best sequence of
speakers of the last five seconds is found anew with each (Viterbi, as offline), so that what was
said of these may be corrected; what is older stays. Speech that is like nobody so far makes a
speaker of its own once there is enough of it.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from speakervlad.audio.samples import Samples
from speakervlad.diarization.diarize import known_by
from speakervlad.diarization.resegmentation import best_path
from speakervlad.diarization.speakers import HALF_KNOWN, Known, strangers
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.hops import APART, HOP, Hop, Hops
from speakervlad.encoder.stream import EncoderStream
from speakervlad.errors import InputError
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from speakervlad.people.people import PeopleStore

# What was said of the last so many seconds may be corrected.
CORRECTED_SECONDS = 5.0
# What a cosine is worth, and what a change of speaker costs, within speech and behind a pause.
SHARPNESS, CHANGE, CHANGE_AT_PAUSE = 8.0, 1.6, 0.8
# Speech is of somebody new below this cosine to everybody so far, for so many hops in a row.
NEW_BELOW, NEW_HOPS = 0.5, 4
# Speech that seemed to be of somebody new is of the nearest speaker from this cosine on, and two
# speakers are one.
SAME_FROM, ALIKE = 0.6, 0.78
# A speaker without a name is looked up in the store whenever so much more was said, in all.
ASKED_AGAIN = 2.0
MOST_SPEAKERS = 20
# Turns of one speaker with a shorter pause between them are joined.
PAUSE = 0.5


class Said(NamedTuple):
    """Who speaks from ``start`` to ``end``, in seconds of the recording.

    Attributes:
        start: when it begins.
        end: when it ends; a hop later it may go on.
        speaker: ``speaker 1`` ... or a name of the store.
        corrects: whether it takes the place of what was said of these seconds before.
    """

    start: float
    end: float
    speaker: str
    corrects: bool


@dataclass
class _Speaker:
    """Somebody who spoke: what of it is certain, as a row of sums, and how many seconds.

    Attributes:
        number: from 1 on, for those without a name.
        name: of the store.
        sums: (numbers,), see ``PoolingSums.row``.
        seconds: of speech in them.
        asked: of speech when the store was asked last.
    """

    number: int
    sums: np.ndarray
    seconds: float = 0.0
    name: str | None = None
    asked: float = 0.0

    @property
    def label(self) -> str:
        return self.name or f"speaker {self.number}"


@dataclass
class _Recent:
    """A hop of the last seconds, whose speaker may still change.

    Attributes:
        hop: what was heard.
        row: its share of the sums: each second is in as many windows.
        said: who was said to speak.
        speaker: who seems to speak by now; None for somebody new.
    """

    hop: Hop
    row: np.ndarray
    said: str | None = None
    speaker: _Speaker | None = field(default=None, repr=False)


class LiveDiarizer:
    """Tells who speaks while it hears; how the samples were cut changes nothing.

    Its memory grows with the turns alone. One speaker speaks at a time.

    Args:
        frames: makes the vectors.
        stream: takes the samples.
        known: who of some vectors is known by what name.
        max_speakers: how many there are at most.

    Attributes:
        seconds: how much has arrived.
    """

    def __init__(
        self,
        frames: FrameEncoder,
        stream: EncoderStream,
        known: Known = strangers,
        max_speakers: int = MOST_SPEAKERS,
    ) -> None:
        self._hops = Hops(frames, stream)
        self._frames = frames
        self._known = known
        self._most = max_speakers
        self._speakers: list[_Speaker] = []
        self._count = 0
        self._recent: deque[_Recent] = deque()
        self._last: _Speaker | None = None
        # Sums of any window, which say what the numbers of a row are.
        self._pattern: PoolingSums | None = None
        self._done: list[tuple[Turn, _Speaker]] = []

    @property
    def stream(self) -> EncoderStream:
        """Of all speech, whoever speaks."""
        return self._hops.stream

    def add(self, samples: Samples) -> list[Said]:
        """Hear samples, see ``EncoderStream.add``.

        Returns:
            Who speaks in what is complete by now, and corrections.

        Raises:
            InputError: as ``EncoderStream.add``.
        """
        return [said for hop in self._hops.add(samples) for said in self.hear(hop)]

    def finish(self) -> list[Said]:
        """What is left when the recording ends."""
        said = [each for hop in self._hops.finish() for each in self.hear(hop)]
        said += self._settle(every=True)
        return said

    def turns(self, recording: str = "live") -> Turns:
        """The turns so far.

        Args:
            recording: its name.
        """
        recent = [(each.hop, each.speaker) for each in self._recent if each.speaker is not None]
        done = [turn._replace(speaker=speaker.label) for turn, speaker in self._done]
        done += [Turn(hop.start, hop.end, speaker.label) for hop, speaker in recent]
        rounded = (Turn(round(start, 3), round(end, 3), name) for start, end, name in done)
        return Turns(recording, tuple(rounded), self.stream.seconds).joined(PAUSE)

    def heard_of(self, speaker: str) -> tuple[PoolingSums, float]:
        """What somebody said so far, to be enrolled: sums of windows, and seconds of speech.

        Args:
            speaker: as it is called by now.

        Raises:
            InputError: nobody is called so.
        """
        found = self._called(speaker)
        rows, seconds = found.sums.copy(), found.seconds
        for each in self._recent:
            if each.speaker is found:
                rows, seconds = rows + each.row, seconds + each.hop.seconds / APART
        assert self._pattern is not None
        return self._pattern.of_row(rows), seconds

    def call(self, speaker: str, name: str) -> None:
        """Give somebody a name, from the beginning on.

        Raises:
            InputError: nobody is called so.
        """
        self._called(speaker).name = name

    def _called(self, speaker: str) -> _Speaker:
        found = next((each for each in self._speakers if each.label == speaker), None)
        if found is None:
            raise InputError(f"{speaker}: nobody of that name spoke.")
        return found

    def hear(self, hop: Hop) -> list[Said]:
        """What one more hop tells."""
        self._pattern = hop.sums
        self._recent.append(_Recent(hop, hop.sums.row() / APART))
        said = self._settle()
        self._decide()
        return said + self._say()

    def _settle(self, *, every: bool = False) -> list[Said]:
        """What is too old to be corrected becomes part of its speaker."""
        said = []
        latest = self._recent[-1].hop.end if self._recent else 0.0
        while self._recent and (every or self._recent[0].hop.start < latest - CORRECTED_SECONDS):
            if self._recent[0].speaker is None:
                self._add_speaker([self._recent[0]])
                said += self._say()
            each = self._recent.popleft()
            speaker = each.speaker
            assert speaker is not None
            speaker.sums = speaker.sums + each.row
            speaker.seconds += each.hop.seconds / APART
            self._last = speaker
            self._keep(each.hop, speaker)
        return said

    def _keep(self, hop: Hop, speaker: _Speaker) -> None:
        if self._done and self._done[-1][1] is speaker:
            last = self._done[-1][0]
            if hop.start <= last.end + PAUSE:
                self._done[-1] = last._replace(end=hop.end), speaker
                return
        self._done.append((Turn(hop.start, hop.end, ""), speaker))

    def _decide(self) -> None:
        """The speakers of the last seconds, and somebody new where they are like nobody."""
        self._assign()
        run = self._unknown_run()
        if len(run) >= NEW_HOPS:
            self._add_speaker(run)
            self._name_and_join()
            self._assign()
        else:
            self._name_and_join()

    def _assign(self) -> None:
        """The best sequence of speakers, and of nobody so far."""
        recent = list(self._recent)
        vectors, seconds = self._speaker_vectors()
        agreement = np.full((len(recent), len(vectors) + 1), NEW_BELOW)
        if len(self._speakers) >= self._most:
            agreement[:, -1] = -1.0
        for row, each in enumerate(recent):
            behind = recent[row + 1].hop if row + 1 < len(recent) else each.hop
            around = each.hop if behind.begins else behind
            expected = _expected(around.seconds) * _expected(seconds)
            agreement[row, :-1] = vectors @ around.vector / expected
        costs = np.array([CHANGE_AT_PAUSE if each.hop.begins else CHANGE for each in recent])
        scores = SHARPNESS * agreement
        if self._last in self._speakers:
            others = np.arange(scores.shape[1]) != self._speakers.index(self._last)
            scores[0, others] -= costs[0]
        for each, state in zip(recent, best_path(scores, costs).tolist(), strict=True):
            each.speaker = self._speakers[state] if state < len(self._speakers) else None

    def _unknown_run(self) -> list[_Recent]:
        """The last hops in a row that are of nobody so far."""
        runs: list[list[_Recent]] = [[]]
        for each in self._recent:
            if each.speaker is None:
                runs[-1].append(each)
            elif runs[-1]:
                runs.append([])
        return next((run for run in reversed(runs) if run), [])

    def _add_speaker(self, run: list[_Recent]) -> None:
        """A speaker of some hops: somebody new, or whom they are nearest to after all."""
        # The window of the first of them reaches into what was before.
        inner = run[1:] if len(run) > 1 and not run[0].hop.begins else run
        row = np.sum([each.row for each in inner], axis=0)
        seconds = sum(each.hop.seconds for each in inner) / APART
        vectors, known = self._speaker_vectors()
        vector = self._finish(row[None])[0]
        cosines = vectors @ vector / (_expected(known) * _expected(max(seconds, HOP)))
        is_full = len(self._speakers) >= self._most
        if len(cosines) and (cosines.max() >= SAME_FROM or is_full or len(run) < NEW_HOPS):
            speaker = self._speakers[int(cosines.argmax())]
        else:
            self._count += 1
            speaker = _Speaker(self._count, np.zeros_like(row))
            self._speakers.append(speaker)
        for each in run:
            each.speaker = speaker

    def _name_and_join(self) -> None:
        """Names from the store; speakers of one name, or of one voice, are one."""
        vectors, seconds = self._speaker_vectors()
        for row, speaker in enumerate(self._speakers):
            if speaker.name is None and seconds[row] >= speaker.asked + ASKED_AGAIN:
                speaker.asked = seconds[row]
                speaker.name = self._known(vectors[row][None])[0]
        cosines = vectors @ vectors.T / np.outer(_expected(seconds), _expected(seconds))
        for later in range(len(self._speakers) - 1, 0, -1):
            for first in range(later):
                one, other = self._speakers[first], self._speakers[later]
                named = one.name is not None and other.name is not None
                if one.name == other.name if named else cosines[first, later] >= ALIKE:
                    self._join(one, other)
                    return

    def _join(self, one: _Speaker, other: _Speaker) -> None:
        """Two speakers are the first of them, from now on."""
        one.sums, one.seconds = one.sums + other.sums, one.seconds + other.seconds
        one.name = one.name or other.name
        self._speakers.remove(other)
        for each in self._recent:
            each.speaker = one if each.speaker is other else each.speaker
        self._last = one if self._last is other else self._last

    def _say(self) -> list[Said]:
        """What is new since it was said last."""
        said = []
        for each in self._recent:
            if each.speaker is not None and each.said != each.speaker.label:
                label = each.speaker.label
                said.append(Said(each.hop.start, each.hop.end, label, each.said is not None))
                each.said = label
        return said

    def _speaker_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 (speakers, dim) and (speakers,) seconds, with the hops of the last seconds."""
        if not self._speakers:
            return np.zeros((0, self._frames.ends.dim), np.float32), np.zeros(0)
        rows = np.stack([speaker.sums for speaker in self._speakers])
        seconds = np.array([speaker.seconds for speaker in self._speakers])
        places = {id(speaker): row for row, speaker in enumerate(self._speakers)}
        for each in self._recent:
            row = places.get(id(each.speaker))
            if row is not None:
                rows[row] += each.row
                seconds[row] += each.hop.seconds / APART
        return self._finish(rows), np.maximum(seconds, HOP)

    def _finish(self, rows: np.ndarray) -> np.ndarray:
        found = np.zeros((len(rows), self._frames.ends.dim), np.float32)
        heard = rows[:, 0] > 0
        if heard.any() and self._pattern is not None:
            found[heard] = self._frames.finish(self._pattern.of_rows(rows[heard]))
        return found


def diarize_live(
    encoder: Encoder | None = None,
    *,
    sample_rate: int = SAMPLE_RATE,
    store: "PeopleStore | None" = None,
    fpir: float = 0.01,
    max_speakers: int = MOST_SPEAKERS,
) -> LiveDiarizer:
    """What takes samples and tells who speaks, while they speak.

    Args:
        encoder: makes the vectors; the one that ships by default.
        sample_rate: of all samples that will be added, a whole number of Hz.
        store: of people: speakers whom it knows get their names.
        fpir: share of speakers unknown to the store who may get a name of it.
        max_speakers: how many there are at most.

    Raises:
        InputError: an impossible rate; nobody is enrolled in the store, or it is of another
            encoder.
    """
    encoder = encoder or load_encoder()
    known = strangers
    if store is not None:
        store.threshold(fpir)  # not in the middle of it, if something is wrong with the store
        known = partial(known_by, store, fpir)
    return LiveDiarizer(encoder.frames, encoder.stream(sample_rate), known, max_speakers)


def _expected(seconds: np.ndarray | float) -> np.ndarray:
    """The cosine of two vectors of one speaker, as far as one of so much speech lowers it."""
    known = np.asarray(seconds, np.float64)
    return np.sqrt(known / (known + HALF_KNOWN))
