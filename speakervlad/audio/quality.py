"""How good audio is: its level, its band, its full scale; and what of it is refused."""

import logging
import math

import numpy as np

from speakervlad.audio.remarks import remark
from speakervlad.errors import InputError
from speakervlad.sound import MIN_SAMPLES, SAMPLE_RATE

logger = logging.getLogger(__name__)

# The smallest step of 16 bits relative to full scale.
STEP = 2.0**-15
# Float samples hold [-1, 1] with some overshoot; above this they are scaled like integers.
MAX_PEAK = 100.0
# Speech of a lower root mean square (-60 dB of full scale) is hardly more than steps of 16 bits.
QUIET = 1e-3
# Samples whose level is measured at once: in double precision they take twice their memory.
PIECE_SAMPLES = 1 << 18
# Real wide-band speech measured -55 dB and above, telephone speech in 16 bits -63 dB and below.
TELEPHONE_BAND_DB = -60.0


class Level:
    """How loud audio is that comes block by block, about its mean.

    Args:
        waveform: The first samples (samples,), or all.
    """

    def __init__(self, waveform: np.ndarray | None = None) -> None:
        # Smallest step of the samples as they were stored, relative to full scale.
        self.step = STEP
        self.num_samples = 0
        # Of the file that the samples are from.
        self.num_channels = 1
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
            raise InputError(f"{name}: silent, every sample is zero. Remove it{self._way_out}.")
        if not self.has_sound:
            raise InputError(
                f"{name}: holds no speech: a constant, or nothing but the noise of one bit. "
                f"Remove it{self._way_out}."
            )

    @property
    def _way_out(self) -> str:
        return " or choose a channel" if self.num_channels > 1 else ""


def check_speech(waveform: np.ndarray, name: str) -> None:
    """Refuse audio that holds no speech.

    Raises:
        InputError: as `Level.check`.
    """
    Level(waveform).check(name)


def warn_of_poor(waveform: np.ndarray, name: str, sample_rate: int = SAMPLE_RATE) -> None:
    """Warn of speech that is embedded worse than it seems: telephone band, very quiet."""
    if is_band_limited(waveform, sample_rate):
        remark(logger, name, "no energy above 4 kHz, as in telephone audio")
    warn_of_quiet(Level(waveform), name)


def warn_of_quiet(level: Level, name: str) -> None:
    """Warn of audio of a level at which little of a voice is left."""
    if 0 < level.rms < QUIET:
        decibels = 20 * math.log10(max(level.rms, 1e-10))
        remark(logger, name, f"very quiet ({decibels:.0f} dB): little of the voice is left in it")


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


def finite_peak(waveform: np.ndarray) -> float:
    """The largest magnitude that is a number."""
    magnitudes = np.abs(waveform)
    return float(magnitudes.max(initial=0, where=np.isfinite(magnitudes)))


def fitting(peak: float, name: str) -> float:
    """What to divide float samples by; warns where that is not 1.

    Raises:
        InputError: a peak that is no overshoot, but another full scale.
    """
    check_full_scale(peak, name)
    if peak > 1:
        remark(logger, name, f"float samples up to {peak:.4g}, scaled down to 1")
    return max(peak, 1.0)


def check_full_scale(peak: float, name: str) -> None:
    """Refuse float samples of another full scale than 1.

    Raises:
        InputError: a peak that is no overshoot.
    """
    if peak > MAX_PEAK:
        raise InputError(
            f"{name}: float samples up to {peak:g}, expected -1 to 1. Divide by the full scale."
        )
