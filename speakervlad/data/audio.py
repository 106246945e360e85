"""Audio files of any common format, rate and channel count to float32 mono waveforms at 16 kHz."""

import io
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from speakervlad.data.decoding import Source, open_audio
from speakervlad.errors import InputError
from speakervlad.files import atomic_path

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000
# What is taken for audio when a folder is walked; a file that is named is tried in any case.
AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .aac .mp4 .webm .mka .mkv .wma .amr .3gp "  # noqa: SIM905
    ".aif .aiff .au .caf .sph .w64".split()
)
# One STFT window of 25 ms: anything shorter holds no frame of speech.
MIN_SAMPLES = 400
# Float files hold [-1, 1] with little overshoot; above this they are scaled like integers.
MAX_PEAK = 8.0
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
    """Read a file, or a span of it by one seek, as float32 mono in [-1, 1], shape (samples,).

    Args:
        path: wav, flac, ogg, opus, mp3, ... (soundfile) or m4a, mp4, webm, ... (PyAV).
        channel: The channel to take; the mean of all when None.
        start: First sample, counted at ``sample_rate``.
        num_samples: Length of the span, counted at ``sample_rate``; to the end when None.
        sample_rate: Target rate in Hz; other rates are resampled by soxr.

    A span equals the slice of the whole file: exactly for wav and flac, to within the tolerance of
    the resampler (1e-6) or of the lossy decoder's convergence otherwise.

    Raises:
        InputError: the file is missing, empty, not audio, damaged, holds no samples or NaN, has no
            such channel, or ends before ``start + num_samples``.
    """
    path = Path(path)
    with open_audio(path) as source:
        _check_channel(path, source, channel)
        if source.sample_rate == sample_rate:
            waveform = _to_mono(source.read(start, num_samples), channel)
        else:
            waveform = _read_resampled(source, channel, start, num_samples, sample_rate)
    _check_samples(path, waveform, start, num_samples)
    return np.clip(waveform, -1.0, 1.0, out=waveform)


def audio_info(path: str | Path, *, sample_rate: int = SAMPLE_RATE) -> AudioInfo:
    """Length, rate and channels, from the header where it tells (webm and raw AAC are decoded).

    Raises:
        InputError: as `read_audio`, as far as the header shows it.
    """
    path = Path(path)
    with open_audio(path) as source:
        num_frames = source.num_frames()
        if num_frames <= 0:
            raise _no_samples(path)
        num_samples = _resampled_length(num_frames, source.sample_rate, sample_rate)
        return AudioInfo(num_samples, source.sample_rate, source.num_channels)


