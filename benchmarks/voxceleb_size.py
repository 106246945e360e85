"""What a corpus of VoxCeleb's size costs before and beside the training: time, memory, per worker.

    python benchmarks/voxceleb_size.py --fraction 0.02
    python benchmarks/voxceleb_size.py --folder /big/disk    # 1,240,651 files, 10 GB; they stay
    python benchmarks/voxceleb_size.py --folder /big/disk --part load workers

Files are sparse: the header of a 16-bit wav and its last samples, 8 KiB on disk. The rest reads as
zeros and never touches the disk, so this is what the toolkit adds, not what a disk does. Every part
is a process of its own. Seconds are wall clock, in brackets processor time of all processes; peak
memory is the sum over all processes, pages that several share counted once (PSS, looked at five
times a second). Linux only.
"""

import argparse
import os
import random
import resource
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

import numpy as np

from speakervlad.corpus.layouts import read_voxceleb
from speakervlad.tables.manifest import Manifest, load_manifest, save_manifest

RATE, HEADER_BYTES = 16_000, 44
# Utterances, speakers, number of the first speaker, mean utterances of a video.
CORPORA = {"vox2_dev": (1_092_009, 5_994, 12, 7.5), "vox1_dev": (148_642, 1_211, 10_001, 6.8)}
NUM_PACKED, NUM_CROPS, NUM_ORDERED, NUM_STEPS = 4_000, 1_000, 10_000, 10
TRAINING = """
encoder:
  front_end: {kind: log_mel, num_mels: 40, normalise: none}
  trunk: {kind: thin_resnet34, width: 0.25}
  descriptor_dim: 64
  pooling: {kind: netvlad, num_clusters: 8, num_ghosts: 2, assignment: descriptors}
  embedding_dim: 128
data: {crop_seconds: 1.0, num_workers: 2}
train: {batch_size: 32, log_every: 1, save_every: 5, device: cpu}
"""


def main() -> None:
    """Make the corpus and start a process for every part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the speakers")
    parser.add_argument("--folder", type=Path, help="make or find the files here, and keep them")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return PARTS[options.part[0]](options.folder)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        make_corpus(folder / "corpus", options.fraction)
        for part in options.part:
            arguments = ("--inside", "--part", part, "--folder", folder)
            subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True)
    return None


def report(what: str, figures: str) -> None:
    """One line of the table."""
    print(f"{what:26}  {figures}", flush=True)


def make_corpus(corpus: Path, fraction: float) -> None:
    """Sparse wav files of 4 to 20 s, 7.8 s in the mean, as ``part/id#####/video/00001.wav``."""
    began = time.perf_counter()
    count = num_made = 0
    for part, (utterances, speakers, first, per_video) in CORPORA.items():
        kept = max(round(fraction * speakers), 2)
        for number in range(kept):
            share = utterances // speakers + (number < utterances % speakers)
            count += share
            folder = corpus / part / f"id{first + number:05d}"
            if not folder.is_dir():
                _make_speaker(folder, share, per_video)
                num_made += 1
    if num_made or not (corpus.parent / "all.csv").is_file():
        _write_manifest(corpus)
    report(f"making {count:,} files", f"{time.perf_counter() - began:8.1f} s")


