"""How often one voice is taken for two, and two for one, where recordings are enrolled.

    python benchmarks/two_voices.py DEV.csv

Single recordings of a manifest, of one speaker joined, and of two joined, at one level: so many
seconds, the second speaker with half, a third or a quarter of them, at the end or in the middle.
"""

import argparse
from pathlib import Path

import numpy as np

from speakervlad.audio.recording import Recording
from speakervlad.audio.spans import load_audio
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.errors import InputError
from speakervlad.people.mixture import find_mixture, listen
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest, load_manifest

SECONDS = (4, 6, 9, 13, 20)
SHARES = (1 / 2, 1 / 3, 1 / 4)
LEVEL = 0.05
# A speaker with fewer recordings is not joined.
FEWEST = 5


class Material:
    """Recordings of a manifest, at one level."""

    def __init__(self, manifest: Manifest, rng: np.random.Generator) -> None:
        self.manifest, self.rng = manifest, rng
        self.speakers = np.array(manifest.speakers.tolist())
        self.corpora = manifest.column("corpus")

    def recording(self, row: int) -> np.ndarray:
        samples = load_audio(self.manifest.path(row))
        return samples * (LEVEL / max(float(np.sqrt(np.mean(samples**2))), 1e-6))

    def speakers_of(self, corpus: str) -> list[str]:
        """Those who have enough recordings."""
        names, counts = np.unique(self.speakers[self.corpora == corpus], return_counts=True)
        return names[counts >= FEWEST].tolist()

    def of(self, speaker: str, seconds: float) -> np.ndarray:
        """So much of a speaker, or all there is."""
        parts, wanted = [], round(seconds * SAMPLE_RATE)
        for row in self.rng.permutation(np.flatnonzero(self.speakers == speaker)).tolist():
            parts.append(self.recording(row))
            if sum(map(len, parts)) >= wanted:
                break
        return np.concatenate(parts)[:wanted]

    def of_two(self, speakers: list[str], seconds: float, share: float, place: int) -> np.ndarray:
        """The second one speaks at the end (0) or in the middle (1)."""
        one, other = self.rng.choice(speakers, 2, replace=False).tolist()
        first = self.of(one, seconds * (1 - share))
        second = self.of(other, seconds * share)
        cut = len(first) // (1 + place)
        return np.concatenate([first[:cut], second, first[cut:]])


def is_told(encoder: Encoder, samples: np.ndarray) -> bool | None:
    """Whether two voices are found; None where nobody speaks."""
    known = encoder.thresholds
    assert known is not None
    try:
        frames = listen(encoder.frames, Recording(samples.astype(np.float32)))[1]
    except InputError:
        return None
    return find_mixture(frames, known.eer) is not None


def told(answers: list[bool | None]) -> str:
    """``3 of 60``."""
    heard = [answer for answer in answers if answer is not None]
    return f"{sum(heard)} of {len(heard)}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--each", type=int, default=12, help="recordings of a length and corpus")
    arguments = parser.parse_args()
    encoder = load_encoder()
    material = Material(load_manifest(arguments.manifest), np.random.default_rng(0))
    print("| corpus | single recordings |", " | ".join(f"one, {s} s | two, {s} s" for s in SECONDS))
    print("|---|---|" + "---|---|" * len(SECONDS))
    for corpus in sorted(set(material.corpora.tolist())):
        print_line(encoder, material, corpus, arguments.each)


def print_line(encoder: Encoder, material: Material, corpus: str, each: int) -> None:
    """How many of each kind are told to have two voices."""
    rows = material.rng.permutation(np.flatnonzero(material.corpora == corpus)).tolist()
    cells = [corpus, told([is_told(encoder, material.recording(row)) for row in rows[: 5 * each]])]
    speakers = material.speakers_of(corpus)
    for seconds in SECONDS:
        ones, twos = [], []
        for turn in range(each):
            ones.append(is_told(encoder, material.of(material.rng.choice(speakers), seconds)))
            share, place = SHARES[turn % len(SHARES)], turn % 2
            two = material.of_two(speakers, seconds, share, place)
            twos.append(is_told(encoder, two))
        cells += [told(ones), told(twos)]
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
