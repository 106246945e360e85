"""Give an encoder folder classes to train on with: the mean embedding of every speaker.

class_means.py ENCODER train.csv E.npz --speeds 1 0.9 1.1 --out FOLDER

Weight imprinting (Qi et al. 2018, https://arxiv.org/abs/1712.07136): an encoder whose classifier
is lost, or that meets new speakers, goes on from there with ``init_from`` and ``init_classifier``.
``E.npz`` holds the encoder's embeddings at speed 1, as ``embed`` makes them. At the other speeds
``--take`` utterances are embedded, and the rest is predicted from speed 1 as in ``targets.py``.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import soxr
import torch
from targets import predicted, rows_of, speaker_means, unit

from speakervlad.audio.spans import load_audio
from speakervlad.config import ENCODER_CONFIG_NAME, WEIGHTS_NAME
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.models.folder import save_classifier
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings
from speakervlad.tables.manifest import Manifest, load_manifest

# About where AdamW keeps class weights of 256 dimensions (lr 0.003, decay 0.02). Unit vectors turn
# four times as fast, and forget: the loss rose from 5.5 to 7.2 within 350 steps.
LENGTH = 4.0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--speeds", type=float, nargs="+", default=[1.0])
    parser.add_argument("--take", type=int, default=2700)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    manifest = load_manifest(arguments.manifest)
    names = np.array(manifest.utterance_ids.tolist())
    speakers = np.asarray(manifest.speaker_indices)
    plain = unit(rows_of(load_embeddings(arguments.embeddings), names))
    embedder = load_encoder(arguments.encoder, device="cpu", precision="bfloat16")
    rows = np.random.default_rng(0).permutation(len(manifest))[: arguments.take]
    means = []
    for speed in arguments.speeds:
        vectors = plain
        if speed != 1:
            sample = Embeddings(names[rows], embed(embedder, manifest, rows, speed))
            vectors = predicted(plain, names, sample)
        means.append(LENGTH * unit(speaker_means(vectors, speakers)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in (ENCODER_CONFIG_NAME, WEIGHTS_NAME):
        shutil.copyfile(arguments.encoder / name, arguments.out / name)
    save_classifier(arguments.out, torch.from_numpy(np.concatenate(means)).float())


def embed(embedder: Encoder, manifest: Manifest, rows: np.ndarray, speed: float) -> np.ndarray:
    """Embeddings (rows, dim) of these utterances, played at a speed."""
    waveforms = (load_audio(manifest.path(row)) for row in rows.tolist())
    played = (soxr.resample(each, SAMPLE_RATE * speed, SAMPLE_RATE) for each in waveforms)
    return np.stack([embedder.embed(each) for each in played])


if __name__ == "__main__":
    main()
