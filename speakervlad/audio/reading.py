"""Audio files of any common format, rate and channel count to float32 mono waveforms at 16 kHz."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr

from speakervlad.audio.channels import Channels
from speakervlad.audio.decoding import Source, open_audio
from speakervlad.audio.quality import Level, finite_peak, fitting, warn_of_poor
from speakervlad.errors import InputError
from speakervlad.sound import AUDIO_SUFFIXES, MIN_SAMPLES, SAMPLE_RATE

# Beyond this, soxr's filter rings less than one bit of 16 (measured: 1e-7 at 20 ms).
RESAMPLE_MARGIN_SECONDS = 0.05


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
        check_channel(path, source, channel)
        if level is not None:
            level.step, level.num_channels = source.step, source.num_channels
        watched = warn and channel is None and source.num_channels > 1
        channels = Channels(str(path), source.sample_rate) if watched else None
        for block in mono_blocks(path, source, channel, sample_rate, channels=channels):
            num_samples += len(block)
            peak = np.maximum(peak, np.abs(block).max(initial=0))
            np.clip(block, -1.0, 1.0, out=block)
            if level is not None:
                level.add(block)
            yield block
    check_whole(path, num_samples, float(peak))


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


def resampling_margin(source: Source) -> int:
    """Frames of the file around a span beyond which the resampler's filter does not ring."""
    return math.ceil(RESAMPLE_MARGIN_SECONDS * source.sample_rate)


def mono_blocks(
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
        last = math.ceil(stop * source.sample_rate / rate) + resampling_margin(source)
    scale = full_scale(path, source, channel)
    frames = source.blocks(last)
    watched = frames if channels is None else channels.watch(frames)
    blocks = (to_mono(block, channel, scale) for block in watched)
    if source.sample_rate == rate:
        return blocks
    return _resampled(blocks, source.sample_rate, rate)


def full_scale(path: Path, source: Source, channel: int | None) -> float:
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
            peak = max(peak, finite_peak(to_mono(block, channel)))
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
    yield rest[: resampled_length(num_frames, source_rate, target_rate) - num_samples]


def resampled_length(num_frames: int, source_rate: int, target_rate: int) -> int:
    """How many samples so many become at another rate."""
    return (num_frames * target_rate + source_rate // 2) // source_rate


def to_mono(frames: np.ndarray, channel: int | None, scale: float = 1.0) -> np.ndarray:
    """(frames, channels) -> (frames,) divided by ``scale``, writable and contiguous."""
    if channel is None and frames.shape[1] > 1:
        mono = frames.mean(axis=1, dtype=np.float32)
    else:
        mono = np.ascontiguousarray(frames[:, channel or 0])
    return mono if scale == 1 else mono / np.float32(scale)


def check_whole(path: Path, num_samples: int, peak: float) -> None:
    """Refuse what was read if there is nothing in it, or no numbers."""
    if num_samples == 0:
        raise no_samples(path)
    if not np.isfinite(peak):
        raise InputError(f"{path}: holds NaN or infinite samples. Remove it or convert it again.")


def check_channel(path: Path, source: Source, channel: int | None) -> None:
    """Refuse a channel that a file does not have."""
    if channel is not None and not 0 <= channel < source.num_channels:
        raise InputError(
            f"{path}: channel {channel} asked, has {source.num_channels} channel(s) "
            f"counted from 0. Choose one of them."
        )


def no_samples(path: Path) -> InputError:
    """Of a file without any."""
    return InputError(f"{path}: holds no samples. Remove it or get it again.")
