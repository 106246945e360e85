"""The last seconds of a stream, heard as a recording is: speech, overlap, changes, and cells.

Every 1.25 s the segmentation hears the last 10 s, and the trunk the speech of the last 6 s. Each
moment so has several windows of the segmentation before it is too old to be corrected.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from speakervlad.audio.local_speakers import (
    FIRST_CENTRE,
    FRAME_SAMPLES,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    Heard,
    Scores,
    batch_scores,
    hear_window,
    merged,
)
from speakervlad.audio.samples import Samples
from speakervlad.audio.speech import BLOCK_FRAMES
from speakervlad.audio.speech import FRAME_SAMPLES as SILERO_SAMPLES
from speakervlad.audio.waves import SampleWave, SpeechWave
from speakervlad.diarization.cells import Plan, plan_cells, speech_cells
from speakervlad.diarization.talk import Talk
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.stream import EncoderStream
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

# Frames of the segmentation from tick to tick, 1.24875 s, and windows that are remembered.
STEP_FRAMES, WINDOWS = 74, 5
STEP = STEP_FRAMES * FRAME_SAMPLES
# Frames of all of them, and the samples.
REGION_FRAMES = (WINDOWS - 1) * STEP_FRAMES
REGION = REGION_FRAMES * FRAME_SAMPLES + WINDOW_SAMPLES
# What may be corrected, and speech before it that the trunk hears too. Samples.
OPEN, LEAD = 5 * SAMPLE_RATE, SAMPLE_RATE
# Samples are heard in pieces of at most so many seconds.
PIECE = 1.0
# The segmentation's share of the log odds of speech, and the bound: stricter than of a whole
# recording, since what is doubtful makes speakers out of noise who are there to stay.
SEGMENTATION_SHARE, BOUND = 0.8, 0.0


@dataclass(frozen=True)
class Tick:
    """The last seconds of a stream.

    Attributes:
        begin: first sample of what may be corrected, at 16 kHz.
        end: the sample behind the last that was heard.
        origin: the sample at which ``talk`` begins.
        talk: what the detectors heard.
        plan: the cells of the speech of ``talk`` from ``begin`` on, with bounds of the recording.
        rows: float32 (cells, numbers), see ``PoolingSums.row``; zeros of a cell without frames.
        sums: of some frames, as a pattern for the others; None without any.
    """

    begin: int
    end: int
    origin: int
    talk: Talk
    plan: Plan
    rows: np.ndarray
    sums: PoolingSums | None


class Ticks:
    """The ticks of a stream, each as soon as its samples are there.

    Args:
        frames: makes the sums.
        stream: takes the samples, from its beginning on.
        scores: the segmentation's network.
    """

    def __init__(
        self, frames: FrameEncoder, stream: EncoderStream, scores: Scores = batch_scores
    ) -> None:
        self._frames = frames
        self._scores = scores
        self._stream = stream
        self._sound = np.zeros(REGION, np.float32)
        # Sample behind the last of what is kept, and where the next tick ends.
        self._end, self._next = 0, STEP
        self._windows: deque[Heard] = deque(maxlen=WINDOWS)

    def add(self, samples: Samples) -> Iterator[Tick]:
        """Hear samples, see ``EncoderStream.add``, and yield the ticks that are complete now."""
        piece = max(1, round(PIECE * self._stream.sample_rate))
        count = len(samples)
        for start in range(0, max(count, 1), piece):
            self._stream.add(samples if count <= piece else samples[start : start + piece])
            yield from self._complete(self._stream.newest)

    def finish(self) -> Iterator[Tick]:
        """Yield what is left when the recording ends."""
        if self._stream.has_ended:
            return
        self._stream.finish()
        yield from self._complete(self._stream.newest)
        if self._end > self._next - STEP:
            rest = self._next - self._end
            self._keep(np.zeros(rest, np.float32))
            yield self._tick(self._next - rest)

    def _complete(self, samples: np.ndarray) -> Iterator[Tick]:
        while self._end + len(samples) >= self._next:
            now = self._next - self._end
            self._keep(samples[:now])
            samples = samples[now:]
            self._next += STEP
            yield self._tick(self._end)
        self._keep(samples)

    def _keep(self, samples: np.ndarray) -> None:
        self._sound = np.concatenate([self._sound, samples])[-REGION:]
        self._end += len(samples)

    def _tick(self, end: int) -> Tick:
        """What is known at sample ``end``, behind which silence was added, if anything."""
        self._windows.append(hear_window(self._sound[-WINDOW_SAMPLES:], self._scores))
        origin = self._end - REGION
        talk = self._talk(origin)
        begin = max(0, end - OPEN)
        plan = plan_cells(talk)
        heard = _part(plan, begin - LEAD - origin, end - origin)
        rows, sums = self._rows(heard)
        moved = replace(heard, bounds=heard.bounds + origin)
        later = np.flatnonzero(moved.bounds[:, 1] > begin)
        cells = _part(moved, begin, end)
        return Tick(begin, end, origin, talk, cells, rows[later], sums)

    def _talk(self, origin: int) -> Talk:
        starts = STEP_FRAMES * np.arange(WINDOWS - len(self._windows), WINDOWS)
        local = merged(REGION, REGION_FRAMES + WINDOW_FRAMES, starts, list(self._windows))
        probabilities, first = self._stream.speech_heard()
        # Those of blocks that have ended by now, however the samples came.
        count = self._end // (SILERO_SAMPLES * BLOCK_FRAMES) * BLOCK_FRAMES - first
        count = min(count, len(probabilities))
        theirs = SILERO_SAMPLES * (first + np.arange(len(probabilities)) + 0.5) - origin
        middles = FIRST_CENTRE + FRAME_SAMPLES * np.arange(len(local))
        heard = np.interp(middles, theirs[:count], probabilities[:count], left=0.0)
        late = middles > theirs[count - 1] if count > 0 else np.ones(len(local), bool)
        silero = np.where(late, local.speech, heard)
        return Talk(local, silero.astype(np.float32), SEGMENTATION_SHARE, BOUND)

    def _rows(self, plan: Plan) -> tuple[np.ndarray, PoolingSums | None]:
        if not len(plan):
            return np.zeros((0, 1), np.float32), None
        cells = speech_cells(self._frames, SpeechWave(SampleWave(self._sound), plan.spans()), plan)
        rows = cells.moments.read(0, len(plan)) * cells.scales[:, None]
        return rows, cells.sums


def _part(plan: Plan, begin: int, end: int) -> Plan:
    """The cells between two samples, those on the edges cut."""
    inside = (plan.bounds[:, 1] > begin) & (plan.bounds[:, 0] < end)
    return Plan(
        plan.bounds[inside].clip(begin, end),
        plan.segments[inside],
        plan.doubled[inside],
        plan.changes[inside],
        plan.clear[inside],
    )
