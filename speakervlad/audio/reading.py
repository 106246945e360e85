"""Audio files of any common format, rate and channel count to float32 mono waveforms at 16 kHz."""

import io
import logging
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from speakervlad.audio.channels import Channels
from speakervlad.audio.decoding import BLOCK_FRAMES, STEP, Source, open_audio
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.sound import AUDIO_SUFFIXES, MIN_SAMPLES, SAMPLE_RATE

logger = logging.getLogger(__name__)

# Float samples hold [-1, 1] with some overshoot; above this they are scaled like integers.
MAX_PEAK = 100.0
# Speech of a lower root mean square (-60 dB of full scale) is hardly more than steps of 16 bits.
QUIET = 1e-3
# Samples whose level is measured at once: in double precision they take twice their memory.
PIECE_SAMPLES = 1 << 18
# Beyond this, soxr's filter rings less than one bit of 16 (measured: 1e-7 at 20 ms).
RESAMPLE_MARGIN_SECONDS = 0.05
# Real wide-band speech measured -55 dB and above, telephone speech in 16 bits -63 dB and below.
TELEPHONE_BAND_DB = -60.0


class AudioInfo(NamedTuple):
    """What a file holds: samples are counted at the target rate, the rate is the file's own."""

    num_samples: int
    sample_rate: int
    num_channels: int


def read_audio(
    path: str | Path,
    *,
    channel: int | None = None,
    start: int = 0,
    num_samples: int | None = None,
    sample_rate: int = SAMPLE_RATE,
) -> np.ndarray:
    """Read a file, or a span of it, as float32 mono in [-1, 1], shape (samples,).

    Args:
        path: wav, flac, ogg, opus, ... (soundfile) or mp3, m4a, mp4, webm, ... (PyAV).
        channel: The channel to take; the mean of all when None.
        start: First sample, counted at ``sample_rate``.
        num_samples: Length of the span, counted at ``sample_rate``; to the end when None.
        sample_rate: Target rate in Hz; other rates are resampled by soxr.

    A span equals the slice of the whole file, to within the tolerance of the resampler (1e-6). It
    is one seek in PCM and FLAC; other formats are decoded from their beginning. Float files that
    exceed full scale are scaled down as a whole, with a warning.

    Raises:
        InputError: the file is missing, empty, not audio, damaged, holds no samples or NaN, has no
            such channel, or ends before ``start + num_samples``.
    """
    path = Path(path)
    stop = None if num_samples is None else start + num_samples
    with open_audio(path) as source:
        _check_channel(path, source, channel)
        if source.length is None or (start == 0 and stop is None):
            waveform = _cut(_mono_blocks(path, source, channel, sample_rate, stop), start, stop)
        else:
            waveform = _read_sought(path, source, channel, start, stop, sample_rate)
    if stop is not None and len(waveform) < stop - start:
        raise InputError(
            f"{path}: too short for samples {start} to {stop}. Prepare its manifest again."
        )
    _check_whole(path, len(waveform), float(np.abs(waveform).max(initial=0)))
    return np.clip(waveform, -1.0, 1.0, out=waveform)


def audio_blocks(
    path: str | Path,
    *,
    channel: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    level: "Level | None" = None,
    warn: bool = False,
) -> Iterator[np.ndarray]:
    """Yield what `read_audio` reads, sample by sample the same, in blocks of some seconds.

    The file is read once (float files twice: for their peak), in memory that does not grow.
    ``level`` measures what is yielded. With ``warn``, channels that are averaged and differ
    strongly are warned of.

    Raises:
        InputError: as `read_audio`; some of it only after the last block.
    """
    path = Path(path)
    num_samples, peak = 0, 0.0
    with open_audio(path) as source:
        _check_channel(path, source, channel)
        if level is not None:
            level.step = source.step
        watched = warn and channel is None and source.num_channels > 1
        channels = Channels(str(path), source.sample_rate) if watched else None
        for block in _mono_blocks(path, source, channel, sample_rate, channels=channels):
            num_samples += len(block)
            peak = np.maximum(peak, np.abs(block).max(initial=0))
            np.clip(block, -1.0, 1.0, out=block)
            if level is not None:
                level.add(block)
            yield block
    _check_whole(path, num_samples, float(peak))


def audio_info(path: str | Path, *, sample_rate: int = SAMPLE_RATE) -> AudioInfo:
    """Length, rate and channels; the length is counted by decoding where a header estimates it.

    Raises:
        InputError: as `read_audio`, as far as the length shows it.
    """
    path = Path(path)
    with open_audio(path) as source:
        num_frames = source.length
        if num_frames is None:
            num_frames = sum(len(block) for block in source.blocks())
        if num_frames <= 0:
            raise _no_samples(path)
        num_samples = _resampled_length(num_frames, source.sample_rate, sample_rate)
        return AudioInfo(num_samples, source.sample_rate, source.num_channels)


