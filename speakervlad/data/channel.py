"""Generated recording conditions: what belongs to a session, not to the speaker."""

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from speakervlad.data.audio import SAMPLE_RATE

NUM_BANDS = 32


@dataclass(frozen=True)
class Channel:
    """One session's microphone, room and noise.

    Attributes:
        gains_db: Frequency response at 32 points spaced evenly in mel from 0 to 8 kHz, (32,).
        reverb_seconds: Time in which the room's sound falls by 60 dB.
        direct_db: Level of the direct sound relative to all reflections.
        snr_db: Speech to noise.
        noise_slope: Spectral slope of the noise, dB per octave.
        level_db: Root mean square of the recording relative to full scale.
    """

    gains_db: np.ndarray
    reverb_seconds: float
    direct_db: float
    snr_db: float
    noise_slope: float
    level_db: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Channel":
        """A random session: response with ripple and tilt, sometimes a narrow band."""
        position = np.linspace(0, 1, NUM_BANDS)
        ripple = gaussian_filter1d(rng.standard_normal(NUM_BANDS + 16), 2.0)[8:-8]
        gains_db = rng.uniform(0.25, 1.25) * ripple / ripple.std()
        gains_db += rng.normal(0, 2) * (position - 0.5)
        gains_db -= 30 * np.maximum(position - rng.uniform(0.85, 1.2), 0) / 0.2
        gains_db -= 20 * np.maximum(rng.uniform(-0.05, 0.05) - position, 0) / 0.08
        return cls(
            gains_db=gains_db,
            reverb_seconds=rng.uniform(0.05, 0.25),
            direct_db=rng.uniform(6, 18),
            snr_db=rng.uniform(20, 40),
            noise_slope=rng.uniform(-6, 0),
            level_db=rng.uniform(-32, -20),
        )

    def apply(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Record a waveform: float32 (samples,) -> float32 (samples,) within [-1, 1]."""
        length = len(waveform) + int(self.reverb_seconds * SAMPLE_RATE)
        size = fft.next_fast_len(length) or length
        room = np.asarray(fft.rfft(self._impulse_response(rng), size))
        spectrum = np.asarray(fft.rfft(waveform, size)) * room
        noise = np.asarray(fft.rfft(rng.standard_normal(size, np.float32)))
        hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
        noise *= np.maximum(hertz / 1000, 0.05) ** (self.noise_slope / 6.02)
        noise *= np.linalg.norm(spectrum) / np.linalg.norm(noise) * 10 ** (-self.snr_db / 20)
        recorded = np.asarray(fft.irfft((spectrum + noise) * self._response(hertz), size))
        recorded = recorded[: len(waveform)]
        recorded *= 10 ** (self.level_db / 20) / np.sqrt(np.mean(recorded**2))
        return np.clip(recorded, -1, 1).astype(np.float32)

    def _response(self, hertz: np.ndarray) -> np.ndarray:
        """Linear gain at the given frequencies."""
        mel = np.log1p(hertz / 700) / np.log1p(SAMPLE_RATE / 2 / 700)
        gains = np.interp(mel, np.linspace(0, 1, NUM_BANDS), self.gains_db)
        return 10 ** (gains / 20)

    def _impulse_response(self, rng: np.random.Generator) -> np.ndarray:
        """Direct sound and exponentially decaying noise, float32 (samples,)."""
        time = np.arange(int(self.reverb_seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / self.reverb_seconds)
        tail[: SAMPLE_RATE // 500] = 0  # the first reflection comes 2 ms after the direct sound
        tail *= 10 ** (-self.direct_db / 20) / np.linalg.norm(tail)
        tail[0] = 1
        return tail.astype(np.float32)
