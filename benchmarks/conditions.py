"""What is done to the test side of a trial, and what it costs encoders, side by side.

    python benchmarks/conditions.py LIST.trials ... --dev dev.csv --noise noise.csv --rooms rir.csv
        [--encoder default ...] [--only clean babble ...]

Enrolment is as recorded, the test recording has one condition, drawn by its row alone, so that all
encoders hear the same. Noise and rooms are manifests as training takes them. EER in %: the mean
over the lists.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator, default_rng
from torch import Tensor

from speakervlad.audio.spans import load_audio
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.metrics import equal_error_rate
from speakervlad.scoring.trials import Trials
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest, load_manifest
from speakervlad.tables.names import required_rows
from speakervlad.training.effects import (
    add_noise,
    change_pitch,
    reverberate,
    store,
    telephone,
)
from speakervlad.training.sources import NoiseSource, RoomSource

SNR_DB, QUIET_DBFS, INSIDE_SECONDS, ROOM_SECONDS = 5.0, -46.0, 2.0, 0.5
PITCHES = (0.8, 0.87, 1.15, 1.25)
BABBLE_VOICES = (3, 5)


class Material:
    """Noise, babble and rooms to draw from.

    Args:
        noise: manifest of noise, music and speech.
        rooms: manifest of impulse responses.
    """

    def __init__(self, noise: Path, rooms: Path | None = None) -> None:
        manifest = load_manifest(noise)
        is_speech = manifest.speakers == "speech"
        self.noise, self.babble = (_source(manifest, rows) for rows in (~is_speech, is_speech))
        self.rooms = (
            None
            if rooms is None
            else RoomSource(load_manifest(rooms), round(ROOM_SECONDS * SAMPLE_RATE))
        )


def _source(manifest: Manifest, rows: np.ndarray) -> NoiseSource | None:
    if not rows.any():
        return None
    ratios = dict.fromkeys(("noise", "music", "speech"), (0.0, 0.0))
    return NoiseSource(manifest.select(np.flatnonzero(rows)), ratios, BABBLE_VOICES)


def drawn_from(source: NoiseSource | None, rng: Generator, num_samples: int) -> np.ndarray:
    """Noise of unit power, float32 (samples,)."""
    if source is None:
        raise SystemExit("--noise lists nothing of the kind that this condition needs")
    return source.draw(rng, num_samples)[0]


# A waveform, what there is to draw from, and draws, to a waveform.
Condition = Callable[[np.ndarray, Material, Generator], np.ndarray]


def clean(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """As it is."""
    return waveform


def babble(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """Three to five voices at 5 dB."""
    return _mixed(waveform, drawn_from(material.babble, rng, len(waveform)))


def noise(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """Recorded noise or music at 5 dB."""
    return _mixed(waveform, drawn_from(material.noise, rng, len(waveform)))


def pink(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """Noise of equal power in every octave at 5 dB."""
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return _mixed(waveform, np.fft.irfft(spectrum, len(waveform)).astype(np.float32))


def inside(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """Two seconds of noise or music alone in its middle, as loud as the speech."""
    sound = drawn_from(material.noise, rng, round(INSIDE_SECONDS * SAMPLE_RATE))
    level, middle = np.sqrt(np.square(waveform).mean()), len(waveform) // 2
    parts = [waveform[:middle], level * sound, waveform[middle:]]
    return np.concatenate(parts).astype(np.float32)


def quiet(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """Its peak at -46 dB of full scale, in 16 bits."""
    return store(_batch(waveform), torch.tensor([QUIET_DBFS]))[0].numpy()


def mu_law(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """Through a telephone line of 8 kHz."""
    return telephone(_batch(waveform))[0].numpy()


def room(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """In a measured room."""
    if material.rooms is None:
        raise SystemExit("--rooms is not given")
    return reverberate(_batch(waveform), _batch(material.rooms.draw(rng)))[0].numpy()


def pitch(waveform: np.ndarray, material: Material, rng: Generator) -> np.ndarray:
    """Pitch and tempo changed by 13 to 25 %, formants kept."""
    factor = float(rng.choice(PITCHES))
    return change_pitch(waveform, factor, int(len(waveform) / factor))


CONDITIONS: dict[str, Condition] = {
    function.__name__: function
    for function in (clean, babble, noise, pink, inside, quiet, mu_law, room, pitch)
}


def _mixed(waveform: np.ndarray, sound: np.ndarray) -> np.ndarray:
    return add_noise(_batch(waveform), _batch(sound), torch.tensor([SNR_DB]))[0].numpy()


def _batch(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(samples)[None]


def heard(manifest: Manifest, row: int, kind: str, material: Material) -> np.ndarray:
    """A recording of a manifest under a condition; draws depend on its row alone."""
    waveform = load_audio(manifest.path(row))
    return CONDITIONS[kind](waveform, material, default_rng((7, row))).astype(np.float32)


class Lists:
    """Trial lists, and their recordings once each.

    Attributes:
        names: of all recordings, sorted.
        rows: theirs in the manifest.
    """

    def __init__(self, paths: list[Path], manifest: Manifest) -> None:
        self.trials: dict[str, Trials] = {path.stem: load_trials(path) for path in paths}
        self.names = np.unique(np.concatenate([each.names for each in self.trials.values()]))
        self.rows = required_rows(manifest, self.names)

    def errors(self, enrolled: np.ndarray, tested: np.ndarray) -> dict[str, float]:
        """EER in percent by list, from vectors (recordings, dim) of either side."""
        one, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (enrolled, tested))
        found = {}
        for name, trials in self.trials.items():
            at = np.searchsorted(self.names, trials.names)
            scores = np.einsum("td,td->t", one[at[trials.enrol]], other[at[trials.test]])
            found[name] = 100 * equal_error_rate(scores, trials.labels())
        return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--dev", type=Path, required=True, help="manifest of the recordings")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--rooms", type=Path, help="needed for the condition room")
    parser.add_argument("--encoder", nargs="+", default=["default"])
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--only", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    arguments = parser.parse_args()
    manifest = load_manifest(arguments.dev)
    lists, material = Lists(arguments.lists, manifest), Material(arguments.noise, arguments.rooms)
    names = {name: load_encoder(name, backend=arguments.backend) for name in arguments.encoder}
    print(f"| | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    enrolled: dict[str, np.ndarray] = {}
    for kind in dict.fromkeys(["clean", *arguments.only]):
        cells = []
        for name, encoder in names.items():
            vectors = embedded(encoder, manifest, lists.rows, kind, material)
            errors = lists.errors(enrolled.setdefault(name, vectors), vectors)
            cells.append(f"{np.mean(list(errors.values())):.2f}")
            print(f"# {kind} {name}: {errors}", flush=True)
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def embedded(
    encoder: Encoder, manifest: Manifest, rows: np.ndarray, kind: str, material: Material
) -> np.ndarray:
    """Vectors (recordings, dim) of recordings under a condition."""
    return np.stack([encoder.embed(heard(manifest, row, kind, material)) for row in rows.tolist()])


if __name__ == "__main__":
    main()
