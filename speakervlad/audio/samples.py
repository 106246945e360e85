"""Samples in memory, of any kind, to float32 at 16 kHz."""

from collections.abc import Sequence

import numpy as np
import soxr

from speakervlad.audio.decoding import MAX_RATE, MIN_RATE
from speakervlad.audio.quality import check_full_scale, finite_peak, fitting
from speakervlad.errors import InputError, check_range
from speakervlad.sound import SAMPLE_RATE

# An array, a list, a torch tensor.
Samples = np.ndarray | Sequence[float]


def as_waveform(samples: Samples, sample_rate: float, name: str = "waveform") -> np.ndarray:
    """Samples as float32 (samples,) in [-1, 1] at 16 kHz; there may be none, or only silence.

    Args:
        samples: of one channel: floats in [-1, 1], or integers of at most 32 bits.
        sample_rate: of the samples, in Hz.
        name: what messages call them.

    Raises:
        InputError: not one dimension of numbers, not finite, of another full scale than 1, or an
            impossible rate.
    """
    check_range("sample_rate", sample_rate, at_least=MIN_RATE, at_most=MAX_RATE)
    array = _as_array(samples, name)
    if array.ndim != 1:
        raise InputError(f"{name} of shape {array.shape}: expected one dimension of samples.")
    waveform = _as_floats(array, name)
    if sample_rate != SAMPLE_RATE and len(waveform):
        resampled = soxr.resample(waveform, sample_rate, SAMPLE_RATE)
        waveform = np.clip(resampled, -1, 1, out=resampled)
    return waveform


def clipped_samples(samples: Samples, name: str) -> np.ndarray:
    """Samples of a stream as float32 (samples,), floats beyond [-1, 1] clipped.

    How loud all of a stream is nobody knows before its end, so nothing is scaled.

    Raises:
        InputError: not one dimension of numbers, not finite, or of another full scale than 1.
    """
    array = _as_array(samples, name)
    if array.ndim != 1:
        raise InputError(f"{name} of shape {array.shape}: expected one dimension of samples.")
    waveform = _as_floats(array, name, scaled=False)
    check_full_scale(finite_peak(waveform), name)
    return np.clip(waveform, -1, 1)


def _as_array(samples: Samples, name: str) -> np.ndarray:
    try:
        tensor = getattr(samples, "detach", None)  # of torch, which need not be installed
        return np.asarray(samples if tensor is None else tensor().cpu())
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(samples).__name__
        raise InputError(
            f"{name}: a {kind} cannot be taken as samples ({error}). Give float32 samples."
        ) from error


def _as_floats(array: np.ndarray, name: str, *, scaled: bool = True) -> np.ndarray:
    """float32; integers are divided by their full scale, floats above 1 by their peak if wanted."""
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 4:
        full_scale = 2.0 ** (8 * array.dtype.itemsize - 1)
        middle = full_scale if array.dtype.kind == "u" else 0.0
        return ((array - middle) / full_scale).astype(np.float32)
    if array.dtype.kind != "f":
        raise InputError(
            f"{name}: samples are {array.dtype}, of which the full scale is not known. Give "
            "floats from -1 to 1, or integers of at most 32 bits."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name}: some samples are not finite.")
    scale = fitting(finite_peak(array), name) if scaled else 1.0
    return np.ascontiguousarray(array, np.float32) / np.float32(scale)
