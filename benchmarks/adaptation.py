"""What ``adapt`` gives on a corpus: heads fitted to some of its speakers, judged by all others.

    python benchmarks/adaptation.py MANIFEST ... [--encoder default] [--speakers 10 30] [--draws 3]
        [--frames DIR]

A corpus is a manifest; of each number of speakers several draws are fitted, and the same pairs of
utterances of the other speakers are judged before and after. EER in %: the mean over draws, the
smallest and the largest.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from speakervlad.encoder.location import find_encoder
from speakervlad.scoring.metrics import equal_error_rate
from speakervlad.tables.manifest import Manifest, load_manifest
from speakervlad.training.adapt import ALONE, Fitting, adaptation
from speakervlad.training.frame_cache import open_cache


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--speakers", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--judged", type=int, default=15, help="fewest others that are judged")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--frames", type=Path, help="kept here; a temporary folder by default")
    arguments = parser.parse_args()
    print("| corpus | speakers fitted to | judged | before | after |\n|---|---|---|---|---|")
    for path in arguments.manifests:
        with tempfile.TemporaryDirectory() as temporary:
            frames = (arguments.frames or Path(temporary)) / path.stem
            manifest = load_manifest(path)
            fitting = fitting_of(manifest, arguments.encoder, frames, arguments.steps)
            for count in arguments.speakers:
                if len(manifest.speaker_names) >= count + arguments.judged:
                    found = [errors(fitting, manifest, count, n) for n in range(arguments.draws)]
                    print(line(path.stem, count, len(manifest.speaker_names) - count, found))


def fitting_of(manifest: Manifest, encoder: str, frames: Path, steps: int) -> Fitting:
    """What fits heads to the recordings, with the settings of ``adapt``."""
    config = adaptation(find_encoder(encoder), frames, steps, seed=0)
    return Fitting(config, open_cache(config, manifest, ALONE))


def errors(fitting: Fitting, manifest: Manifest, count: int, draw: int) -> tuple[float, float]:
    """EER of the other speakers in percent, before and after."""
    order = np.random.default_rng((count, draw)).permutation(len(manifest.speaker_names))
    judged = fitting.judge(np.flatnonzero(np.isin(manifest.speaker_indices, order[count:])))
    before, after = (
        100 * equal_error_rate(scores, judged.labels) for scores in (judged.before, judged.after)
    )
    return before, after


def line(name: str, count: int, judged: int, found: list[tuple[float, float]]) -> str:
    """One row of the table."""
    cells = [
        f"{np.mean(one):.2f} ({min(one):.2f}-{max(one):.2f})" for one in zip(*found, strict=True)
    ]
    return f"| {name} | {count} | {judged} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
