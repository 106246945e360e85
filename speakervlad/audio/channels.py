"""Whether the channels of a file hold one scene, whose mean is fit to be embedded, or several."""

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from speakervlad.audio.remarks import remark

logger = logging.getLogger(__name__)

FRAME_SECONDS = 0.1
# A shorter beginning is not judged before the file's end.
SECONDS_TO_JUDGE = 60.0
# Power of the loudest frame that a frame must have to count, and that of the next channel that a
# channel must have to lead: 30 dB below and 10 dB above.
ACTIVE, LEADING = 1e-3, 10.0
# Measured on simulated recordings. Calls of 30 s, with crosstalk up to -12 dB and noise up to
# -15 dB: 0.12 to 0.5; of 8 s, where one side may hardly speak: 0.02 to 0.5, 0.3 in the middle. One
# scene by microphones of other levels, delays or rooms, or two speakers 9 dB apart: 0 to 0.02.
LEADS_OF_A_CALL = 0.05
# Power of the mean, of what it would be if the channels were unrelated.
CANCELLED = 0.1


class Channels:
    """Measures the channels of a file while they are read, and warns once if they differ strongly.

    Args:
        name: of the file.
        sample_rate: in Hz.
    """

    def __init__(self, name: str, sample_rate: int) -> None:
        self.name = name
        self._sample_rate = sample_rate
        self._frame = max(round(FRAME_SECONDS * sample_rate), 1)
        self._rest = np.zeros((0, 0), np.float32)
        self._powers: list[np.ndarray] = []
        self._mean_power: list[np.ndarray] = []
        self._has_warned = False

    def watch(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield blocks of (frames, channels) as they are."""
        for block in blocks:
            if block.shape[1] > 1 and not self._has_warned:
                self.add(block)
                if self._seconds >= SECONDS_TO_JUDGE:
                    self._warn()
            yield block
        self._warn()

    def add(self, block: np.ndarray) -> None:
        """Take some more samples (samples, channels)."""
        samples = np.concatenate([self._rest, block]) if self._rest.size else block
        count = len(samples) // self._frame
        whole = samples[: count * self._frame].reshape(count, self._frame, block.shape[1])
        self._powers.append(np.square(whole).mean(axis=1, dtype=np.float64))
        self._mean_power.append(np.square(whole.mean(axis=2)).mean(axis=1, dtype=np.float64))
        self._rest = samples[count * self._frame :]

    @property
    def frame_seconds(self) -> float:
        """Of a frame, whole samples."""
        return self._frame / self._sample_rate

    def powers(self, num_channels: int) -> np.ndarray:
        """Mean powers (frames, channels) so far."""
        return np.concatenate([np.zeros((0, num_channels)), *self._powers])

    def difference(self) -> str:
        """In what the channels differ strongly; nothing if they do not."""
        if not self._seconds:
            return ""
        powers = np.concatenate(self._powers)
        num_channels = powers.shape[1]
        unrelated = powers.sum() / num_channels**2
        if not unrelated:
            return ""  # silence
        if np.concatenate(self._mean_power).sum() < CANCELLED * unrelated:
            return "cancel each other (one is inverted?)"
        leads = np.sort(share_of_leads(powers))
        return "are led by turns, as by a speaker on each" if leads[-2] >= LEADS_OF_A_CALL else ""

    @property
    def _seconds(self) -> float:
        return FRAME_SECONDS * sum(map(len, self._powers))

    def _warn(self) -> None:
        found = "" if self._has_warned else self.difference()
        if found:
            self._has_warned = True
            remark(
                logger,
                self.name,
                f"its channels {found}, and their mean is taken",
                advice=f". Choose one: --channel 0, or {self.name}:0",
            )


def share_of_leads(powers: np.ndarray) -> np.ndarray:
    """(channels,) the share of active frames in which each is 10 dB above all others.

    Args:
        powers: (frames, channels).
    """
    total = powers.sum(axis=1)
    active = powers[total > ACTIVE * total.max()]
    ordered = np.sort(active, axis=1)
    leads = ordered[:, -1] >= LEADING * ordered[:, -2]
    first = active.argmax(axis=1)[leads]
    return np.bincount(first, minlength=powers.shape[1]) / len(active)
