"""Where noise and rooms come from: manifests, read by workers."""

import logging
from pathlib import Path

import numpy as np

from speakervlad.audio.spans import load_audio
from speakervlad.errors import InputError
from speakervlad.tables.manifest import Manifest
from speakervlad.training.effects import RIR_LEAD

logger = logging.getLogger(__name__)

KINDS = ("noise", "music", "speech")
MAX_DRAWS = 10
# Below this mean power (-90 dB of full scale) a crop of noise is silence.
SILENCE = 1e-9


class _Complaints:
    """Says once of every file that it cannot be used, and why."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def add(self, path: Path, reason: object) -> None:
        if path not in self._paths:
            self._paths.add(path)
            logger.warning("%s is left out (%d so far): %s", path, len(self._paths), reason)


class NoiseSource:
    """Crops of noise, music and babble; the kinds of the manifest are equally likely.

    Args:
        manifest: its speaker column holds the kind, one of ``KINDS``.
        snr_db: lowest and highest ratio of each kind.
        babble_speakers: fewest and most voices of babble.

    Raises:
        InputError: the manifest has another kind.
    """

    def __init__(
        self,
        manifest: Manifest,
        snr_db: dict[str, tuple[float, ...]],
        babble_speakers: tuple[int, ...],
    ) -> None:
        self.manifest, self.snr_db, self.babble_speakers = manifest, snr_db, babble_speakers
        self._complaints = _Complaints()
        self._holds_noise, self._went_without = False, False
        self.kinds = manifest.speaker_names
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise InputError(
                f"augment.noise_manifest: kind {unknown[0]!r} in the speaker column, known are "
                f"{', '.join(KINDS)}. Write it with `speakervlad prepare --layout musan`."
            )
        codes = manifest.speaker_indices
        self.rows = [np.flatnonzero(codes == code) for code in range(len(self.kinds))]

    def draw(self, rng: np.random.Generator, num_samples: int) -> tuple[np.ndarray, float]:
        """Noise, float32 (num_samples,), and the signal-to-noise ratio to mix it at in dB.

        Where ten crops in a row cannot be read or are silent, it is zero.

        Raises:
            InputError: there is no noise in any file.
        """
        code = int(rng.integers(len(self.kinds)))
        kind = self.kinds[code]
        voices = 1
        if kind == "speech":
            voices = int(rng.integers(self.babble_speakers[0], self.babble_speakers[1] + 1))
        noise = np.zeros(num_samples, np.float32)
        for _ in range(voices):
            noise += self._crop(self.rows[code], rng, num_samples)
        lowest, highest = self.snr_db[kind]
        return noise, float(rng.uniform(lowest, highest))

    def _crop(self, rows: np.ndarray, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """A crop of unit power; shorter recordings are repeated, what cannot be used drawn anew."""
        for _ in range(MAX_DRAWS):
            row = int(rng.choice(rows))
            path = self.manifest.path(row)
            length = int(self.manifest.num_samples[row])
            start = int(rng.integers(max(length - num_samples, 0) + 1))
            count = min(length, num_samples)
            try:
                crop = load_audio(path, start=start, num_samples=count)
            except (InputError, OSError) as error:
                self._complaints.add(path, error)
                continue
            power = float(np.mean(np.square(crop)))
            if power > SILENCE:
                self._holds_noise = True
                return np.resize(crop, num_samples) / np.float32(power**0.5)
            if count == length:
                self._complaints.add(path, "silent from its beginning to its end")
        self._go_without()
        return np.zeros(num_samples, np.float32)

    def _go_without(self) -> None:
        """Say once that a crop gets no noise; while none was found yet, make sure there is some.

        Raises:
            InputError: there is no noise in any file.
        """
        if not self._holds_noise and not any(map(self._has_noise, range(len(self.manifest)))):
            raise InputError(
                f"augment.noise_manifest: all of its {len(self.manifest)} files are silent or "
                f"cannot be read, such as {self.manifest.path(0)}. Repair them or leave it out."
            )
        self._holds_noise = True
        if not self._went_without:
            self._went_without = True
            logger.warning(
                "augment.noise_manifest: %d draws in a row were silent or could not be read; "
                "such a crop gets no noise",
                MAX_DRAWS,
            )

    def _has_noise(self, row: int) -> bool:
        try:
            waveform = load_audio(self.manifest.path(row))
        except (InputError, OSError):
            return False
        return float(np.square(waveform).max()) > SILENCE


class RoomSource:
    """Impulse responses, brought to one length with the direct path at one place.

    Args:
        manifest: one response a file; of several channels the first is taken.
        num_samples: length after the alignment; the rest is cut, what lacks is zero.
    """

    def __init__(self, manifest: Manifest, num_samples: int) -> None:
        self.manifest, self.num_samples = manifest, num_samples
        self._complaints = _Complaints()

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A response, float32 (num_samples,).

        Raises:
            InputError: ten in a row cannot be read or are silent.
        """
        path = Path()
        for _ in range(MAX_DRAWS):
            path = self.manifest.path(int(rng.integers(len(self.manifest))))
            try:
                response = load_audio(path, channel=0)
            except (InputError, OSError) as error:
                self._complaints.add(path, error)
                continue
            if response.any():
                return aligned(response, self.num_samples)
            self._complaints.add(path, "a silent impulse response")
        raise InputError(
            f"{path}: {MAX_DRAWS} impulse responses in a row are silent or cannot be read. "
            "Remove such recordings from augment.rir_manifest."
        )


def aligned(response: np.ndarray, num_samples: int) -> np.ndarray:
    """Move the direct path, the strongest sample, to ``RIR_LEAD``: (any,) -> (num_samples,)."""
    first = int(np.abs(response).argmax()) - RIR_LEAD
    moved = np.zeros(num_samples, np.float32)
    source = response[max(first, 0) :][: num_samples + min(first, 0)]
    begin = max(-first, 0)
    moved[begin : begin + len(source)] = source
    return moved
