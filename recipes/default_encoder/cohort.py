"""Give an encoder the impostors from which `speakervlad identify` takes its thresholds.

    cohort.py ENCODER TRAIN.csv

One recording each of 550 speakers of the training, as many of each corpus as it has, becomes
ENCODER/cohort.safetensors. Corpora that are kept back to judge by are not in TRAIN.csv.
"""

import argparse
from pathlib import Path

import numpy as np

from speakervlad.encoder.encoder import load_encoder
from speakervlad.people.cohort import COHORT_NAME, Cohort, draw_impostors
from speakervlad.tables.manifest import load_manifest

SIZE = 550


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--size", type=int, default=SIZE)
    arguments = parser.parse_args()
    embedder = load_encoder(arguments.encoder)
    assert embedder.fingerprint is not None
    manifest = load_manifest(arguments.manifest)
    speakers = np.array(manifest.speakers.tolist())
    rows = draw_impostors(speakers, manifest.column("corpus"), arguments.size)
    vectors = embedder.embed_files([manifest.path(row) for row in rows])
    out = arguments.encoder / COHORT_NAME
    Cohort(embedder.fingerprint, vectors).save(out)
    print(f"{len(vectors)} impostors, {out.stat().st_size} bytes: {out}")


if __name__ == "__main__":
    main()
