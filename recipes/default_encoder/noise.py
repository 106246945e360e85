"""The list of noise for conf/default_encoder.yaml: recorded, coloured, music-like, and voices.

    python recipes/default_encoder/noise.py noise.csv train.csv --out data/noise

writes coloured noise and chords with a beat as FLAC into ``data/noise``, and ``data/noise.csv`` of
them, of the recordings of ``noise.csv``, and of the utterances of ``train.csv`` from 2 s on, of
which babble is made. Recordings of noise are two thirds of what is no babble, as in the trial.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.fft import next_fast_len

from speakervlad.audio.writing import write_audio
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest, load_manifest, save_manifest

SECONDS = 30
LEAST_VOICE_SECONDS = 2
# Semitones above a root.
STEPS = (0, 2, 4, 5, 7, 9, 12)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recorded", type=Path, help="manifest of recorded noise")
    parser.add_argument("voices", type=Path, help="manifest of the training utterances")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    recorded, voices = load_manifest(arguments.recorded), load_manifest(arguments.voices)
    count = max(1, len(recorded) // 4)
    rows = [
        (recorded.path(row), int(recorded.num_samples[row]), "noise")
        for row in range(len(recorded))
    ]
    for number in range(count):
        rng = np.random.default_rng((arguments.seed, number))
        for name, make in (("coloured", coloured), ("music", music)):
            path = arguments.out / f"{name}{number:03d}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = make(rng, SECONDS * SAMPLE_RATE)
            write_audio(path, (0.5 * sound / np.abs(sound).max()).astype(np.float32))
            rows.append((path, len(sound), "noise"))
    long = np.flatnonzero(voices.num_samples >= LEAST_VOICE_SECONDS * SAMPLE_RATE)
    rows += [(voices.path(row), int(voices.num_samples[row]), "speech") for row in long.tolist()]
    paths, lengths, kinds = zip(*rows, strict=True)
    names = [f"{number:06d}" for number in range(len(rows))]
    manifest = Manifest.of(
        ".",
        utterance_ids=names,
        paths=[str(path.resolve()) for path in paths],
        speakers=kinds,
        sessions=names,
        num_samples=lengths,
    )
    save_manifest(arguments.out.with_suffix(".csv"), manifest)


def coloured(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Noise whose power falls with frequency, by 0 to 6 dB an octave."""
    size = int(next_fast_len(num_samples, real=True) or num_samples)
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    gains = np.maximum(hertz, hertz[1]) ** (-rng.uniform(0, 2) / 2)
    gains[hertz < 20] = 0
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * gains, size)[:num_samples]


def music(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Chords of three decaying notes on a beat, with a drum of noise."""
    sound = np.zeros(num_samples)
    beat, brightness = rng.uniform(0.2, 0.6), rng.uniform(0.6, 2)
    root = rng.uniform(80, 330)
    for start in range(0, num_samples, round(beat * SAMPLE_RATE)):
        time = np.arange(min(num_samples - start, SAMPLE_RATE)) / SAMPLE_RATE
        decay = np.exp(-time * rng.uniform(1, 6))
        for step in rng.choice(STEPS, 3):
            for harmonic in range(1, 7):
                hertz = root * 2 ** (step / 12) * harmonic
                if hertz < SAMPLE_RATE / 2:
                    phase = 2 * np.pi * (hertz * time + rng.random())
                    sound[start : start + len(time)] += decay * np.sin(phase) / harmonic**brightness
        if rng.random() < 0.7:
            drum = time[: SAMPLE_RATE // 10]
            hit = 2 * rng.standard_normal(len(drum)) * np.exp(-60 * drum)
            sound[start : start + len(drum)] += hit
    return sound


if __name__ == "__main__":
    main()