def counted_length(path: str | Path) -> int | None:
    """Samples at 16 kHz of a file whose header counts them, so that a span is one seek; else None.

    Raises:
        InputError: as `read_audio`, as far as the header shows it.
    """
    with open_audio(Path(path)) as source:
        if source.length is None:
            return None
        return _resampled_length(source.length, source.sample_rate, SAMPLE_RATE)


def counted_blocks(path: str | Path) -> int | None:
    """How many blocks `audio_blocks` yields, give or take one, if the header counts samples.

    Raises:
        InputError: as `read_audio`, as far as the header shows it.
    """
    with open_audio(Path(path)) as source:
        if source.length is None:
            return None
        return max(1, math.ceil(source.length * source.num_channels / BLOCK_FRAMES))


def is_audio(path: Path) -> bool:
    """Whether a file is named as audio is, or has another name and holds audio."""
    suffix = path.suffix.lower()
    if suffix in AUDIO_SUFFIXES or suffix == ".csv" or not path.is_file():
        return suffix in AUDIO_SUFFIXES and path.is_file()
    try:
        with open_audio(path):
            return True
    except InputError:
        return False


class Level:
    """How loud audio is that comes block by block, about its mean.

    Args:
        waveform: The first samples (samples,), or all.
    """

    def __init__(self, waveform: np.ndarray | None = None) -> None:
        # Smallest step of the samples as they were stored, relative to full scale.
        self.step = STEP
        self.num_samples = 0
        self._sum = self._squares = 0.0
        self._is_zero = True
        if waveform is not None:
            self.add(waveform)

    def add(self, block: np.ndarray) -> None:
        """Take some more samples (samples,)."""
        self.num_samples += len(block)
        self._is_zero = self._is_zero and not block.any()
        for start in range(0, len(block), PIECE_SAMPLES):
            # The squares of a constant differ from the square of its mean in double precision only.
            samples = block[start : start + PIECE_SAMPLES].astype(np.float64)
            self._sum += float(samples.sum())
            self._squares += float(np.square(samples, out=samples).sum())

    @property
    def rms(self) -> float:
        """Root mean square about the mean, of full scale."""
        count = max(self.num_samples, 1)
        return max(self._squares / count - (self._sum / count) ** 2, 0.0) ** 0.5

    @property
    def has_sound(self) -> bool:
        """Whether there is more than a constant and the noise of one bit."""
        return self.rms > 1.25 * self.step

    def check(self, name: str, *, min_samples: int = MIN_SAMPLES) -> None:
        """Refuse audio that holds no speech.

        Raises:
            InputError: fewer than ``min_samples`` (25 ms at 16 kHz), all samples equal, or nothing
                but the noise of one bit.
        """
        if self.num_samples < min_samples:
            raise InputError(
                f"{name}: {self.num_samples} sample(s) are too short, at least {min_samples} are "
                "needed. Remove it or record more."
            )
        if self._is_zero:
            raise InputError(
                f"{name}: silent, every sample is zero. Remove it or choose a channel."
            )
        if not self.has_sound:
            raise InputError(
                f"{name}: holds no speech: a constant, or nothing but the noise of one bit. "
                "Remove it or choose a channel."
            )


