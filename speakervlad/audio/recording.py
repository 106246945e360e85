"""Recordings as something to read spans from, so that hours of audio need not fit into memory."""

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np
import soxr

from speakervlad.audio.decoding import MAX_RATE, MIN_RATE
from speakervlad.audio.reading import (
    Level,
    audio_blocks,
    check_speech,
    counted_length,
    finite_peak,
    fitting,
    read_audio,
    read_speech,
    speech_blocks,
    warn_of_poor,
)
from speakervlad.audio.speech import Span, check_spoken, speech_spans
from speakervlad.errors import InputError, check_range
from speakervlad.sound import SAMPLE_RATE

logger = logging.getLogger(__name__)

# Longer files stay on disk: as they are where a span is one seek, else their decoded samples.
MEMORY_SECONDS = 300
# Of a wave that is read from its beginning to its end.
BLOCK_SAMPLES = 30 * SAMPLE_RATE

# Samples in memory: an array, a list, a torch tensor.
Samples = np.ndarray | Sequence[float]
Audio = str | Path | bytes | BinaryIO | Samples


class Wave(Protocol):
    """Mono samples at 16 kHz of known length."""

    @property
    def num_samples(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """float32 samples ``start`` to ``stop``."""
        ...


class SampleWave:
    """Samples in memory, shape ``(samples,)``."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples
        self.num_samples = len(samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.samples[start:stop]


class FileWave:
    """A long file, read span by span; silence is noticed when its end has been read."""

    def __init__(self, path: Path, num_samples: int, channel: int | None) -> None:
        self.path = path
        self.num_samples = num_samples
        self.channel = channel
        self._level = Level()

    def read(self, start: int, stop: int) -> np.ndarray:
        span = read_audio(self.path, channel=self.channel, start=start, num_samples=stop - start)
        self._level.add(span)
        if stop == self.num_samples:
            self._level.check(str(self.path))
        return span


class SpooledWave:
    """A long file that can only be decoded in order: once, into a temporary file of 230 MB an hour.

    It is decoded when it is asked for something, and removed when the wave is collected.

    Args:
        name: of the file, for errors.
        blocks: its samples.
    """

    def __init__(self, name: str, blocks: Iterator[np.ndarray]) -> None:
        self._name = name
        self._blocks = blocks

    @property
    def num_samples(self) -> int:
        return self._spool[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        file = self._spool[0]
        file.seek(4 * start)
        return np.frombuffer(bytearray(file.read(4 * (stop - start))), np.float32)

    @cached_property
    def _spool(self) -> tuple[BinaryIO, int]:
        """All samples in float32, and their number.

        Raises:
            InputError: the file is damaged or silent, or there is no room for its samples.
        """
        try:
            file = tempfile.TemporaryFile(prefix="speakervlad.")  # noqa: SIM115 - the wave holds it
            for block in self._blocks:
                file.write(block.data)
            return file, file.tell() // 4
        except OSError as error:
            raise InputError(
                f"{self._name}: its samples, 230 MB an hour, cannot be kept in "
                f"{tempfile.gettempdir()} ({error.strerror or error}). Set TMPDIR to another."
            ) from error


class SpeechWave:
    """The speech of a wave, one span directly behind the other.

    Args:
        wave: the recording.
        spans: first sample of each span and the one behind its last, in order.
    """

    def __init__(self, wave: Wave, spans: Sequence[Span]) -> None:
        self.wave = wave
        self.spans = np.array(spans).reshape(-1, 2)
        self._ends = np.cumsum(self.spans[:, 1] - self.spans[:, 0])
        self.num_samples = int(self._ends[-1]) if len(spans) else 0

    def seconds_in(self, windows: np.ndarray) -> np.ndarray:
        """How much speech there is in windows (windows, 2) of the recording, all in seconds."""
        edges = self.spans.ravel()
        heard = np.stack([np.concatenate([[0], self._ends[:-1]]), self._ends], axis=1).ravel()
        begin, end = np.interp(windows.T * SAMPLE_RATE, edges, heard)
        return (end - begin) / SAMPLE_RATE

    def read(self, start: int, stop: int) -> np.ndarray:
        # Where samples lie in the recording, less where they lie here, is one number for each span.
        shifts = self.spans[:, 1] - self._ends
        touched = np.flatnonzero((self._ends > start) & (self.spans[:, 0] - shifts < stop))
        return np.concatenate(
            [np.zeros(0, np.float32)]
            + [
                self.wave.read(
                    int(max(self.spans[row, 0], start + shifts[row])),
                    int(min(self.spans[row, 1], stop + shifts[row])),
                )
                for row in touched
            ]
        )


class MirroredWave:
    """A wave followed by its own reversal."""

    def __init__(self, wave: Wave) -> None:
        self.wave = wave
        self.num_samples = 2 * wave.num_samples

    def read(self, start: int, stop: int) -> np.ndarray:
        length = self.wave.num_samples
        parts = []
        if start < length:
            parts.append(self.wave.read(start, min(stop, length)))
        if stop > length:
            low, high = 2 * length - stop, 2 * length - max(start, length)
            parts.append(self.wave.read(low, high)[::-1])
        return np.concatenate(parts)


def open_wave(
    audio: Audio,
    channel: int | None = None,
    *,
    sample_rate: float = SAMPLE_RATE,
    speech_only: bool = False,
) -> Wave:
    """A wave from a file or from samples; hours of audio stay on disk.

    Args:
        audio: The path of a file, as ``split_channel`` reads it; the content of one as bytes or as
            a binary file object; or mono samples (samples,) as an array, a list or a torch tensor:
            floats in [-1, 1], or integers of at most 32 bits, which become such floats.
        channel: Of a file with several, if its name does not say it; their mean by default.
        sample_rate: Of samples, in Hz; a file states its own.
        speech_only: Leave out where nobody speaks.

    Raises:
        InputError: the audio is missing, damaged, empty, without sound or shorter than 25 ms, or
            the samples are none; or hardly any of it is speech and only that is wanted.
    """
    source, channel = _resolved(audio, channel)
    if isinstance(source, Path):
        wave = _open_file(source, channel)
    elif isinstance(source, bytes):
        with _as_file(source) as path:
            wave = SampleWave(read_speech(path, channel=channel))
    else:
        wave = SampleWave(as_waveform(source, sample_rate))
    return spoken(wave, name_of(audio)) if speech_only else wave


def spoken(wave: Wave, name: str) -> SpeechWave:
    """Only the speech of a wave.

    Args:
        wave: the recording, which is read twice, piece by piece.
        name: of it, for errors.

    Raises:
        InputError: hardly any of it is speech.
    """
    only = SpeechWave(wave, list(speech_spans(blocks_of_wave(wave))))
    check_spoken(only.num_samples, wave.num_samples, name)
    return only


def blocks_of_wave(wave: Wave) -> Iterator[np.ndarray]:
    """The samples of a wave in pieces of some seconds."""
    for start in range(0, wave.num_samples, BLOCK_SAMPLES):
        yield wave.read(start, min(start + BLOCK_SAMPLES, wave.num_samples))


def blocks_of(
    audio: Audio, channel: int | None = None, *, sample_rate: float = SAMPLE_RATE
) -> Iterator[np.ndarray]:
    """Yield what ``open_wave`` would hold, without keeping it; silence too.

    Raises:
        InputError: as ``open_wave``, but for sound and shortness; some only after the last block.
    """
    source, channel = _resolved(audio, channel)
    if isinstance(source, Path):
        yield from audio_blocks(source, channel=channel)
    elif isinstance(source, bytes):
        with _as_file(source) as path:
            yield from audio_blocks(path, channel=channel)
    else:
        yield _at_our_rate(source, sample_rate)


def name_of(audio: Audio) -> str:
    """What messages call it."""
    return str(audio) if isinstance(audio, str | Path) else "audio"


def _resolved(audio: Audio, channel: int | None) -> tuple[Path | bytes | Samples, int | None]:
    """A path, the content of a file, or samples; and the channel to take.

    Raises:
        InputError: a file object in text mode.
    """
    if isinstance(audio, str | Path):
        path, named = split_channel(audio)
        return path, channel if named is None else named
    read = getattr(audio, "read", None)
    if read is None:
        return cast(bytes | Samples, audio), channel
    content = read()
    if not isinstance(content, bytes):
        raise InputError("audio: a file that was opened as text. Open it with mode 'rb'.")
    return content, channel


def split_channel(name: str | Path) -> tuple[Path, int | None]:
    """``call.wav:1`` is channel 1 of ``call.wav``, the second; a file of that very name wins.

    Returns:
        The path of the file, and the channel if the name says one.
    """
    path = Path(name)
    found = re.fullmatch(r"(.+):(\d{1,4})", str(path), re.DOTALL)
    if found is None:
        return path, None
    file, channel = Path(found[1]), int(found[2])
    if not path.exists():
        return file, channel
    if file.exists():
        logger.warning("%s: taken for the file of that name, not for a channel of %s", path, file)
    return path, None


def as_waveform(samples: Samples, sample_rate: float = SAMPLE_RATE) -> np.ndarray:
    """Samples of any kind as float32 (samples,) in [-1, 1] at 16 kHz.

    Raises:
        InputError: not one dimension of numbers, not finite, without sound, too short, of another
            full scale than 1, or an impossible rate.
    """
    waveform = _at_our_rate(samples, sample_rate)
    check_speech(waveform, "waveform")
    return waveform


def _at_our_rate(samples: Samples, sample_rate: float) -> np.ndarray:
    check_range("sample_rate", sample_rate, at_least=MIN_RATE, at_most=MAX_RATE)
    array = _as_array(samples)
    if array.ndim != 1:
        raise InputError(f"waveform of shape {array.shape}: expected one dimension of samples.")
    waveform = _as_floats(array)
    if sample_rate != SAMPLE_RATE and len(waveform):
        resampled = soxr.resample(waveform, sample_rate, SAMPLE_RATE)
        waveform = np.clip(resampled, -1, 1, out=resampled)
    return waveform


def _as_array(samples: Samples) -> np.ndarray:
    try:
        tensor = getattr(samples, "detach", None)  # of torch, which need not be installed
        return np.asarray(samples if tensor is None else tensor().cpu())
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(samples).__name__
        raise InputError(
            f"waveform: a {kind} cannot be taken as samples ({error}). Give float32 samples."
        ) from error


def _as_floats(array: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1]; integers are divided by their full scale, louder floats by their peak."""
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 4:
        full_scale = 2.0 ** (8 * array.dtype.itemsize - 1)
        middle = full_scale if array.dtype.kind == "u" else 0.0
        return ((array - middle) / full_scale).astype(np.float32)
    if array.dtype.kind != "f":
        raise InputError(
            f"waveform: samples are {array.dtype}, of which the full scale is not known. Give "
            "floats from -1 to 1, or integers of at most 32 bits."
        )
    if not np.isfinite(array).all():
        raise InputError("waveform: some samples are not finite.")
    scale = fitting(finite_peak(array), "waveform")
    return np.ascontiguousarray(array, np.float32) / np.float32(scale)


def _open_file(path: Path, channel: int | None) -> Wave:
    """In memory if it is short, on disk if it is not; how long it is shows as it is decoded."""
    blocks = speech_blocks(path, channel=channel)
    begin, num_samples = [], 0
    for block in blocks:
        begin.append(block)
        num_samples += len(block)
        if num_samples > MEMORY_SECONDS * SAMPLE_RATE:
            break
    samples = begin[0] if len(begin) == 1 else np.concatenate(begin)
    warn_of_poor(samples, str(path))
    if num_samples <= MEMORY_SECONDS * SAMPLE_RATE:
        return SampleWave(samples)
    length = counted_length(path)
    if length is None:
        return SpooledWave(str(path), chain([samples], blocks))
    return FileWave(path, length, channel)


@contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """The content of an audio file in a temporary one, which every decoder reads.

    Raises:
        InputError: what goes wrong meanwhile, with another name than the temporary one.
    """
    with tempfile.TemporaryDirectory(prefix="speakervlad.") as folder:
        path = Path(folder) / "audio"
        path.write_bytes(content)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), "audio")) from error
