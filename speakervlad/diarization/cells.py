"""The speech of a recording in small cells, whose pooling sums add up to whatever is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from speakervlad.audio.waves import SampleWave, SpeechWave
from speakervlad.diarization.rows import Rows
from speakervlad.diarization.talk import Talk, runs
from speakervlad.encoder.frames import CHUNK_SECONDS, FrameEncoder
from speakervlad.models.sums import PoolingSums
from speakervlad.progress import track
from speakervlad.sound import SAMPLE_RATE

# Seconds of the longest cell, and of speech that the trunk sees at once if every frame sees all.
CELL, PIECE = 0.16, 10.0
# Of a network that gives one vector and no frames: seconds of a window, and from one to the next.
WINDOW, HOP = 1.5, 0.4
# A change of speaker that this share of the windows hears is one.
HEARD_CHANGE = 0.5
# Rows that are multiplied at once.
BLOCK = 512
# Largest number of a row in float16, so that the least ones keep their digits.
FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Plan:
    """The cells of a recording's speech, in order, none of which crosses a pause or a change.

    Attributes:
        bounds: int (cells, 2), first sample of each and the one behind its last.
        segments: int (cells,), which stretch of speech each is of.
        doubled: bool (cells,), whether two speak in it.
        changes: float (cells,), how sure it is that another speaker goes on where it begins.
        clear: bool (cells,), whether its speech is clear enough to tell whose it is.
    """

    bounds: np.ndarray
    segments: np.ndarray
    doubled: np.ndarray
    changes: np.ndarray
    clear: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds)

    @property
    def seconds(self) -> np.ndarray:
        """(cells,) how long each is."""
        return (self.bounds[:, 1] - self.bounds[:, 0]) / SAMPLE_RATE

    @property
    def middles(self) -> np.ndarray:
        """(cells,) seconds of the recording."""
        return self.bounds.mean(axis=1) / SAMPLE_RATE

    def spans(self) -> np.ndarray:
        """(segments, 2) samples of the stretches of speech."""
        first = np.flatnonzero(np.diff(self.segments, prepend=-1))
        last = np.append(first[1:], len(self)) - 1
        return np.stack([self.bounds[first, 0], self.bounds[last, 1]], axis=1)


def plan_cells(talk: Talk) -> Plan:
    """Cut the speech where it pauses, where overlap begins or ends, and where speakers change."""
    edges, overlap, changes = talk.local.edges(), talk.overlap(), talk.changes()
    cuts = np.flatnonzero(np.diff(overlap)) + 1
    cuts = np.union1d(cuts, peaks(changes))
    bounds, segments, doubled, sure = [], [], [], []
    for segment, (first, stop) in enumerate(runs(talk.speech()).tolist()):
        inner = [first, *cuts[(cuts > first) & (cuts < stop)].tolist(), stop]
        for begin, end in pairwise(inner):
            start, behind = int(edges[begin]), int(edges[end])
            count = max(1, round((behind - start) / SAMPLE_RATE / CELL))
            fine = np.linspace(start, behind, count + 1).astype(int)
            bounds.append(np.stack([fine[:-1], fine[1:]], axis=1))
            segments += [segment] * count
            doubled += [bool(overlap[begin])] * count
            sure += [float(changes[begin]), *[0.0] * (count - 1)]
    found = np.concatenate([np.zeros((0, 2), int), *bounds])
    is_clear = _clear(found, edges, talk.clear())
    return Plan(found, np.array(segments, int), np.array(doubled, bool), np.array(sure), is_clear)


def _clear(bounds: np.ndarray, edges: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """(cells,) bool: whether most of each is clear; all of them where none is."""
    total = np.concatenate([[0], (np.diff(edges) * clear).cumsum()])
    heard = np.diff(np.interp(bounds, edges, total), axis=1)[:, 0]
    found = 2 * heard >= bounds[:, 1] - bounds[:, 0]
    return found | ~found.any()


def peaks(changes: np.ndarray) -> np.ndarray:
    """Where a curve of changes is highest, in the middle of each stretch above ``HEARD_CHANGE``."""
    found = [
        start + int(np.median(np.flatnonzero(changes[start:stop] == changes[start:stop].max())))
        for start, stop in runs(changes >= HEARD_CHANGE).tolist()
    ]
    return np.array(found, int)


@dataclass(frozen=True)
class SpeechCells:
    """Pooling sums of the frames of every cell.

    Attributes:
        encoder: what the frames were computed by.
        plan: the cells.
        sizes: int (cells,), frames in each; a short one may have none.
        moments: (cells, numbers): ``PoolingSums.row`` of each, divided by its scale.
        scales: float32 (cells,), which the moments are to be multiplied with.
        sums: of some frames, as a pattern for the others; None without any.
    """

    encoder: FrameEncoder
    plan: Plan
    sizes: np.ndarray
    moments: Rows
    scales: np.ndarray
    sums: PoolingSums | None

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def alone(self) -> np.ndarray:
        """(cells,) bool: whether one speaks, clearly, and there are frames of it."""
        return ~self.plan.doubled & self.plan.clear & (self.sizes > 0)

    def windows(self, length: float, hop: float, *, across: bool = True) -> np.ndarray:
        """(windows, 2) cells: windows that cover each stretch, the last of which ends with it.

        Args:
            length: seconds of a window; a shorter stretch is one window.
            hop: seconds from window to window.
            across: whether a window may cross a change of speaker.
        """
        begins = np.diff(self.plan.segments, prepend=-1) != 0
        if not across:
            begins |= self.plan.changes >= HEARD_CHANGE
        edges = np.append(np.flatnonzero(begins), len(self))
        found = []
        for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            times = np.concatenate([[0], self.plan.seconds[first:stop].cumsum()])
            last = max(times[-1] - length, 0)
            starts = np.append(np.arange(0, last, hop), last)
            begin = np.searchsorted(times, starts + 1e-6, "right") - 1
            end = np.searchsorted(times, starts + length - 1e-6)
            found.append(first + np.stack([begin, np.minimum(end, stop - first)], axis=1))
        return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), int)

    def around(self, reach: float) -> np.ndarray:
        """(cells, 2): the cells of its stretch with middles within ``reach`` seconds of each."""
        middles, numbers = self.plan.middles, self.plan.segments
        edges = np.append(np.flatnonzero(np.diff(numbers, prepend=-1)), len(self))
        first = np.maximum(np.searchsorted(middles, middles - reach), edges[numbers])
        stop = np.minimum(np.searchsorted(middles, middles + reach, "right"), edges[numbers + 1])
        return np.stack([first, stop], axis=1)

    def seconds_alone(self, spans: np.ndarray) -> np.ndarray:
        """(spans,) seconds of one speaker in spans (spans, 2) of cells."""
        total = np.concatenate([[0], (self.plan.seconds * self.alone).cumsum()])
        return total[spans[:, 1]] - total[spans[:, 0]]

    def vectors(self, spans: np.ndarray) -> np.ndarray:
        """float32 unit vectors (spans, dim) of what one speaker alone says in spans (spans, 2).

        Zeros where nobody is alone.
        """
        blocks = (spans[at : at + BLOCK] for at in range(0, len(spans), BLOCK))
        found = [self.finish(self._sums(block)) for block in blocks]
        return np.concatenate([np.zeros((0, self.encoder.ends.dim), np.float32), *found])

    def speaker_vectors(self, labels: np.ndarray) -> np.ndarray:
        """float32 (speakers, dim): unit vectors of ``speaker_sums``."""
        return self.finish(self.speaker_sums(labels))

    def speaker_sums(self, labels: np.ndarray) -> np.ndarray:
        """float64 (speakers, numbers): of all cells of each label from 0 on, alone; they add up.

        Of a speaker who is never alone, all cells count.
        """
        chosen = (labels >= 0) & (self.alone | ~np.isin(labels, labels[self.alone]))
        total = np.zeros((labels.max() + 1, self.moments.shape[1]))
        for first in range(0, len(self), BLOCK):
            stop = min(first + BLOCK, len(self))
            cells = first + np.flatnonzero(chosen[first:stop])
            factors = np.zeros((len(total), stop - first), np.float32)
            factors[labels[cells], cells - first] = self.scales[cells]
            total += factors @ self.moments.read(first, stop)
        return total

    def _sums(self, spans: np.ndarray) -> np.ndarray:
        """(spans, moments) of spans of cells that lie near each other."""
        from scipy.sparse import csr_array

        first, stop = spans[:, 0].min(), spans[:, 1].max()
        counts = spans[:, 1] - spans[:, 0]
        ends = np.concatenate([[0], counts.cumsum()])
        cells = np.arange(ends[-1]) + np.repeat(spans[:, 0] - ends[:-1], counts)
        factors = (self.scales * self.alone)[cells]
        shape = (len(spans), int(stop - first))
        chosen = csr_array((factors, cells - first, ends), shape=shape)
        return chosen @ self.moments.read(int(first), int(stop))

    def finish(self, rows: np.ndarray) -> np.ndarray:
        """float32 unit vectors (rows, dim) of rows of sums; zeros of rows without frames."""
        found = np.zeros((len(rows), self.encoder.ends.dim), np.float32)
        heard = rows[:, 0] > 0
        if heard.any():
            assert self.sums is not None
            found[heard] = self.encoder.finish(self.sums.of_rows(rows[heard]))
        return found


def speech_cells(encoder: FrameEncoder, speech: SpeechWave, plan: Plan) -> SpeechCells:
    """Run the trunk once over the speech of a recording, of which a piece is in memory.

    Args:
        encoder: network and what is around it.
        speech: what lies in ``plan.spans()`` of the recording.
        plan: its cells.
    """
    edges = np.concatenate([[0], (plan.bounds[:, 1] - plan.bounds[:, 0]).cumsum()])
    found = _Sums(len(plan))
    seconds = PIECE if encoder.ends.grid.context is None else CHUNK_SECONDS
    count = max(1, round(speech.num_samples / SAMPLE_RATE / seconds))
    for centres, frames, weights in track(_frames(encoder, speech), "listening", count):
        cells = np.searchsorted(edges, centres, "right") - 1
        for cell, first, stop in _groups(cells, len(plan)):
            part = None if weights is None else weights[:, first:stop]
            sums = PoolingSums.empty(encoder.ends.pooling).add(frames[:, first:stop], part)
            found.add(cell, sums)
    return SpeechCells(encoder, plan, found.sizes, found.moments, found.scales, found.sums)


class _Sums:
    """The sums of cells as ``SpeechCells`` has them, while they are found one after the other."""

    def __init__(self, count: int) -> None:
        self.sizes, self.scales = np.zeros(count, int), np.zeros(count, np.float32)
        self.moments = Rows(count, 0)
        self.sums: PoolingSums | None = None
        # The last row, of whose cell more frames may come.
        self._row = np.zeros(0)

    def add(self, cell: int, sums: PoolingSums) -> None:
        """More frames, of the last cell or a later one."""
        row = sums.row()
        if self.sums is None:
            self.sums, self.moments = sums, Rows(len(self.sizes), len(row))
        self._row = row + self._row if self.sizes[cell] else row
        self.scales[cell] = np.abs(self._row).max() / FULL_SCALE
        self.moments.write(cell, self._row / self.scales[cell])
        self.sizes[cell] += sums.num_frames


def _groups(cells: np.ndarray, num_cells: int) -> Iterator[tuple[int, int, int]]:
    """Yield each cell with its first frame and the one behind its last."""
    begins = np.flatnonzero(np.diff(cells, prepend=-2))
    ends = np.append(begins[1:], len(cells))
    for first, stop in zip(begins.tolist(), ends.tolist(), strict=True):
        if 0 <= cells[first] < num_cells:
            yield int(cells[first]), first, stop


def _frames(
    encoder: FrameEncoder, speech: SpeechWave
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield the samples of the speech that frames have their centres at, descriptors, weights."""
    grid = encoder.ends.grid
    if not grid.has_frames:
        yield from _window_frames(encoder, speech)
        return
    whole = speech.num_samples
    piece = whole if grid.context is not None else round(PIECE * SAMPLE_RATE)
    count = max(1, round(whole / piece))
    for number in range(count):
        start, stop = number * piece, whole if number == count - 1 else (number + 1) * piece
        at, part = start, speech if count == 1 else SampleWave(speech.read(start, stop))
        done = 0
        for frames, weights in encoder.frames(part, mirror=False):
            times = grid.times(done + frames.shape[1])[done:]
            done += frames.shape[1]
            yield at + np.rint(times * SAMPLE_RATE).astype(int), frames, weights


def _window_frames(
    encoder: FrameEncoder, speech: SpeechWave
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same of a network without frames, whose windows cross no pause."""
    edges = [0, *np.cumsum(speech.spans[:, 1] - speech.spans[:, 0]).tolist()]
    for start, stop in pairwise(edges):
        yield from encoder.window_frames(speech, start, stop, WINDOW, HOP)
