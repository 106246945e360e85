"""Crops per second of the loader (wav, flac, packed; workers) and of every kind of augmentation.

    python benchmarks/training_data.py            # all
    python benchmarks/training_data.py effects    # one part

The corpus is generated into a temporary folder; files are in the page cache, so this is the price
of decoding, not of a disk. One thread computes. The loader's part takes a minute on two cores.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CROP = 40_000
BATCH = 32


def rate(work: Callable[[], object], crops: int, repeats: int = 5) -> float:
    """Crops per second, best of ``repeats``."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return crops / min(seconds)


def loader() -> None:
    """The loader alone: 2.5 s crops from generated wav, flac and packed files."""
    from speakervlad.config import Config, DataConfig, TrainConfig
    from speakervlad.data.conversion import convert_folder
    from speakervlad.data.dataset import UtteranceDataset, batches
    from speakervlad.data.packing import pack
    from speakervlad.data.prepare import prepare
    from speakervlad.data.synthesis import make_corpus
    from speakervlad.training.augment.build import build_crops
    from speakervlad.training.distributed import World
    from speakervlad.training.loading import build_loader

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wav = make_corpus(folder / "wav", num_speakers=8, min_seconds=5, max_seconds=10)
        convert_folder(folder / "wav", folder / "flac")
        flac = prepare(folder / "flac", layout="speaker-folders").manifest
        packed = pack(wav, folder / "packed")
        for kind, manifest in (("wav", wav), ("flac", flac), ("packed", packed)):
            for workers in (0, 1, 2):
                config = Config(
                    data=DataConfig(num_workers=workers), train=TrainConfig(batch_size=BATCH)
                )
                crops = UtteranceDataset(manifest, crop_samples=CROP, seed=0)
                drawn = build_crops(config.augment, crops, (80, 248))
                stream = batches(build_loader(config, drawn, 0, World(0, 1, torch.device("cpu"))))
                list(islice(stream, 8))
                start = time.perf_counter()
                list(islice(stream, 40))
                found = 40 * BATCH / (time.perf_counter() - start)
                del stream  # ends its workers, before their files go
                print(f"  {found:8.0f} crops/s  {kind}, {workers} workers", flush=True)


def effects() -> None:
    """Every effect on batches of 32 crops of 2.5 s on the CPU; codecs one crop at a time."""
    from speakervlad.training.augment import effects as effect
    from speakervlad.training.augment.codec import CODECS, transcode

    torch.set_num_threads(1)
    crops = 0.1 * torch.randn(BATCH, CROP)
    longer, noise = 0.1 * torch.randn(BATCH, 11 * CROP // 10), torch.randn(BATCH, CROP)
    responses = torch.randn(BATCH, 16_000) * torch.exp(-torch.arange(16_000) / 3000)
    levels = torch.zeros(BATCH)
    spans = torch.tensor([[[3, 10]]]).expand(BATCH, -1, -1)
    kinds: dict[str, Callable[[], Tensor]] = {
        "noise, music or babble": lambda: effect.add_noise(crops, noise, levels),
        "reverberation, 1 s": lambda: effect.reverberate(crops, responses),
        "telephone line": lambda: effect.telephone(crops),
        "speed 0.9": lambda: effect.change_speed(longer, 0.9, CROP),
        "speed 1.1": lambda: effect.change_speed(longer, 1.1, CROP),
        "gain": lambda: effect.scale(crops, levels),
        "masks": lambda: effect.kept(spans, 248),
    }
    for kind, work in kinds.items():
        print(f"  {rate(work, BATCH):8.0f} crops/s  {kind}", flush=True)
    waveform = crops[0].numpy().astype(np.float32)
    for codec in CODECS:
        found = rate(lambda codec=codec: transcode(waveform, codec, 16_000), 1)
        print(f"  {found:8.0f} crops/s  {codec}", flush=True)


PARTS = {"effects": effects, "loader": loader}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        print(f"{part}: {(PARTS[part].__doc__ or '').strip()}")
        PARTS[part]()
