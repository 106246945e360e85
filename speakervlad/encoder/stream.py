"""The embedding of what was said so far, while samples arrive.

The speech so far is cut at fixed multiples of ``ends.piece_seconds`` (``plan_pieces``), every piece
is computed for itself, and the sums of the pieces are added: the definition that ``Encoder.embed``
has for recordings of which only speech counts, too. The piece that goes on is held back.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from speakervlad.audio.live import LiveSpeech, Spoken, State, state_of
from speakervlad.audio.samples import Samples
from speakervlad.audio.speech import MIN_SPEECH_SECONDS
from speakervlad.audio.waves import SampleWave
from speakervlad.encoder.frames import LEAST_PIECE_SECONDS, FrameEncoder
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.models.moments import arrays_of, sums_of
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

FORMAT = "speakervlad-stream-1"
# The last speech, of which windows can be embedded.
RECENT_SECONDS = 12.0
RECENT_SAMPLES = round(RECENT_SECONDS * SAMPLE_RATE)


class EncoderStream:
    """One voice, or several, while they speak; what ``Encoder.stream`` returns.

    What it gives depends on the samples that have arrived, and not on how they were cut; after
    ``finish`` it is what ``embed`` gives of them with ``speech_only``. Its memory does not grow.
    One thread at a time may use it.

    Args:
        frames: makes the embeddings.
        sample_rate: of the samples, a whole number of Hz.
        fingerprint: of the encoder, if it has one.

    Attributes:
        fingerprint: what tells the encoder from others.
        has_ended: whether no more samples come.

    Raises:
        InputError: an impossible rate.
    """

    def __init__(
        self, frames: FrameEncoder, sample_rate: int = SAMPLE_RATE, fingerprint: str | None = None
    ) -> None:
        self._frames = frames
        self.fingerprint = fingerprint
        self._speech = LiveSpeech(sample_rate)
        self._sums = PoolingSums.empty(frames.ends.pooling)
        # Samples of speech in all, in pieces that are complete, and those that are kept: the last.
        self._num_spoken = self._num_summed = 0
        self._kept = np.zeros(0, np.float32)
        # Where in the recording the kept speech lies: (stretches, 2) its sample in the speech, and
        # in the recording.
        self._places = np.zeros((0, 2), np.int64)
        self._known: tuple[int, np.ndarray] | None = None
        self.has_ended: bool = False

    @property
    def sample_rate(self) -> int:
        """Of the samples that arrive, in Hz."""
        return self._speech.resampler.sample_rate

    @property
    def seconds(self) -> float:
        """How much has arrived."""
        return self._speech.seconds

    @property
    def speech_seconds(self) -> float:
        """How much of it is speech, as far as that is certain: the last 0.3 s are not, at most."""
        return self._num_spoken / SAMPLE_RATE

    @property
    def embedding(self) -> np.ndarray | None:
        """float32 unit vector (dim,) of the speech so far; None below 0.25 s of it.

        It costs what the speech of the last piece does, up to 12 s; asked again before there is
        more speech, nothing.
        """
        if self.speech_seconds < MIN_SPEECH_SECONDS:
            return None
        if self._known is None or self._known[0] != self._num_spoken:
            self._known = self._num_spoken, self._frames.finish(self.sums)
        return self._known[1].copy()

    @property
    def sums(self) -> PoolingSums:
        """What the speech so far adds up to, see ``Encoder.sums``."""
        going_on = self._num_spoken - self._num_summed
        if not going_on:
            return self._sums
        return self._sums.merge(self._frames.sums(SampleWave(self._kept[-going_on:])))

    def add(self, samples: Samples) -> None:
        """Hear samples of one channel.

        Args:
            samples: any number (samples,): floats in [-1, 1], beyond which they are clipped, or
                integers of at most 32 bits.

        Raises:
            InputError: not one dimension of finite numbers, of which nothing is heard then; or the
                stream has ended.
        """
        self.check_open()
        self._keep(self._speech.add(samples))

    def finish(self) -> None:
        """Say that no more samples come, so that the last ones count too."""
        if not self.has_ended:
            self.has_ended = True
            self._keep(self._speech.finish())

    def check_open(self) -> None:
        """Refuse to go on behind the end.

        Raises:
            InputError: ``finish`` was called.
        """
        if self.has_ended:
            raise InputError("stream: has ended. Begin another with encoder.stream().")

    @property
    def newest(self) -> np.ndarray:
        """float32 samples at 16 kHz that the last call added, speech or not."""
        return self._speech.newest

    def speech_heard(self) -> tuple[np.ndarray, int]:
        """Probabilities of speech in the last frames (frames,), and the number of the first."""
        recent = np.array(self._speech.finder.recent, np.float32)
        return recent, self._speech.finder.num_frames - len(recent)

    @property
    def num_spoken(self) -> int:
        """Samples of speech at 16 kHz, as far as that is certain."""
        return self._num_spoken

    def spoken(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` to ``stop`` of the speech, of its last ``RECENT_SECONDS``, float32."""
        first = self._num_spoken - len(self._kept)
        return self._kept[max(0, start - first) : max(0, stop - first)]

    def pause_behind(self, start: int, least: int) -> int | None:
        """The first sample of the speech behind ``start`` that a pause lies before.

        Args:
            start: sample of the speech.
            least: samples of the pause.

        Returns:
            The number of all samples, where the recording pauses now; None without a pause.
        """
        begins, places = self._places.T
        gaps = np.diff(places) - np.diff(begins)
        found = begins[1:][(gaps >= least) & (begins[1:] > start)]
        if len(found):
            return int(found[0])
        pauses = len(places) and self._speech.finder.needed_from - self.place_of(
            self._num_spoken, is_end=True
        )
        return self._num_spoken if pauses >= least and self._num_spoken > start else None

    def place_of(self, at: int, *, is_end: bool = False) -> int:
        """The sample of the recording, at 16 kHz, that a sample of the speech is.

        Args:
            at: sample of the speech; earlier ones than those of the last ``RECENT_SECONDS`` are
                where these begin.
            is_end: whether it is the one behind the last of some.
        """
        if not len(self._places):
            return 0
        side = "left" if is_end else "right"
        row = max(0, int(np.searchsorted(self._places[:, 0], at, side)) - 1)
        begin, place = self._places[row].tolist()
        return place + max(0, at - begin)

    def save(self, path: str | Path) -> None:
        """Write all that another stream needs to go on: ``Encoder.load_stream`` reads it.

        At other rates than 16 kHz the samples behind the cut differ by 1e-6, since a filter cannot
        be written down.

        Raises:
            InputError: the path cannot be written.
        """
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **self.state())

    def state(self) -> State:
        """All that it remembers, as arrays of numbers and text."""
        own = {
            "format": np.array(FORMAT),
            "encoder": np.array(self.fingerprint or ""),
            "sample_rate": np.array(self.sample_rate),
            "has_ended": np.array(self.has_ended),
            "counts": np.array([self._num_spoken, self._num_summed], np.int64),
            "kept": self._kept,
            "places": self._places,
        }
        speech = {f"speech.{name}": value for name, value in self._speech.state().items()}
        has_sums = bool(self._sums.num_frames)
        sums = arrays_of(self._sums) if has_sums else {}
        return own | speech | {f"sums.{name}": value for name, value in sums.items()}

    @classmethod
    def of_state(
        cls, frames: FrameEncoder, state: Mapping[str, np.ndarray], fingerprint: str | None
    ) -> Self:
        """The stream that a state is of.

        Raises:
            InputError: it is of another encoder.
            KeyError, ValueError, TypeError: it is no state.
        """
        if str(state["format"]) != FORMAT:
            raise ValueError(f"its format is {str(state['format'])[:40]!r}, not {FORMAT!r}")
        if str(state["encoder"]) != (fingerprint or ""):
            raise InputError("is of another encoder. Load the one that it was saved with.")
        stream = cls(frames, int(state["sample_rate"]), fingerprint)
        stream._speech.restore(state_of(state, "speech"))
        stream.has_ended = bool(state["has_ended"])
        counts = np.asarray(state["counts"], np.int64).reshape(2).tolist()
        stream._num_spoken, stream._num_summed = counts
        stream._kept = np.asarray(state["kept"], np.float32).reshape(-1)
        stream._places = np.asarray(state["places"], np.int64).reshape(-1, 2)
        sums = state_of(state, "sums")
        if sums:
            stream._sums = sums_of(sums, frames.ends.pooling)
        open_samples = stream._num_spoken - stream._num_summed
        if not 0 <= open_samples <= len(stream._kept) or not np.isfinite(stream._kept).all():
            raise ValueError("its samples do not fit their number")
        return stream

    def _keep(self, found: list[Spoken]) -> None:
        """More speech; pieces that are complete are added up."""
        for spoken in found:
            self._places = np.append(self._places, [[self._num_spoken, spoken.begin]], axis=0)
            self._kept = np.concatenate([self._kept, spoken.samples])
            self._num_spoken += len(spoken.samples)
        piece = round(self._frames.ends.piece_seconds * SAMPLE_RATE)
        least = round(LEAST_PIECE_SECONDS * SAMPLE_RATE)
        while (going_on := self._num_spoken - self._num_summed) >= piece + least:
            start = len(self._kept) - going_on
            sums = self._frames.sums(SampleWave(self._kept[start : start + piece]))
            self._sums = self._sums.merge(sums)
            self._num_summed += piece
        needless = len(self._kept) - max(going_on, RECENT_SAMPLES)
        if needless > 0:
            self._kept = self._kept[needless:]
            first = self._num_spoken - len(self._kept)
            row = max(0, int(np.searchsorted(self._places[:, 0], first, "right")) - 1)
            self._places = self._places[row:]


def load_stream(
    frames: FrameEncoder, path: str | Path, fingerprint: str | None = None
) -> EncoderStream:
    """The stream that ``EncoderStream.save`` wrote, which goes on.

    Raises:
        InputError: no such file, damaged, or of another encoder.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            state = {name: file[name] for name in file.files}
        return EncoderStream.of_state(frames, state, fingerprint)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, EOFError,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise InputError(f"{path}: no stream, or damaged ({error}).") from error
