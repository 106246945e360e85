"""Samples that arrive piece by piece, at any rate: at 16 kHz, and of these the speech."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import soxr

from speakervlad.audio.decoding import MAX_RATE, MIN_RATE
from speakervlad.audio.reading import resampled_length
from speakervlad.audio.samples import Samples, clipped_samples
from speakervlad.audio.speech import SpeechFinder
from speakervlad.errors import InputError, check_range
from speakervlad.sound import SAMPLE_RATE

# Of samples that another resampler begins with: soxr waits for 0.12 s at most and rings for 0.05.
TAIL_SECONDS = 0.5

State = dict[str, np.ndarray]


class Resampler:
    """To 16 kHz, as if all samples were resampled at once, however they were cut.

    Args:
        sample_rate: of the samples, a whole number of Hz.

    Attributes:
        num_samples: how many have arrived.

    Raises:
        InputError: an impossible rate.
    """

    def __init__(self, sample_rate: int) -> None:
        check_range("sample_rate", sample_rate, at_least=MIN_RATE, at_most=MAX_RATE)
        if sample_rate != int(sample_rate):
            raise InputError(f"sample_rate={sample_rate}: a stream has a whole number of Hz.")
        self.sample_rate = int(sample_rate)
        self.num_samples = 0
        # Samples that come with the same phase every so many.
        divisor = math.gcd(self.sample_rate, SAMPLE_RATE)
        self._period = self.sample_rate // divisor, SAMPLE_RATE // divisor
        self._stream = self._open()
        self._num_given = self._num_left_out = 0
        # The last samples, from which another stream goes on; and those that it has to hear again.
        self._tail = self._unheard = np.zeros(0, np.float32)

    def add(self, samples: np.ndarray) -> np.ndarray:
        """float32 (samples,) to those at 16 kHz that are certain now."""
        self.num_samples += len(samples)
        if self.sample_rate == SAMPLE_RATE:
            return samples
        self._tail = np.concatenate([self._tail, samples])
        needless = max(0, len(self._tail) - math.ceil(TAIL_SECONDS * self.sample_rate))
        self._tail = self._tail[needless // self._period[0] * self._period[0] :]
        return self._resampled(samples, last=False)

    def finish(self) -> np.ndarray:
        """What was not certain yet, when the recording ends."""
        if self.sample_rate == SAMPLE_RATE or not self.num_samples:
            return np.zeros(0, np.float32)
        rest = self._resampled(np.zeros(0, np.float32), last=True)
        length = resampled_length(self.num_samples, self.sample_rate, SAMPLE_RATE)
        return rest[: max(0, len(rest) - max(0, self._num_given - length))]

    def state(self) -> State:
        """What it remembers, for ``restore``."""
        return {
            "tail": self._tail,
            "counts": np.array([self.num_samples, self._num_given], np.int64),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where a resampler of the same rate was: to 1e-6, as its filter begins anew.

        Raises:
            KeyError, ValueError: it is none.
        """
        counts = np.asarray(state["counts"], np.int64).reshape(2).tolist()
        tail = np.asarray(state["tail"], np.float32).reshape(-1)
        begin = counts[0] - len(tail)
        if self.sample_rate != SAMPLE_RATE and (begin < 0 or begin % self._period[0]):
            raise ValueError("not the state of this sample rate")
        self.num_samples, self._num_given = counts
        self._tail, self._unheard, self._stream = tail, tail, self._open()
        self._num_left_out = self._num_given - begin // self._period[0] * self._period[1]
        if self.sample_rate != SAMPLE_RATE and self._num_left_out < 0:
            raise ValueError("samples that do not fit their number")

    def _open(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(self.sample_rate, SAMPLE_RATE, 1, dtype="float32")

    def _resampled(self, samples: np.ndarray, *, last: bool) -> np.ndarray:
        """Without what another stream gave before, and within [-1, 1]."""
        heard, self._unheard = np.concatenate([self._unheard, samples]), samples[:0]
        resampled = self._stream.resample_chunk(heard, last=last)
        left_out = min(self._num_left_out, len(resampled))
        self._num_left_out -= left_out
        self._num_given += len(resampled) - left_out
        return np.clip(resampled[left_out:], -1, 1)


class Spoken(NamedTuple):
    """Speech that was found, in one piece.

    Attributes:
        begin: the sample of the recording, at 16 kHz, that it begins with.
        samples: float32 (samples,).
    """

    begin: int
    samples: np.ndarray


class LiveSpeech:
    """The speech of samples that arrive piece by piece; what was handed out is not kept.

    It is that of ``Recording(..., speech_only=True)`` of the same samples, however they were cut.

    Args:
        sample_rate: of the samples, a whole number of Hz.

    Attributes:
        finder: what finds it.
        resampler: what comes before that.
        newest: float32 samples at 16 kHz, speech or not, that were certain with the last call.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        self.resampler = Resampler(sample_rate)
        self.finder = SpeechFinder()
        self._kept = self.newest = np.zeros(0, np.float32)
        # First sample that is kept, and that behind the last that was handed out.
        self._begin = self._given = 0

    @property
    def seconds(self) -> float:
        """How much has arrived."""
        return self.resampler.num_samples / self.resampler.sample_rate

    def add(self, samples: Samples) -> list[Spoken]:
        """Hear samples of one channel.

        Args:
            samples: any number: floats in [-1, 1], beyond which they are clipped, or integers of at
                most 32 bits.

        Returns:
            The speech that is certain by now and was not returned before, in order.

        Raises:
            InputError: not one dimension of finite numbers; nothing of them is heard then.
        """
        return self._hear(self.resampler.add(clipped_samples(samples, "stream")))

    def finish(self) -> list[Spoken]:
        """The speech that is not certain before the recording ends."""
        found = self._hear(self.resampler.finish())
        ended = self.finder.finish()
        return found + [each for span in ended for each in self._take(*span)]

    def state(self) -> State:
        """What it remembers, for ``restore``."""
        own = {"kept": self._kept, "counts": np.array([self._begin, self._given], np.int64)}
        parts = {"finder": self.finder.state(), "resampler": self.resampler.state(), "speech": own}
        return {
            f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where another was.

        Raises:
            KeyError, ValueError: it is no state of one.
        """
        self.finder.restore(state_of(state, "finder"))
        self.resampler.restore(state_of(state, "resampler"))
        own = state_of(state, "speech")
        self._kept = np.asarray(own["kept"], np.float32).reshape(-1)
        self._begin, self._given = np.asarray(own["counts"], np.int64).reshape(2).tolist()
        if self._begin + len(self._kept) != self.finder.num_samples:
            raise ValueError("samples that do not fit their number")

    def _hear(self, samples: np.ndarray) -> list[Spoken]:
        self.newest = samples
        self._kept = np.concatenate([self._kept, samples])
        spans = self.finder.add(samples)
        if self.finder.going_on is not None:
            spans.append(self.finder.going_on)
        found = [each for span in spans for each in self._take(*span)]
        needless = max(self._given, self.finder.needed_from) - self._begin
        if needless > 0:
            self._kept, self._begin = self._kept[needless:], self._begin + needless
        return found

    def _take(self, start: int, stop: int) -> list[Spoken]:
        """What was not handed out yet of some speech."""
        start = max(start, self._given)
        if start >= stop:
            return []
        self._given = stop
        return [Spoken(start, self._kept[start - self._begin : stop - self._begin].copy())]


def state_of(state: Mapping[str, np.ndarray], name: str) -> State:
    """The part of a state that has a name, by its own keys."""
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
