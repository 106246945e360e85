"""From config to everything that a run needs."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from speakervlad.config import Config
from speakervlad.data.dataset import UtteranceDataset
from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, check_range
from speakervlad.models.build import (
    WEIGHTS_NAME,
    assemble_encoder,
    build_classifier,
    build_encoder,
    load_classifier,
    load_encoder_folder,
    load_strictly,
)
from speakervlad.models.classifier import MarginSoftmax, Softmax
from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.models.pooling import NetVLAD
from speakervlad.training.augment.build import build_crops, check_augment, crop_frames, read_samples
from speakervlad.training.augment.crops import DrawnCrops
from speakervlad.training.distributed import ALONE, World
from speakervlad.training.loading import check_batches
from speakervlad.training.optim import check_optim
from speakervlad.training.partial_fc import PartialFC, check_sharding
from speakervlad.training.schedule import check_schedule, margin_share, rate_factor
from speakervlad.training.trainer import StepPlan

logger = logging.getLogger(__name__)


def check_config(config: Config, world_size: int) -> None:
    """Find every mistake before data is touched: builds the whole model without memory.

    Raises:
        InputError: as soon as something does not fit.
    """
    train, pooling = config.train, config.encoder.pooling
    for key in ("steps", "batch_size", "accumulate", "log_every", "save_every", "validate_every"):
        check_range(f"train.{key}", getattr(train, key), at_least=1)
    if train.batch_size % (world_size * train.accumulate):
        raise InputError(
            f"train.batch_size={train.batch_size} cannot be shared by {world_size} processes and "
            f"{train.accumulate} accumulated parts. Choose a multiple."
        )
    for key in ("average_last", "vlad_init_utterances", "freeze_trunk_steps"):
        check_range(f"train.{key}", getattr(train, key), at_least=0)
    if not config.data.train_manifest:
        raise InputError("data.train_manifest is not set. Name the CSV that `prepare` wrote.")
    if train.vlad_init_utterances and (pooling.kind, pooling.assignment) != (
        "netvlad",
        "descriptors",
    ):
        raise InputError(
            "train.vlad_init_utterances needs encoder.pooling.kind=netvlad and "
            "encoder.pooling.assignment=descriptors. Set it to 0 or change the pooling."
        )
    if config.init_classifier and config.init_from is None:
        raise InputError("init_classifier needs init_from. Name the folder that holds one.")
    check_sharding(config.classifier)
    check_optim(config.optim)
    check_schedule(config.schedule)
    check_batches(config)
    check_augment(config.augment)
    with torch.device("meta"):
        build_classifier(config.classifier, build_encoder(config.encoder).dim, 2)


def build_model(config: Config, num_speakers: int, world: World = ALONE) -> SpeakerClassifier:
    """A model whose start depends on ``train.seed`` alone, or on the encoder of ``init_from``.

    With ``classifier.sharded`` this process holds, and ever makes, its own range of classes only.
    """
    build = build_encoder if config.init_from is None else assemble_encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        encoder = build(config.encoder)
        if config.classifier.sharded:
            classifier = _own_classes(config, encoder.dim, num_speakers, world)
        else:
            classifier = build_classifier(config.classifier, encoder.dim, num_speakers)
    if config.init_from is not None:
        source, _ = load_encoder_folder(config.init_from)
        where = str(Path(config.init_from) / WEIGHTS_NAME)
        load_strictly(encoder, source.state_dict(), where)
        if config.init_classifier:
            _load_classes(config.init_from, classifier)
    return SpeakerClassifier(encoder, classifier)


def _own_classes(config: Config, dim: int, num_speakers: int, world: World) -> PartialFC:
    with torch.device("meta"):
        whole = build_classifier(config.classifier, dim, num_speakers)
    assert isinstance(whole, MarginSoftmax)
    return PartialFC.start(
        whole, world, sample_rate=config.classifier.sample_rate, seed=config.train.seed
    )


def _load_classes(folder: str, classifier: PartialFC | MarginSoftmax | Softmax) -> None:
    if isinstance(classifier, PartialFC):
        shard = (classifier.first, classifier.num_speakers)
        load_classifier(folder, classifier.margin, shard)
    else:
        load_classifier(folder, classifier)


def build_plan(config: Config) -> Callable[[int], StepPlan]:
    """The schedules of learning rate, margin and frozen trunk as one function of the step."""

    def plan(step: int) -> StepPlan:
        factor = rate_factor(step, config.train.steps, config.schedule)
        return StepPlan(
            config.optim.lr * factor,
            margin_share(step, config.classifier.margin_warmup_steps),
            step < config.train.freeze_trunk_steps,
        )

    return plan


def num_classes(config: Config, manifest: Manifest) -> int:
    """Every speaker at every speed is a class."""
    return len(manifest.speaker_names) * len(config.augment.speeds)


def build_dataset(config: Config, manifest: Manifest, model: SpeakerClassifier) -> DrawnCrops:
    """Crops just long enough for ``data.crop_seconds`` of frames, with their augmentation."""
    front_end = model.encoder.front_end
    num_frames = crop_frames(config, front_end)
    crop_samples = front_end.crop_samples(num_frames)
    crops = UtteranceDataset(
        manifest,
        crop_samples=read_samples(crop_samples, config.augment.speeds),
        seed=config.train.seed,
        wrap=config.data.wrap,
        reverse_probability=config.data.reverse_probability,
        max_bad_fraction=config.data.max_bad_fraction,
    )
    return build_crops(config.augment, crops, (front_end.num_bins, num_frames))


@torch.no_grad()
def init_vlad(
    model: SpeakerClassifier, dataset: UtteranceDataset, num_utterances: int, seed: int
) -> None:
    """Start NetVLAD from k-means over descriptors of crops; ghosts from noisy crops (0 dB)."""
    pooling = model.encoder.pooling
    assert isinstance(pooling, NetVLAD)
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset), generator=rng)[:num_utterances].tolist()
    crops = torch.stack([dataset[(0, index)].waveform for index in chosen])
    noise = torch.randn(crops.shape, generator=rng)
    noisy = crops + noise * crops.square().mean(dim=1, keepdim=True).sqrt()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    clean_frames, noisy_frames = (
        model.encoder.frames(batch)[0].transpose(1, 2).flatten(0, 1) for batch in (crops, noisy)
    )
    # The two passes in training mode have moved the running statistics.
    model.load_state_dict(state)
    alpha = pooling.init_from(clean_frames, noisy_frames, seed=seed)
    logger.info("NetVLAD starts from %d descriptors, alpha %.3g", len(clean_frames), alpha)
