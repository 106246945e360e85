"""Give an encoder folder classes to train on with: the mean embedding of every speaker.

class_means.py ENCODER train.csv --speeds 1 0.9 1.1 --out FOLDER

Weight imprinting (Qi et al. 2018, https://arxiv.org/abs/1712.07136): an encoder whose classifier
is lost, or that meets new speakers, goes on from there with ``init_from`` and ``init_classifier``.
"""

import argparse
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soxr
import torch

from speakervlad.config import ENCODER_CONFIG_NAME
from speakervlad.data.audio import SAMPLE_RATE, read_audio
from speakervlad.data.manifest import Manifest
from speakervlad.inference.engine import Embedder, load_encoder
from speakervlad.models.folder import WEIGHTS_NAME, save_classifier

# About where AdamW keeps class weights of 256 dimensions (lr 0.003, decay 0.02). Unit vectors turn
# four times as fast, and forget: the loss rose from 5.5 to 7.2 within 350 steps.
LENGTH = 4.0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--speeds", type=float, nargs="+", default=[1.0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    manifest = Manifest.load(arguments.manifest)
    embedder = load_encoder(arguments.encoder, device="cpu")
    means = [class_means(embedder, manifest, speed) for speed in arguments.speeds]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in (ENCODER_CONFIG_NAME, WEIGHTS_NAME):
        shutil.copyfile(arguments.encoder / name, arguments.out / name)
    save_classifier(arguments.out, torch.from_numpy(np.concatenate(means)))


def class_means(embedder: Embedder, manifest: Manifest, speed: float) -> np.ndarray:
    """Direction (speakers, dim) of every speaker's mean embedding, played at one speed."""

    def embed(row: int) -> np.ndarray:
        waveform = read_audio(manifest.path(row))
        if speed != 1:
            waveform = soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE)
        return embedder.embed(waveform)

    with ThreadPoolExecutor() as threads:
        vectors = np.stack(list(threads.map(embed, range(len(manifest)))))
    totals = np.zeros((len(manifest.speaker_names), vectors.shape[1]), np.float32)
    np.add.at(totals, manifest.speaker_indices, vectors)
    return LENGTH * totals / np.linalg.norm(totals, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
