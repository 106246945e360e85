"""Who takes the weight when noise is put into a recording: the ghosts' share, corpus by corpus.

python benchmarks/ghosts.py DEV.csv [--encoder default]
"""

import argparse
from pathlib import Path

import numpy as np

from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.explain import explain, samples_of, with_noise
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import load_manifest

NOISE_SECONDS, SHORTEST_SECONDS = 2.0, 2.0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--take", type=int, default=20, help="recordings of each corpus")
    arguments = parser.parse_args()
    encoder, manifest = load_encoder(arguments.encoder), load_manifest(arguments.manifest)
    corpora = np.array(manifest.column("corpus"))
    rng, everything, weights = np.random.default_rng(0), [], []
    print("| corpus | inside the noise | outside | without noise | more inside than outside |")
    print("|---|---|---|---|---|")
    for corpus in sorted(set(corpora.tolist())):
        rows = rng.permutation(np.flatnonzero(corpora == corpus))
        long = manifest.num_samples[rows] >= SHORTEST_SECONDS * SAMPLE_RATE
        chosen = rows[np.argsort(~long, kind="stable")][: arguments.take]
        found = [measure(encoder, manifest.path(row)) for row in chosen.tolist()]
        shares = np.array([share for share, _ in found])
        weights += [weight for _, weight in found]
        everything.append(shares)
        print_row(corpus, shares)
    print_row("all", np.concatenate(everything))
    print("mean weights, clusters and ghosts, %:", np.round(100 * np.mean(weights, axis=0), 1))


def measure(encoder: Encoder, path: Path) -> tuple[list[float], np.ndarray]:
    """Share of the ghosts inside, outside and without noise; mean weights without noise."""
    samples = samples_of(path)
    noisy, span = with_noise(samples, NOISE_SECONDS)
    found, plain = explain(encoder, noisy), explain(encoder, samples)
    inside, outside = (found.ghost_share(*span, inside=inside) for inside in (True, False))
    return [inside, outside, plain.ghost_share()], plain.shares.mean(axis=1)


def print_row(name: str, shares: np.ndarray) -> None:
    """One line of the table; ``shares`` (recordings, 3)."""
    more = int((shares[:, 0] > shares[:, 1]).sum())
    means = " | ".join(f"{100 * mean:.1f}" for mean in shares.mean(axis=0))
    print(f"| {name} | {means} | {more} of {len(shares)} |")


if __name__ == "__main__":
    main()
