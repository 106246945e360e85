"""Audio files of any common format, rate and channel count to float32 mono waveforms at 16 kHz."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from speakervlad.audio.channels import Channels
from speakervlad.audio.decoding import BLOCK_FRAMES, Source, open_audio
from speakervlad.audio.quality import Level, finite_peak, fitting, warn_of_poor
from speakervlad.errors import InputError
from speakervlad.sound import AUDIO_SUFFIXES, MIN_SAMPLES, SAMPLE_RATE

# Beyond this, soxr's filter rings less than one bit of 16 (measured: 1e-7 at 20 ms).
RESAMPLE_MARGIN_SECONDS = 0.05


class AudioInfo(NamedTuple):
    """What a file holds: samples are counted at the target rate, the rate is the file's own."""

    num_samples: int
    sample_rate: int
    num_channels: int


def load_audio(
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
    level: Level | None = None,
    warn: bool = False,
) -> Iterator[np.ndarray]:
    """Yield what `load_audio` reads, sample by sample the same, in blocks of some seconds.

    The file is read once (float files twice: for their peak), in memory that does not grow.
    ``level`` measures what is yielded. With ``warn``, channels that are averaged and differ
    strongly are warned of.

    Raises:
        InputError: as `load_audio`; some of it only after the last block.
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
        InputError: as `load_audio`, as far as the length shows it.
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
        InputError: as `load_audio`, as far as the header shows it.
    """
    with open_audio(Path(path)) as source:
        if source.length is None:
            return None
        return _resampled_length(source.length, source.sample_rate, SAMPLE_RATE)


def counted_blocks(path: str | Path) -> int | None:
    """How many blocks `audio_blocks` yields, give or take one, if the header counts samples.

    Raises:
        InputError: as `load_audio`, as far as the header shows it.
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


def read_speech(
    path: str | Path, *, channel: int | None = None, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Read a whole utterance to embed: `load_audio`, `check_speech`, warnings of poor audio.

    Raises:
        InputError: as `load_audio` and `check_speech`.
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
