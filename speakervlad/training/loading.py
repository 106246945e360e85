"""The stream of batches: which crops, in which order, by which processes."""

import atexit
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from speakervlad.config import Config
from speakervlad.corpus.dataset import (
    BalancedSampler,
    DrawSampler,
    EndlessSampler,
    UtteranceDataset,
    batches,
    draw_shares,
)
from speakervlad.errors import InputError
from speakervlad.models.frontend import FrontEnd
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest
from speakervlad.training.augment import (
    Augmenter,
    DrawnCrops,
    build_crops,
    collate,
    read_samples,
)
from speakervlad.training.distributed import LEAVE_SIGNALS, World, children_ignore_signals
from speakervlad.training.frame_crops import FrameBatch, FrameCrops
from speakervlad.training.teacher import Targets


def check_batches(config: Config) -> None:
    """Refuse batches that cannot be made of the speakers and utterances asked for.

    Raises:
        InputError: as said, or a tolerated fraction that is none.
    """
    data = config.data
    if data.speakers_per_batch == 0:
        return
    if data.seconds_per_visit or data.crops_per_visit > 1:
        raise InputError(
            "data.seconds_per_visit and data.crops_per_visit shape shuffled epochs; "
            "data.speakers_per_batch draws speakers instead. Leave one of them out."
        )
    size = data.speakers_per_batch * data.utterances_per_speaker
    if config.train.batch_size != size:
        raise InputError(
            f"train.batch_size={config.train.batch_size} is not data.speakers_per_batch x "
            f"data.utterances_per_speaker = {size}. Make them agree."
        )


def num_classes(config: Config, manifest: Manifest) -> int:
    """Every speaker at every speed is a class."""
    return len(manifest.speaker_names) * len(config.augment.speeds)


def build_dataset(config: Config, manifest: Manifest, front_end: FrontEnd) -> DrawnCrops:
    """Crops just long enough for ``data.crop_seconds`` of frames, with their augmentation."""
    num_frames = crop_frames(config, front_end)
    crops = UtteranceDataset(
        manifest,
        crop_samples=read_samples(front_end.crop_samples(num_frames), config.augment),
        seed=config.train.seed,
        wrap=config.data.wrap,
        reverse_probability=config.data.reverse_probability,
        max_bad_fraction=config.data.max_bad_fraction,
    )
    return build_crops(config.augment, crops, (front_end.num_bins, num_frames))


def build_augmenter(
    config: Config,
    front_end: FrontEnd,
    num_speakers: int,
    device: torch.device,
    targets: Targets | None = None,
) -> Augmenter:
    """What the device does to batches of those crops."""
    num_frames = crop_frames(config, front_end)
    return Augmenter(
        num_samples=front_end.crop_samples(num_frames),
        num_speakers=num_speakers,
        speeds=config.augment.speeds,
        spectrogram=(front_end.num_bins, num_frames),
        device=device,
        targets=targets,
    )


def crop_frames(config: Config, front_end: FrontEnd) -> int:
    """Frames of a training crop."""
    return round(config.data.crop_seconds * SAMPLE_RATE / front_end.hop_length)


def build_sampler(
    config: Config, manifest: Manifest, step: int, world: World
) -> EndlessSampler | BalancedSampler | DrawSampler:
    """This process's share of the one endless stream of ``(epoch, index)``, from ``step`` on."""
    start = step * config.train.batch_size
    seed, data = config.train.seed, config.data
    if data.speaker_balance:
        shares = draw_shares(manifest.speaker_indices, data.speaker_balance)
        return build_draws(config, shares, step, world)
    if data.speakers_per_batch:
        return BalancedSampler(
            manifest.speaker_indices,
            speakers_per_block=data.speakers_per_batch,
            utterances_per_speaker=data.utterances_per_speaker,
            seed=seed,
            start=start,
            rank=world.rank,
            world_size=world.size,
        )
    visits = None
    if data.seconds_per_visit:
        visits = visits_by_length(manifest.num_samples, data.seconds_per_visit)
    return EndlessSampler(
        len(manifest),
        seed=seed,
        start=start,
        rank=world.rank,
        world_size=world.size,
        visits=visits,
        crops=data.crops_per_visit,
    )


def build_draws(config: Config, shares: np.ndarray, step: int, world: World) -> DrawSampler:
    """The same, drawn with replacement, each utterance as often as its share (utterances,) says."""
    return DrawSampler(
        shares,
        seed=config.train.seed,
        start=step * config.train.batch_size,
        rank=world.rank,
        world_size=world.size,
    )


def frame_shares(config: Config, crops: FrameCrops) -> np.ndarray:
    """How often utterances (utterances,) are drawn of which there are frames."""
    shares = draw_shares(crops.manifest.speaker_indices, config.data.speaker_balance)
    return np.where(crops.usable, shares, 0)


def visits_by_length(num_samples: np.ndarray, seconds: float) -> np.ndarray:
    """Visits per epoch (utterances,): one for every ``seconds`` of each, at least one."""
    return np.maximum(1, np.rint(num_samples / (SAMPLE_RATE * seconds))).astype(np.int64)


def build_loader(
    config: Config, dataset: DrawnCrops | FrameCrops, step: int, world: World
) -> DataLoader:
    """This process's share of the batches, read by spawned workers.

    Workers are spawned: a fork would inherit CUDA, gloo and OpenMP threads in any state, and a fork
    server would die of the SIGTERM that a scheduler sends to the whole process group.
    """
    num_workers = config.data.num_workers
    if isinstance(dataset, FrameCrops):
        sampler = build_draws(config, frame_shares(config, dataset), step, world)
    else:
        sampler = build_sampler(config, dataset.manifest, step, world)
    return DataLoader(
        dataset,
        batch_size=config.train.batch_size // world.size,
        sampler=sampler,
        collate_fn=_as_it_is if isinstance(dataset, FrameCrops) else collate,  # pyright: ignore[reportArgumentType]
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        pin_memory=world.device.type == "cuda",
    )


def _as_it_is(batch: FrameBatch) -> FrameBatch:
    """A batch that was made as one."""
    return batch


def stream(loader: DataLoader) -> Iterator[Any]:
    """The batches, by workers that leave it to the training to answer signals.

    Raises:
        InputError: as the dataset does.
    """
    with children_ignore_signals():
        iterator = iter(loader)
    return batches(iterator)


def _start_worker(worker: int) -> None:
    """Ignore signals where they cannot be blocked, and end as forked workers do.

    At its end a worker leaves without finalising Python: that would kill the thread that hands over
    batches inside of C++, which aborts the process and then the training.
    """
    for number in LEAVE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    atexit.register(os._exit, 0)