def read_speech(
    path: str | Path, *, channel: int | None = None, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Read a whole utterance to embed: `read_audio`, `check_speech`, a warning on telephone band.

    Raises:
        InputError: as `read_audio` and `check_speech`.
    """
    waveform = read_audio(path, channel=channel, sample_rate=sample_rate)
    check_speech(waveform, str(path))
    if is_band_limited(waveform, sample_rate):
        logger.warning("%s: no energy above 4 kHz: upsampled telephone audio?", path)
    return waveform


def speech_blocks(path: str | Path, *, channel: int | None = None) -> Iterator[np.ndarray]:
    """Yield what `read_speech` reads, sample by sample the same, in blocks of some seconds.

    The file is read once, from its beginning to its end, in memory that does not grow.

    Raises:
        InputError: as `read_speech`; some of it only after the last block.
    """
    path = Path(path)
    num_samples, peak = 0, 0.0
    with open_audio(path) as source:
        _check_channel(path, source, channel)
        blocks = (_to_mono(block, channel) for block in source.blocks())
        if source.sample_rate != SAMPLE_RATE:
            blocks = _resampled(blocks, source.sample_rate)
        for block in blocks:
            num_samples += len(block)
            peak = np.maximum(peak, np.abs(block).max(initial=0))
            yield np.clip(block, -1.0, 1.0, out=block)
    _check_whole(path, num_samples, float(peak))
    _check_speech(str(path), num_samples, is_silent=peak == 0)


def check_speech(waveform: np.ndarray, name: str, *, min_samples: int = MIN_SAMPLES) -> None:
    """Refuse audio that holds no speech.

    Raises:
        InputError: fewer than ``min_samples`` (25 ms at 16 kHz), or all samples equal zero.
    """
    _check_speech(name, len(waveform), is_silent=not waveform.any(), min_samples=min_samples)


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


def write_audio(path: Path, samples: np.ndarray, *, subtype: str = "PCM_16") -> None:
    """Write mono samples (samples,) at 16 kHz in the format of the suffix; all of them or nothing.

    Raises:
        InputError: ``path`` cannot be written, or the disk is full.
    """
    # In memory first: of a full disk, libsndfile says "System error." and nothing else.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, subtype=subtype, format=path.suffix[1:])
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def _read_resampled(
    source: Source, channel: int | None, start: int, num_samples: int | None, sample_rate: int
) -> np.ndarray:
    """Resample the span with a margin, begun where source and target samples coincide."""
    divisor = math.gcd(source.sample_rate, sample_rate)
    source_step, target_step = source.sample_rate // divisor, sample_rate // divisor
    margin = math.ceil(RESAMPLE_MARGIN_SECONDS * source.sample_rate)
    steps = max(0, start * source_step // target_step - margin) // source_step
    first = steps * source_step
    num_frames = None
    if num_samples is not None:
        stop = math.ceil((start + num_samples) * source_step / target_step) + margin
        num_frames = stop - first
    frames = _to_mono(source.read(first, num_frames), channel)
    if len(frames) == 0:
        return frames
    resampled = soxr.resample(frames, source.sample_rate, sample_rate)
    resampled = resampled[: _resampled_length(len(frames), source.sample_rate, sample_rate)]
    offset = start - steps * target_step
    return resampled[offset : None if num_samples is None else offset + num_samples]


def _resampled(blocks: Iterator[np.ndarray], source_rate: int) -> Iterator[np.ndarray]:
    """Mono blocks at 16 kHz, as if all were resampled at once."""
    stream = soxr.ResampleStream(source_rate, SAMPLE_RATE, 1, dtype="float32")
    num_frames, num_samples = 0, 0
    for block in blocks:
        num_frames += len(block)
        resampled = stream.resample_chunk(block)
        num_samples += len(resampled)
        yield resampled
    rest = stream.resample_chunk(np.empty(0, np.float32), last=True)
    yield rest[: _resampled_length(num_frames, source_rate, SAMPLE_RATE) - num_samples]


def _resampled_length(num_frames: int, source_rate: int, target_rate: int) -> int:
    return (num_frames * target_rate + source_rate // 2) // source_rate


def _to_mono(frames: np.ndarray, channel: int | None) -> np.ndarray:
    """(frames, channels) -> (frames,), writable and contiguous."""
    if channel is not None:
        return np.ascontiguousarray(frames[:, channel])
    if frames.shape[1] == 1:
        return np.ascontiguousarray(frames[:, 0])
    return frames.mean(axis=1, dtype=np.float32)


def _check_samples(path: Path, waveform: np.ndarray, start: int, num_samples: int | None) -> None:
    if num_samples is not None and len(waveform) < num_samples:
        raise InputError(
            f"{path}: too short for samples {start} to {start + num_samples}. "
            "Prepare its manifest again."
        )
    _check_whole(path, len(waveform), float(np.abs(waveform).max(initial=0)))


def _check_whole(path: Path, num_samples: int, peak: float) -> None:
    if num_samples == 0:
        raise _no_samples(path)
    if not np.isfinite(peak):
        raise InputError(f"{path}: holds NaN or infinite samples. Remove it or convert it again.")
    if peak > MAX_PEAK:
        raise InputError(
            f"{path}: float samples up to {peak:g}, expected -1 to 1. Divide by the full scale."
        )


def _check_speech(
    name: str, num_samples: int, *, is_silent: bool, min_samples: int = MIN_SAMPLES
) -> None:
    if num_samples < min_samples:
        raise InputError(
            f"{name}: {num_samples} sample(s) are too short, at least {min_samples} are needed. "
            "Remove it or record more."
        )
    if is_silent:
        raise InputError(f"{name}: silent, every sample is zero. Remove it or choose a channel.")


def _check_channel(path: Path, source: Source, channel: int | None) -> None:
    if channel is not None and not 0 <= channel < source.num_channels:
        raise InputError(
            f"{path}: channel {channel} asked, has {source.num_channels} channel(s) "
            f"counted from 0. Choose one of them."
        )


def _no_samples(path: Path) -> InputError:
    return InputError(f"{path}: holds no samples. Remove it or get it again.")
