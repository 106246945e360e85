"""Crops per second of the loader (wav, flac, packed; workers) and of augmentation.

    python benchmarks/training_data.py            # all
    python benchmarks/training_data.py effects    # one part
    python benchmarks/training_data.py --batches 2 --repeats 1    # to see that it runs

The corpus is generated into a temporary folder; files are in the page cache, so this is the price
of decoding, not of a disk. One thread computes. Only the loader's crops per second are by the
wall clock; all else counts processor time, which other work on the machine disturbs less.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CROP = 40_000
BATCH = 32
NUM_WORKERS = (0, 1, 2)


def rate(work: Callable[[], object], crops: int, repeats: int) -> float:
    """Crops per second of processor time, best of ``repeats``."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return crops / min(seconds)


def loader(options: argparse.Namespace) -> None:
    """The loader alone: 2.5 s crops from generated wav, flac and packed files."""
    from speakervlad.config import Config, DataConfig, TrainConfig
    from speakervlad.corpus.dataset import UtteranceDataset, batches
    from speakervlad.corpus.packing import pack
    from speakervlad.corpus.prepare import convert_folder, prepare
    from speakervlad.corpus.voices import make_corpus
    from speakervlad.training.augment import build_crops
    from speakervlad.training.distributed import World
    from speakervlad.training.loading import build_loader

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wav = make_corpus(folder / "wav", num_speakers=8, min_seconds=5, max_seconds=10)
        convert_folder(folder / "wav", folder / "flac")
        flac = prepare(folder / "flac", layout="speaker-folders").manifest
        packed = pack(wav, folder / "packed")
        for kind, manifest in (("wav", wav), ("flac", flac), ("packed", packed)):
            for workers in NUM_WORKERS:
                config = Config(
                    data=DataConfig(num_workers=workers), train=TrainConfig(batch_size=BATCH)
                )
                crops = UtteranceDataset(manifest, crop_samples=CROP, seed=0)
                drawn = build_crops(config.augment, crops, (80, 248))
                stream = batches(build_loader(config, drawn, 0, World(0, 1, torch.device("cpu"))))
                list(islice(stream, 2 + 2 * workers))  # what waits in queues is not counted
                began, used = time.perf_counter(), processor_seconds()
                list(islice(stream, options.batches))
                seconds, used = time.perf_counter() - began, processor_seconds() - used
                del stream  # ends its workers, before their files go
                crops_read = options.batches * BATCH
                found, price = crops_read / seconds, 1000 * used / crops_read
                print(
                    f"  {found:8.0f} crops/s  {price:6.2f} CPU s per 1,000  "
                    f"{kind}, {workers} workers",
                    flush=True,
                )


def processor_seconds() -> float:
    """Of this process and the workers that live (Linux; elsewhere of this process)."""
    used = time.process_time()
    for worker in active_children():
        status = Path(f"/proc/{worker.pid}/stat")
        if status.exists():
            fields = status.read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def effects(options: argparse.Namespace) -> None:
    """Every effect on batches of 32 crops of 2.5 s on the CPU; codecs one crop at a time."""
    from speakervlad.training import effects as effect
    from speakervlad.training.effects import CODECS, transcode

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
        print(f"  {rate(work, BATCH, options.repeats):8.0f} crops/s  {kind}", flush=True)
    waveform = crops[0].numpy().astype(np.float32)
    for codec in CODECS:
        transcoded = partial(transcode, waveform, codec, 16_000)
        found = rate(transcoded, 1, options.repeats)
        print(f"  {found:8.0f} crops/s  {codec}", flush=True)


PARTS = {"effects": effects, "loader": loader}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--batches", type=int, default=40, help="of the loader")
    parser.add_argument("--repeats", type=int, default=5, help="of every effect; the best counts")
    options = parser.parse_args()
    for part in options.parts or PARTS:
        print(f"{part}: {(PARTS[part].__doc__ or '').strip()}")
        PARTS[part](options)


if __name__ == "__main__":
    main()
