"""Spans of audio files, and how much sound is in a file."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from speakervlad.audio.decoding import BLOCK_FRAMES, Source, open_audio
from speakervlad.audio.reading import (
    check_channel,
    check_whole,
    full_scale,
    mono_blocks,
    no_samples,
    resampled_length,
    resampling_margin,
    to_mono,
)
from speakervlad.errors import InputError
from speakervlad.sound import SAMPLE_RATE


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
        check_channel(path, source, channel)
        if source.length is None or (start == 0 and stop is None):
            waveform = _cut(mono_blocks(path, source, channel, sample_rate, stop), start, stop)
        else:
            waveform = _read_sought(path, source, channel, start, stop, sample_rate)
    if stop is not None and len(waveform) < stop - start:
        raise InputError(
            f"{path}: too short for samples {start} to {stop}. Prepare its manifest again."
        )
    check_whole(path, len(waveform), float(np.abs(waveform).max(initial=0)))
    return np.clip(waveform, -1.0, 1.0, out=waveform)


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
            raise no_samples(path)
        num_samples = resampled_length(num_frames, source.sample_rate, sample_rate)
        return AudioInfo(num_samples, source.sample_rate, source.num_channels)


def counted_length(path: str | Path) -> int | None:
    """Samples at 16 kHz of a file whose header counts them, so that a span is one seek; else None.

    Raises:
        InputError: as `load_audio`, as far as the header shows it.
    """
    with open_audio(Path(path)) as source:
        if source.length is None:
            return None
        return resampled_length(source.length, source.sample_rate, SAMPLE_RATE)


def counted_blocks(path: str | Path) -> int | None:
    """How many blocks `audio_blocks` yields, give or take one, if the header counts samples.

    Raises:
        InputError: as `load_audio`, as far as the header shows it.
    """
    with open_audio(Path(path)) as source:
        if source.length is None:
            return None
        return max(1, math.ceil(source.length * source.num_channels / BLOCK_FRAMES))


def _read_sought(
    path: Path, source: Source, channel: int | None, start: int, stop: int | None, rate: int
) -> np.ndarray:
    """A span by one seek; resampled with a margin, begun where source and target coincide."""
    divisor = math.gcd(source.sample_rate, rate)
    source_step, target_step = source.sample_rate // divisor, rate // divisor
    margin = 0 if source_step == target_step else resampling_margin(source)
    steps = max(0, start * source_step // target_step - margin) // source_step
    first, last = steps * source_step, source.length or 0
    if stop is not None:
        last = min(last, math.ceil(stop * source_step / target_step) + margin)
    scale = full_scale(path, source, channel)
    frames = to_mono(source.read(first, max(last - first, 0)), channel, scale)
    if source_step != target_step and len(frames):
        length = resampled_length(len(frames), source.sample_rate, rate)
        frames = soxr.resample(frames, source.sample_rate, rate)[:length]
    begin = start - steps * target_step
    return frames[begin : None if stop is None else begin + stop - start]


def _cut(blocks: Iterable[np.ndarray], start: int, stop: int | None) -> np.ndarray:
    """Samples ``start`` to ``stop`` of blocks that follow one another."""
    pieces, position = [np.zeros(0, np.float32)], 0
    for block in blocks:
        first = max(start - position, 0)
        pieces.append(block[first : None if stop is None else max(stop - position, 0)])
        position += len(block)
    return np.concatenate(pieces)