def read_speech(
    path: str | Path, *, channel: int | None = None, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Read a whole utterance to embed: `read_audio`, `check_speech`, warnings of poor audio.

    Raises:
        InputError: as `read_audio` and `check_speech`.
    """
    blocks = list(speech_blocks(path, channel=channel, sample_rate=sample_rate))
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    warn_of_poor(waveform, str(path), sample_rate)
    return waveform


def speech_blocks(
    path: str | Path,
    *,
    channel: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    min_samples: int = MIN_SAMPLES,
) -> Iterator[np.ndarray]:
    """Yield what `read_speech` reads, as `audio_blocks` does.

    Raises:
        InputError: as `read_speech`; some of it only after the last block.
    """
    level = Level()
    yield from audio_blocks(path, channel=channel, sample_rate=sample_rate, level=level, warn=True)
    level.check(str(path), min_samples=min_samples)


def check_speech(waveform: np.ndarray, name: str) -> None:
    """Refuse audio that holds no speech.

    Raises:
        InputError: as `Level.check`.
    """
    Level(waveform).check(name)


def warn_of_poor(waveform: np.ndarray, name: str, sample_rate: int = SAMPLE_RATE) -> None:
    """Warn of speech that is embedded worse than it seems: telephone band, very quiet."""
    if is_band_limited(waveform, sample_rate):
        logger.warning("%s: no energy above 4 kHz, as in telephone audio", name)
    rms = Level(waveform).rms
    if 0 < rms < QUIET:
        decibels = 20 * math.log10(max(rms, 1e-10))
        logger.warning(
            "%s: very quiet (%.0f dB): little of the voice is left in it", name, decibels
        )


def is_band_limited(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE) -> bool:
    """Whether audio that claims more than 8 kHz holds nothing above 4 kHz (upsampled telephone).

    Compares the mean power per hertz of 4.4 kHz and above with that of 0.3 to 3.4 kHz, in the first
    10 s; cheap (one FFT per 32 ms).
    """
    width = 512 * sample_rate // SAMPLE_RATE
    if sample_rate <= 9600 or len(waveform) < width:
        return False
    frames = waveform[: min(len(waveform), 10 * sample_rate) // width * width].reshape(-1, width)
    spectrum = np.fft.rfft(frames * np.hanning(width).astype(np.float32), axis=1)
    power = np.square(np.abs(spectrum)).mean(axis=0)
    hertz = np.fft.rfftfreq(width, 1 / sample_rate)
    high = power[(hertz >= 4400) & (hertz <= 7600)].mean()
    low = power[(hertz >= 300) & (hertz <= 3400)].mean()
    return bool(high < low * 10 ** (TELEPHONE_BAND_DB / 10))


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit integers, little endian."""
    return np.clip(np.rint(waveform * 32768), -32768, 32767).astype("<i2")


def write_audio(
    path: Path, samples: np.ndarray | Iterable[np.ndarray], *, subtype: str = "PCM_16"
) -> None:
    """Write mono samples at 16 kHz in the format of the suffix; all of them or nothing.

    Args:
        path: The file; its suffix is a format of soundfile.
        samples: Shape (samples,), or blocks of them.
        subtype: Of soundfile.

    Raises:
        InputError: ``path`` cannot be written, or the disk is full.
    """
    blocks = [samples] if isinstance(samples, np.ndarray) else samples
    with atomic_path(path, sync=False) as temporary:
        fill_audio(temporary, blocks, form=path.suffix[1:], subtype=subtype)


def fill_audio(path: Path, blocks: Iterable[np.ndarray], *, form: str, subtype: str) -> None:
    """Write mono samples at 16 kHz into an empty file, which is incomplete if that fails.

    Args:
        path: The file.
        blocks: Samples (samples,) that follow one another.
        form: Of soundfile.
        subtype: Of soundfile.

    Raises:
        OSError: as the system raised it.
    """
    with _Sink(path, "r+") as sink:
        with soundfile.SoundFile(
            sink, "w", SAMPLE_RATE, 1, format=form, subtype=subtype
        ) as encoder:
            for block in blocks:
                encoder.write(block)
                sink.check()
        sink.check()


class _Sink(io.FileIO):
    """A file that libsndfile writes; of a full disk that says "System error." and nothing else."""

    error: OSError | None = None

    def write(self, data: bytes, /) -> int:  # type: ignore[override] - what soundfile hands over
        """Write all of it, or keep the error for `check`."""
        view = memoryview(data)
        try:
            while view and self.error is None:
                view = view[super().write(view) :]
        except OSError as error:
            self.error = error
        return len(data)

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            OSError: as the system raised it.
        """
        if self.error is not None:
            raise self.error


def _read_sought(
    path: Path, source: Source, channel: int | None, start: int, stop: int | None, rate: int
) -> np.ndarray:
    """A span by one seek; resampled with a margin, begun where source and target coincide."""
    divisor = math.gcd(source.sample_rate, rate)
    source_step, target_step = source.sample_rate // divisor, rate // divisor
    margin = 0 if source_step == target_step else _margin(source)
    steps = max(0, start * source_step // target_step - margin) // source_step
    first, last = steps * source_step, source.length or 0
    if stop is not None:
        last = min(last, math.ceil(stop * source_step / target_step) + margin)
    scale = _full_scale(path, source, channel)
    frames = _to_mono(source.read(first, max(last - first, 0)), channel, scale)
    if source_step != target_step and len(frames):
        length = _resampled_length(len(frames), source.sample_rate, rate)
        frames = soxr.resample(frames, source.sample_rate, rate)[:length]
    begin = start - steps * target_step
    return frames[begin : None if stop is None else begin + stop - start]


def _margin(source: Source) -> int:
    return math.ceil(RESAMPLE_MARGIN_SECONDS * source.sample_rate)


def _mono_blocks(
    path: Path,
    source: Source,
    channel: int | None,
    rate: int,
    stop: int | None = None,
    channels: Channels | None = None,
) -> Iterator[np.ndarray]:
    """From the beginning to the end, or to the target's sample ``stop`` and some further."""
    last = None
    if stop is not None:
        last = math.ceil(stop * source.sample_rate / rate) + _margin(source)
    scale = _full_scale(path, source, channel)
    frames = source.blocks(last)
    watched = frames if channels is None else channels.watch(frames)
    blocks = (_to_mono(block, channel, scale) for block in watched)
    if source.sample_rate == rate:
        return blocks
    return _resampled(blocks, source.sample_rate, rate)


def _cut(blocks: Iterable[np.ndarray], start: int, stop: int | None) -> np.ndarray:
    """Samples ``start`` to ``stop`` of blocks that follow one another."""
    pieces, position = [np.zeros(0, np.float32)], 0
    for block in blocks:
        first = max(start - position, 0)
        pieces.append(block[first : None if stop is None else max(stop - position, 0)])
        position += len(block)
    return np.concatenate(pieces)


def _full_scale(path: Path, source: Source, channel: int | None) -> float:
    """What to divide the samples of a file by: its peak, where float samples exceed 1."""
    if not source.is_float:
        return 1.0
    status = path.stat()
    return _peak_of(path, status.st_mtime_ns, status.st_size, channel)


@lru_cache(4096)
def _peak_of(path: Path, _time: int, _size: int, channel: int | None) -> float:
    """The peak of a float file, at least 1; warns once of one that exceeds it.

    Raises:
        InputError: as `fitting`.
    """
    peak = 0.0
    with open_audio(path) as source:
        for block in source.blocks():
            peak = max(peak, finite_peak(_to_mono(block, channel)))
    return fitting(peak, str(path))


def finite_peak(waveform: np.ndarray) -> float:
    """The largest magnitude that is a number."""
    magnitudes = np.abs(waveform)
    return float(magnitudes.max(initial=0, where=np.isfinite(magnitudes)))


def fitting(peak: float, name: str) -> float:
    """What to divide float samples by; warns where that is not 1.

    Raises:
        InputError: a peak that is no overshoot, but another full scale.
    """
    if peak > MAX_PEAK:
        raise InputError(
            f"{name}: float samples up to {peak:g}, expected -1 to 1. Divide by the full scale."
        )
    if peak > 1:
        logger.warning("%s: float samples up to %.4g, scaled down to 1", name, peak)
    return max(peak, 1.0)


def _resampled(
    blocks: Iterable[np.ndarray], source_rate: int, target_rate: int
) -> Iterator[np.ndarray]:
    """Mono blocks at another rate, as if all were resampled at once."""
    stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")
    num_frames, num_samples = 0, 0
    for block in blocks:
        num_frames += len(block)
        resampled = stream.resample_chunk(block)
        num_samples += len(resampled)
        yield resampled
    rest = stream.resample_chunk(np.empty(0, np.float32), last=True)
    yield rest[: _resampled_length(num_frames, source_rate, target_rate) - num_samples]


def _resampled_length(num_frames: int, source_rate: int, target_rate: int) -> int:
    return (num_frames * target_rate + source_rate // 2) // source_rate


def _to_mono(frames: np.ndarray, channel: int | None, scale: float = 1.0) -> np.ndarray:
    """(frames, channels) -> (frames,) divided by ``scale``, writable and contiguous."""
    if channel is None and frames.shape[1] > 1:
        mono = frames.mean(axis=1, dtype=np.float32)
    else:
        mono = np.ascontiguousarray(frames[:, channel or 0])
    return mono if scale == 1 else mono / np.float32(scale)


def _check_whole(path: Path, num_samples: int, peak: float) -> None:
    if num_samples == 0:
        raise _no_samples(path)
    if not np.isfinite(peak):
        raise InputError(f"{path}: holds NaN or infinite samples. Remove it or convert it again.")


def _check_channel(path: Path, source: Source, channel: int | None) -> None:
    if channel is not None and not 0 <= channel < source.num_channels:
        raise InputError(
            f"{path}: channel {channel} asked, has {source.num_channels} channel(s) "
            f"counted from 0. Choose one of them."
        )


def _no_samples(path: Path) -> InputError:
    return InputError(f"{path}: holds no samples. Remove it or get it again.")
