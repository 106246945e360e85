"""Who speaks when, while they speak: turns with numbers that stay, and names of a store.

Every 1.25 s the last five seconds are judged anew, as a recording is: the same detectors, cells and
sequence of speakers, with the speakers who are known by then. So what was said of these seconds may
be corrected; what is older stays. Speech that is like nobody so far makes a speaker of its own once
there is enough of it.
"""

from collections import deque
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from speakervlad.audio.local_speakers import Scores, batch_scores, network_file, scores_by
from speakervlad.audio.samples import Samples
from speakervlad.diarization.cells import Plan
from speakervlad.diarization.clustering import Limits
from speakervlad.diarization.diarize import ALIKE, alike_by, known_by
from speakervlad.diarization.judging import Judged, Voice, grouped, together
from speakervlad.diarization.memory import LiveSpeaker, Memory
from speakervlad.diarization.overlap import second_speakers
from speakervlad.diarization.speakers import Known, strangers
from speakervlad.diarization.ticks import OPEN, REGION, STEP, Tick, Ticks
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.stream import EncoderStream
from speakervlad.errors import InputError
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from speakervlad.people.people import PeopleStore

# What was said of the last so many seconds may be corrected.
CORRECTED_SECONDS = OPEN / SAMPLE_RATE
# So much speech that is like nobody so far makes a speaker. Seconds.
NEW_SECONDS = 2.0
# Of a speaker of whom less is certain, what is not certain counts too.
LITTLE = 3.0
# A speaker without a name is looked up in the store whenever so much more was said, in all.
ASKED_AGAIN = 2.0
MOST_SPEAKERS = 20
# Ticks after which what was said lately is looked at again, 5 s.
TIDIED = 4
# Turns of one speaker with a shorter pause between them are joined.
PAUSE = 0.5


class Said(NamedTuple):
    """Who speaks from ``start`` to ``end``, in seconds of the recording.

    Attributes:
        start: when it begins.
        end: when it ends; later it may go on.
        speaker: ``speaker 1`` ... or a name of the store; None for nobody after all.
        corrects: whether it takes the place of what was said of these seconds before.
        also: who speaks at the same time, if anybody.
    """

    start: float
    end: float
    speaker: str | None
    corrects: bool
    also: str | None = None


class _Piece(NamedTuple):
    """A cell, in samples, and its speakers; with a voice where one speaks alone and clearly.

    ``sure`` is whether the speaker is more than the nearest of those who are known.
    """

    begin: int
    end: int
    doubled: bool
    voice: Voice | None
    row: np.ndarray
    speaker: LiveSpeaker | None
    second: LiveSpeaker | None
    sure: bool = True

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / SAMPLE_RATE


class _Run(NamedTuple):
    """Samples, and who is said to speak from one to the other."""

    begin: int
    end: int
    speaker: str
    also: str | None