def _write_manifest(corpus: Path) -> None:
    """``all.csv`` beside the corpus, as ``prepare`` writes it, from the sizes of the files."""
    rows = read_voxceleb(corpus)
    sizes = [(corpus / path).stat().st_size for path in rows.paths]
    save_manifest(
        corpus.parent / "all.csv",
        Manifest.of(
            corpus,
            utterance_ids=rows.utterance_ids,
            paths=rows.paths,
            speakers=rows.speakers,
            sessions=rows.sessions,
            num_samples=[(size - HEADER_BYTES) // 2 for size in sizes],
        ),
    )


def _make_speaker(folder: Path, count: int, per_video: float) -> None:
    """All or nothing, so that an interrupted run can go on."""
    draw = random.Random(folder.name)
    unfinished = folder.with_name(f".{folder.name}")
    while count:
        video = unfinished / "".join(draw.choices(string.ascii_letters + string.digits, k=11))
        video.mkdir(parents=True, exist_ok=True)
        size = min(count, 1 + round(draw.expovariate(1 / (per_video - 1))))
        for number in range(1, size + 1):
            seconds = min(4 + draw.expovariate(1 / 3.9), 20)
            _write_sparse(video / f"{number:05d}.wav", round(seconds * RATE))
        count -= size
    unfinished.rename(folder)


def _write_sparse(path: Path, num_samples: int) -> None:
    size = 2 * num_samples
    header = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    for value, width in ((1, 2), (1, 2), (RATE, 4), (2 * RATE, 4), (2, 2), (16, 2)):
        header += value.to_bytes(width, "little")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(handle, header + b"data" + size.to_bytes(4, "little"))
    os.pwrite(handle, b"sounding", len(header) + size)  # silent files are not speech
    os.close(handle)


def prepare(folder: Path) -> None:
    """The command as a user gives it; ``again``, with headers in memory, is a second start."""
    figures = run("prepare", folder / "corpus", folder / "all.csv", "--layout", "voxceleb")
    report("prepare", f"{figures}, {(folder / 'all.csv').stat().st_size / 1e6:.0f} MB of CSV")


def load(folder: Path) -> None:
    """Time, and memory while it loads and afterwards."""
    before, began, cpu = memory_mib(os.getpid()), time.perf_counter(), time.process_time()
    manifest = load_manifest(folder / "all.csv")
    took = f"{time.perf_counter() - began:.2f} s ({time.process_time() - cpu:.2f})"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    kept = memory_mib(os.getpid()) - before
    report("load", f"{took}, peak {peak:.0f} MiB, keeps {kept:.0f} MiB, {len(manifest):,} rows")


def order(folder: Path) -> None:
    """From nothing to the first item in the middle of the corpus, and the items after it."""
    from speakervlad.corpus.dataset import BalancedSampler, EndlessSampler

    manifest = load_manifest(folder / "all.csv")
    start = len(manifest) // 2
    speakers = manifest.speaker_indices
    makers = {
        "shuffled": lambda: EndlessSampler(len(manifest), seed=0, start=start),
        "balanced": lambda: BalancedSampler(
            speakers, speakers_per_block=16, utterances_per_speaker=4, seed=0, start=start
        ),
    }
    for text, make in makers.items():
        begun = time.process_time()
        stream = iter(make())
        next(stream)
        first = time.process_time()
        list(islice(stream, NUM_ORDERED))
        later = (time.process_time() - first) / NUM_ORDERED
        report(
            f"order, {text}",
            f"first after ({1000 * (first - begun):.0f} ms), then ({1e6 * later:.1f} us) each",
        )


def crops(folder: Path) -> None:
    """Crops of 2.5 s over the whole corpus; the second time all headers are in memory."""
    from speakervlad.corpus.dataset import UtteranceDataset

    manifest = load_manifest(folder / "all.csv")
    dataset = UtteranceDataset(manifest, crop_samples=5 * RATE // 2, seed=0)
    rows = np.random.default_rng(0).integers(len(manifest), size=NUM_CROPS).tolist()
    for text in ("first time", "again"):
        began, cpu = time.perf_counter(), time.process_time()
        for row in rows:
            dataset[0, row]
        wall = 1000 * (time.perf_counter() - began) / len(rows)
        each = 1000 * (time.process_time() - cpu) / len(rows)
        report(f"random crop, {text}", f"{wall:.2f} ms ({each:.2f})")


def workers(folder: Path) -> None:
    """What a worker is sent and keeps, of a tiny manifest and of the whole one."""
    manifest = load_manifest(folder / "all.csv")
    for rows in (manifest.select(np.arange(100)), manifest):
        report(f"a worker, {len(rows):,} rows", _worker(rows))


def _worker(manifest: Manifest) -> str:
    """Of two workers that the training's own loader has spawned."""
    from multiprocessing.reduction import ForkingPickler

    import torch

    from speakervlad.config import Config, DataConfig, TrainConfig
    from speakervlad.corpus.dataset import UtteranceDataset, batches
    from speakervlad.training.augment import build_crops
    from speakervlad.training.distributed import World
    from speakervlad.training.loading import build_loader

    config = Config(data=DataConfig(num_workers=2), train=TrainConfig(batch_size=8))
    dataset = UtteranceDataset(manifest, crop_samples=RATE, seed=0)
    drawn = build_crops(config.augment, dataset, (80, 98))
    began = time.perf_counter()
    stream = batches(build_loader(config, drawn, 0, World(0, 1, torch.device("cpu"))))
    list(islice(stream, 8))
    started = time.perf_counter() - began
    own = max(memory_mib(child.pid or 0, "Private") for child in active_children())
    sent = len(ForkingPickler.dumps(drawn)) / 1000
    return f"{sent:.1f} kB pickled, {own:.0f} MiB of its own, 8 batches after {started:.1f} s"


def pack(folder: Path) -> None:
    """A part of the corpus, as a user packs it."""
    part = _beginning(folder, NUM_PACKED)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        report(f"pack, {NUM_PACKED:,} files", run("pack", part, out))


def convert(folder: Path) -> None:
    """A few speakers to flac, and a second start that finds all of them there."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        source, out = Path(temporary) / "source", Path(temporary) / "out"
        source.mkdir()
        for speaker in sorted((folder / "corpus" / "vox2_dev").iterdir())[:5]:
            (source / speaker.name).symlink_to(speaker)
        count = sum(1 for _ in source.glob("*/*/*.wav"))
        for text in ("convert", "convert, all there"):
            report(f"{text}, {count:,}", run("convert-audio", source, out))


def train(folder: Path) -> None:
    """A tiny encoder on the whole manifest with two workers."""
    (folder / "tiny.yaml").write_text(TRAINING)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        figures = run(
            "train",
            folder / "tiny.yaml",
            f"run_dir={out}/run",
            f"train.steps={NUM_STEPS}",
            f"data.train_manifest={folder / 'all.csv'}",
        )
        report(f"train, {NUM_STEPS} steps", figures)


def _beginning(folder: Path, count: int) -> Path:
    """The manifest of the first rows."""
    part = folder / "part.csv"
    with (folder / "all.csv").open() as whole:
        part.write_text("".join(islice(whole, count + 1)))
    return part


def run(*arguments: str | Path) -> str:
    """Seconds and peak memory of a command with all its processes."""
    command = [sys.executable, "-m", "speakervlad", *map(str, arguments)]
    used, began, peak = _children_seconds(), time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            peak = max(peak, sum(memory_mib(member) for member in _tree(process.pid)))
            time.sleep(0.2)
        complaint = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {complaint}")
    seconds, processor = time.perf_counter() - began, _children_seconds() - used
    return f"{seconds:.1f} s ({processor:.1f}), peak {peak:.0f} MiB"


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{root}/task").glob("*/children")]
    except OSError:
        return [root]
    children = map(int, " ".join(lists).split())
    return [root, *(member for child in children for member in _tree(child))]


def memory_mib(process: int, kind: str = "Pss:") -> float:
    """Memory of one process; all lines of ``smaps_rollup`` that begin with ``kind``."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    found = [int(line.split()[1]) for line in lines if line.startswith(kind)]
    return sum(found) / 1024


PARTS: dict[str, Callable[[Path], None]] = {
    "prepare": prepare,
    "again": prepare,
    "load": load,
    "order": order,
    "crops": crops,
    "workers": workers,
    "pack": pack,
    "convert": convert,
    "train": train,
}

if __name__ == "__main__":
    main()
