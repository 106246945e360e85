"""Where noise and rooms come from: manifests, read by workers; rooms may be simulated."""

import logging
from functools import partial
from pathlib import Path

import numpy as np

from speakervlad.audio.reading import read_audio
from speakervlad.audio.writing import write_audio
from speakervlad.corpus.work import map_parallel
from speakervlad.errors import InputError
from speakervlad.extras import require
from speakervlad.files import check_writable
from speakervlad.progress import Track, silent
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest
from speakervlad.training.effects import RIR_LEAD

logger = logging.getLogger(__name__)

KINDS = ("noise", "music", "speech")
MAX_DRAWS = 10
# Below this mean power (-90 dB of full scale) a crop of noise is silence.
SILENCE = 1e-9
# Simulated rooms, in metres: width and length, height, distance from walls.
FLOOR, HEIGHT, WALL_DISTANCE = (3.0, 10.0), (2.5, 4.0), 0.5
REVERB_SECONDS = (0.15, 0.6)
# Reflections beyond this order are hardly heard and cost cubically.
MAX_ORDER = 30


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
                crop = read_audio(path, start=start, num_samples=count)
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
            waveform = read_audio(self.manifest.path(row))
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
                response = read_audio(path, channel=0)
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


def simulate_rooms(
    folder: str | Path,
    *,
    num_rooms: int,
    seed: int = 0,
    num_workers: int | None = None,
    track: Track = silent,
) -> Manifest:
    """Write impulse responses of shoebox rooms (image sources; Allen and Berkley 1979).

    Room n depends on ``(seed, n)`` alone, so a larger bank contains the smaller one.

    Args:
        folder: made when missing; the root of the manifest.
        num_rooms: responses, one a room.
        seed: key of all randomness.
        num_workers: processes; one per core when None.
        track: reports progress.

    Raises:
        InputError: pyroomacoustics is not installed, or ``folder`` cannot be written.
    """
    require("pyroomacoustics", "rooms", "simulating rooms")
    folder = Path(folder)
    check_writable(folder / "room.wav")
    names = [f"room{number:06d}" for number in range(num_rooms)]
    lengths = map_parallel(
        partial(_write_room, folder, seed),
        range(num_rooms),
        num_workers=num_workers,
        description="Simulating rooms",
        track=track,
    )
    return Manifest.of(
        folder,
        utterance_ids=names,
        paths=[f"{name}.wav" for name in names],
        speakers=names,
        sessions=names,
        num_samples=lengths,
    )


def _write_room(folder: Path, seed: int, number: int) -> int:
    """Simulate one room; return the length of its response in samples."""
    response = simulate_room(np.random.default_rng((seed, number)))
    write_audio(folder / f"room{number:06d}.wav", response, subtype="FLOAT")
    return len(response)


def simulate_room(rng: np.random.Generator) -> np.ndarray:
    """A random room, speaker and microphone: float32 (samples,), peak 1."""
    return simulate_places(rng, 1)[0]


def simulate_places(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """A random room and microphone, and ``count`` places of speakers: float32 (samples,), peak 1.

    Raises:
        InputError: pyroomacoustics is not installed.
    """
    require("pyroomacoustics", "rooms", "simulating rooms")
    import pyroomacoustics

    size = np.array([*rng.uniform(*FLOOR, 2), rng.uniform(*HEIGHT)])
    seconds = rng.uniform(*REVERB_SECONDS)
    # Sabine's formula: 0.161 V / (S T); a large room cannot ring shorter than with bare openings.
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    absorption = min(0.161 * size.prod() / (surface * seconds), 0.95)
    order = min(int(np.ceil(343 * seconds / size.min())), MAX_ORDER)
    room = pyroomacoustics.ShoeBox(
        size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    room.add_source(rng.uniform(WALL_DISTANCE, size - WALL_DISTANCE))
    room.add_microphone(rng.uniform(WALL_DISTANCE, size - WALL_DISTANCE))
    for _ in range(count - 1):
        room.add_source(rng.uniform(WALL_DISTANCE, size - WALL_DISTANCE))
    room.compute_rir()
    assert room.rir is not None
    longest = int(2 * REVERB_SECONDS[1] * SAMPLE_RATE)
    responses = (np.asarray(response)[:longest] for response in room.rir[0])
    return [(one / np.abs(one).max()).astype(np.float32) for one in responses]