class LiveDiarizer:
    """Tells who speaks while it hears; how the samples were cut changes nothing.

    Its memory grows with the turns alone. Two speak at once at most.

    Args:
        frames: makes the vectors.
        stream: takes the samples, from its beginning on.
        known: who of some vectors is known by what name.
        max_speakers: how many there are at most.
        scores: see ``Ticks``.
        alike: expected cosine from which on two speakers are one.

    Attributes:
        stream: of all speech, whoever speaks.
    """

    def __init__(
        self,
        frames: FrameEncoder,
        stream: EncoderStream,
        known: Known = strangers,
        max_speakers: int = MOST_SPEAKERS,
        scores: Scores = batch_scores,
        alike: float = ALIKE,
    ) -> None:
        self.stream = stream
        self._ticks = Ticks(frames, stream, scores)
        self._frames = frames
        self._known = known
        self._most = max_speakers
        self._speakers: list[LiveSpeaker] = []
        self._count = self._heard = 0
        self._memory = Memory(self._finish, alike)
        # By what they were called first.
        self._called_so: dict[str, LiveSpeaker] = {}
        # Cells that may still change, those of some seconds before them, and who spoke last.
        self._open: list[_Piece] = []
        self._past: deque[_Piece] = deque()
        self._last: LiveSpeaker | None = None
        # What was said of the seconds that may still change.
        self._said: list[_Run] = []
        # Sums of any cells, which say what the numbers of a row are.
        self._pattern: PoolingSums | None = None
        self._done: list[tuple[Turn, LiveSpeaker]] = []

    def add(self, samples: Samples) -> list[Said]:
        """Hear samples, see ``EncoderStream.add``.

        Returns:
            Who speaks in what is complete by now, and corrections.

        Raises:
            InputError: as ``EncoderStream.add``.
        """
        return [said for tick in self._ticks.add(samples) for said in self.hear(tick)]

    def finish(self) -> list[Said]:
        """What is left when the recording ends."""
        said = [each for tick in self._ticks.finish() for each in self.hear(tick)]
        self._tidy()
        if self._open:
            self._open = [self._certain(each) for each in self._open]
            said += self._say(self._open[0].begin)
            self._settle(self._open[-1].end)
        return said

    def turns(self, recording: str = "live") -> Turns:
        """The turns so far.

        Args:
            recording: its name.
        """
        found = [turn._replace(speaker=speaker.label) for turn, speaker in self._done]
        found += [
            Turn(each.begin / SAMPLE_RATE, each.end / SAMPLE_RATE, speaker.label)
            for each in self._open
            for speaker in (each.speaker, each.second)
            if speaker is not None
        ]
        rounded = [Turn(round(start, 3), round(end, 3), name) for start, end, name in found]
        # The cut at what may be corrected can leave less than a millisecond of a cell.
        some = tuple(turn for turn in rounded if turn.end > turn.start)
        return Turns(recording, some, self.stream.seconds).joined(PAUSE)

    @property
    def renamed(self) -> dict[str, str]:
        """What speakers were called, and are called by now: by a name, or as who they are too."""
        now = {label: speaker.label for label, speaker in self._called_so.items()}
        return {label: name for label, name in now.items() if name != label}

    def heard_of(self, speaker: str) -> tuple[PoolingSums, float]:
        """What somebody said alone so far, to be enrolled: sums, and seconds of speech.

        Args:
            speaker: as it is called by now, or was.

        Raises:
            InputError: nobody is called so, or never spoke alone.
        """
        found = self._called(speaker)
        row, seconds = together([found.voice, *self._open_voices(found)])
        if not seconds or self._pattern is None:
            raise InputError(f"{speaker}: never spoke alone.")
        return self._pattern.of_row(row), seconds

    def call(self, speaker: str, name: str) -> None:
        """Give somebody a name, from the beginning on.

        Raises:
            InputError: nobody is called so.
        """
        self._called(speaker).name = name

    def hear(self, tick: Tick) -> list[Said]:
        """What one more tick tells."""
        self._pattern = tick.sums or self._pattern
        self._settle(tick.begin)
        self._heard += 1
        if self._heard % TIDIED == 0:
            self._tidy()
        if len(tick.plan):
            judged = Judged.of(tick, self._finish)
            labels = self._assigned(judged)
            pieces = self._pieces(judged, labels, self._seconds(tick, labels))
            # What will be too old with the next tick is of somebody in any case.
            soon = tick.begin + STEP
            self._open = [self._certain(each) if each.begin < soon else each for each in pieces]
        else:
            self._open = []
        self._name()
        return self._say(tick.begin)

    def _called(self, speaker: str) -> LiveSpeaker:
        known = self._called_so
        found = next((each for each in known.values() if each.label == speaker), known.get(speaker))
        if found is None:
            raise InputError(f"{speaker}: nobody of that name spoke.")
        return found.now

    def _settle(self, until: int) -> None:
        """What is too old to be corrected becomes part of its speaker."""
        kept = []
        for each in self._open:
            if each.begin >= until:
                kept.append(each)
                continue
            if each.speaker is not None and each.voice and each.begin + each.end < 2 * until:
                whose = each.speaker if each.sure else None
                self._memory.add(each.begin, each.end, each.voice, whose)
            if each.end > until:
                kept.append(each._replace(begin=until))
            piece = each._replace(end=min(each.end, until))
            self._last = piece.speaker
            self._past.append(piece)
            for speaker in (piece.speaker, piece.second):
                if speaker is not None:
                    self._keep(piece, speaker)
        self._open = kept
        while self._past and self._past[0].end < until - REGION:
            self._past.popleft()

    def _certain(self, piece: _Piece) -> _Piece:
        """With a speaker in any case: at least whom it is nearest to."""
        if piece.speaker is not None:
            return piece
        if not self._speakers:
            return piece._replace(speaker=self._new(len(piece.row)))
        near = self._vectors() @ self._finish(piece.row[None])[0]
        return piece._replace(speaker=self._speakers[int(near.argmax())], sure=False)

    def _keep(self, piece: _Piece, speaker: LiveSpeaker) -> None:
        """Add a cell to the turns that stay."""
        start, end = piece.begin / SAMPLE_RATE, piece.end / SAMPLE_RATE
        for place in range(len(self._done) - 1, max(-1, len(self._done) - 4), -1):
            last, of = self._done[place]
            if of.now is speaker and start <= last.end + PAUSE:
                self._done[place] = last._replace(end=max(end, last.end)), speaker
                return
        self._done.append((Turn(start, end, ""), speaker))

    def _assigned(self, judged: Judged) -> np.ndarray:
        """(cells,) the place of each cell's speaker, behind the last for nobody so far."""
        known = {each: self._voice(each) for each in self._speakers}
        self._speakers = [each for each in self._speakers if known[each][1] > 0]
        voices = [known[each] for each in self._speakers] + judged.samples()
        if not voices:
            return np.zeros(len(judged.plan), int)
        groups = grouped(voices, len(self._speakers), self._finish)
        merged = [together([voices[place] for place in group]) for group in groups]
        count = len(self._speakers)
        fresh = [each for each in merged[count:] if each[1] >= NEW_SECONDS]
        fresh = fresh[: max(0, self._most - count)]
        others = [] if count + len(fresh) >= self._most else merged[count:]
        others = [each for each in others if each[1] < NEW_SECONDS]
        for row, _ in fresh:
            self._new(len(row))
        last = self._speakers.index(self._last) if self._last in self._speakers else None
        labels = judged.best([*merged[:count], *fresh, *others], last, self._finish)
        return np.minimum(labels, len(self._speakers))

    def _new(self, numbers: int) -> LiveSpeaker:
        self._count += 1
        self._speakers.append(LiveSpeaker(self._count, numbers))
        return self._speakers[-1]

    def _pieces(self, judged: Judged, labels: np.ndarray, seconds: np.ndarray) -> list[_Piece]:
        people = [*self._speakers, None]
        plan = judged.plan
        return [
            _Piece(
                begin,
                end,
                bool(plan.doubled[cell]),
                (judged.rows[cell], (end - begin) / SAMPLE_RATE) if judged.alone[cell] else None,
                judged.rows[cell],
                people[labels[cell]],
                people[seconds[cell]],
            )
            for cell, (begin, end) in enumerate(plan.bounds.tolist())
        ]

    def _seconds(self, tick: Tick, labels: np.ndarray) -> np.ndarray:
        """(cells,) who else speaks where two do, behind the last for nobody."""
        nobody = len(self._speakers)
        places = {speaker: place for place, speaker in enumerate(self._speakers)}
        past = [each for each in self._past if each.end > tick.origin]
        bounds = np.array([[each.begin, each.end] for each in past], int).reshape(-1, 2)
        plan = Plan(
            np.concatenate([bounds, tick.plan.bounds]) - tick.origin,
            np.concatenate([np.full(len(past), -1), tick.plan.segments]),
            np.array([*(each.doubled for each in past), *tick.plan.doubled], bool),
            np.concatenate([np.zeros(len(past)), tick.plan.changes]),
            np.ones(len(past) + len(labels), bool),
        )
        known = [places.get(each.speaker, nobody) if each.speaker else nobody for each in past]
        every = np.array([*known, *labels], int)
        if len(np.unique(every)) < 2:
            return np.full(len(labels), nobody)
        second = second_speakers(tick.talk, plan, every, Limits())[len(past) :]
        return np.where((second < 0) | (labels == nobody), nobody, second)

    def _name(self) -> None:
        """Names from the store; speakers of one name are one."""
        for speaker in self._speakers:
            voice = self._voice(speaker)
            if speaker.name is None and voice[1] >= speaker.asked + ASKED_AGAIN:
                speaker.asked = voice[1]
                speaker.name = self._known(self._finish(voice[0][None]))[0]
        named: dict[str, LiveSpeaker] = {}
        for speaker in self._speakers:
            if speaker.name is not None and named.setdefault(speaker.name, speaker) is not speaker:
                self._memory.join(speaker, named[speaker.name])
        self._renew()

    def _tidy(self) -> None:
        """Look at what was said lately again."""
        self._memory.tidy(self._speakers)
        self._renew()

    def _renew(self) -> None:
        """Where a speaker was who is another by now, that one is."""
        if all(each.now is each for each in self._speakers):
            return
        self._speakers = [each for each in self._speakers if each.now is each]
        for pieces in (self._open, self._past):
            for place, each in enumerate(pieces):
                first, second = each.speaker and each.speaker.now, each.second and each.second.now
                second = None if second is first else second
                pieces[place] = each._replace(speaker=first, second=second)
        self._last = self._last and self._last.now

    def _say(self, begin: int) -> list[Said]:
        """What differs from what was said before of the seconds from a sample on."""
        now = _runs(self._open)
        for each in self._open:
            for speaker in (each.speaker, each.second):
                if speaker is not None:
                    self._called_so.setdefault(speaker.label, speaker)
        before, self._said = [run for run in self._said if run.end > begin], now
        edges = {begin} | {edge for run in [*now, *before] for edge in run[:2] if edge > begin}
        said: list[Said] = []
        for start, end in pairwise(sorted(edges)):
            who, was = _at(now, start), _at(before, start)
            if who == was:
                continue
            name, also = who or (None, None)
            each = Said(start / SAMPLE_RATE, end / SAMPLE_RATE, name, was is not None, also)
            if said and said[-1].end == each.start and said[-1][2:] == each[2:]:
                said[-1] = said[-1]._replace(end=each.end)
            else:
                said.append(each)
        return said

    def _voice(self, speaker: LiveSpeaker) -> Voice:
        """What somebody said; of a new one, what it was taken for a tick ago too."""
        if speaker.voice[1] >= LITTLE:
            return speaker.voice
        return together([speaker.voice, *self._open_voices(speaker)])

    def _open_voices(self, speaker: LiveSpeaker) -> list[Voice]:
        return [each.voice for each in self._open if each.voice and each.speaker is speaker]

    def _vectors(self) -> np.ndarray:
        """float32 (speakers, dim)."""
        return self._finish(np.stack([self._voice(each)[0] for each in self._speakers]))

    def _finish(self, rows: np.ndarray) -> np.ndarray:
        """float32 unit vectors (rows, dim) of rows of sums; zeros of rows without frames."""
        found = np.zeros((len(rows), self._frames.ends.dim), np.float32)
        heard = rows[:, 0] > 0
        if heard.any() and self._pattern is not None:
            found[heard] = self._frames.finish(self._pattern.of_rows(rows[heard]))
        return found


def _runs(pieces: list[_Piece]) -> list[_Run]:
    """Pieces of the same speakers that touch, as one."""
    found: list[_Run] = []
    for each in pieces:
        if each.speaker is None:
            continue
        also = None if each.second is None else each.second.label
        run = _Run(each.begin, each.end, each.speaker.label, also)
        if found and found[-1][1:] == (run.begin, run.speaker, run.also):
            found[-1] = found[-1]._replace(end=run.end)
        else:
            found.append(run)
    return found


def _at(runs: list[_Run], sample: int) -> tuple[str, str | None] | None:
    """Who speaks at a sample."""
    return next((run[2:] for run in runs if run.begin <= sample < run.end), None)


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
    scores = scores_by(encoder.backend.beside(network_file()))
    stream = encoder.stream(sample_rate)
    return LiveDiarizer(encoder.frames, stream, known, max_speakers, scores, alike_by(encoder))
