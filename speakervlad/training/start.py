"""Where a run starts: from nothing, from another encoder, from another encoder's projection."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speakervlad.config import WEIGHTS_NAME, Config
from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.errors import InputError
from speakervlad.models.encoder import EmbeddingLayer, SpeakerClassifier, SpeakerEncoder
from speakervlad.models.folder import (
    assemble_encoder,
    build_classifier,
    build_distillation,
    build_encoder,
    load_classifier,
    load_encoder_folder,
    load_strictly,
)
from speakervlad.models.losses import Classifier
from speakervlad.models.pooling import GhostStatisticsPooling, NetVLAD, Pooling, SideBySide
from speakervlad.tables.manifest import Manifest, ranks_of
from speakervlad.training.teacher import Targets

logger = logging.getLogger(__name__)

# Of unit vectors that are the same but for the rounding of float32.
SAME = 1e-4
# Frames of the feature maps by which two encoders are compared.
COMPARED_FRAMES = 60
# How far the centres of one class start from its mean, as a part of a unit vector.
CENTRE_SPREAD = 0.3


def build_model(config: Config, num_speakers: int) -> SpeakerClassifier:
    """A model whose start depends on ``train.seed`` alone, or on the encoder of ``init_from``."""
    takes_all = config.init_from is not None and not config.init_projection
    build = assemble_encoder if takes_all else build_encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        encoder = build(config.encoder)
        classifier = build_classifier(config.classifier, encoder.dim, num_speakers)
    if config.init_from is not None:
        source, _ = load_encoder_folder(config.init_from)
        if config.init_projection:
            begin_at(encoder, source, config.init_from)
        else:
            where = str(Path(config.init_from) / WEIGHTS_NAME)
            load_strictly(encoder, source.state_dict(), where)
        if config.init_classifier:
            load_classifier(config.init_from, classifier)
    return SpeakerClassifier(encoder, classifier, build_distillation(config.teacher))


def noisy_crops(dataset: UtteranceDataset, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Crops (count, samples) of some utterances, and the same with white noise (0 dB)."""
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset), generator=rng)[:count].tolist()
    crops = torch.stack([dataset[(0, index)].waveform for index in chosen])
    noise = torch.randn(crops.shape, generator=rng)
    return crops, crops + noise * crops.square().mean(dim=1, keepdim=True).sqrt()


@torch.no_grad()
def init_vlad(model: SpeakerClassifier, clean: Tensor, noisy: Tensor, seed: int) -> None:
    """Start clusters from k-means over descriptors of crops; ghosts from those of noisy ones.

    Args:
        model: its pooling starts from frames.
        clean: waveforms (count, samples), or feature maps (count, channel, row, frame).
        noisy: the same of degraded material.
        seed: of the k-means.
    """
    pooling = model.encoder.pooling
    assert isinstance(pooling, NetVLAD | GhostStatisticsPooling | SideBySide)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    (frames, own), (ghosts, ghosts_own) = (
        _columns(model.encoder, batch) for batch in (clean, noisy)
    )
    # The two passes in training mode have moved the running statistics.
    model.load_state_dict(state)
    if isinstance(pooling, SideBySide):
        alpha = pooling.init_from(frames, ghosts, own=own, ghost_own=ghosts_own, seed=seed)
    else:
        alpha = pooling.init_from(frames, ghosts, seed=seed)
    logger.info("the pooling starts from %d descriptors, alpha %.3g", len(frames), alpha)


def _columns(encoder: SpeakerEncoder, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors (count, dim) of all crops, and what the trunk says of the same frames."""
    maps = batch.dim() == 4
    frames, guide = encoder.describe_map(batch) if maps else encoder.frames(batch)
    both = (frames, frames if guide is None else guide)
    frames, own = (each.transpose(1, 2).flatten(0, 1) for each in both)
    return frames, own


@torch.no_grad()
def subtract(centre: Tensor, projection: EmbeddingLayer) -> None:
    """Subtract a vector (dim,) from all embeddings from now on.

    Raises:
        InputError: a ReLU is the last thing that happens to them.
    """
    norm = projection.norm
    if isinstance(norm, nn.BatchNorm1d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean += centre * (norm.running_var + norm.eps).sqrt()
    elif projection.relu:
        raise InputError("train.frozen_norm needs encoder.embedding_norm, or no embedding_relu.")
    else:
        projection.linear.bias.sub_(centre)


@torch.no_grad()
def init_classes(classifier: Classifier, targets: Targets, speakers: np.ndarray) -> None:
    """Start every class at the mean target of its utterances; classes without any stay.

    Args:
        classifier: has a class for every speaker at every speed.
        targets: of the utterances.
        speakers: int64 (utterances,), their numbers.
    """
    num_speeds, _, dim = targets.vectors.shape
    sums = torch.zeros(num_speeds, len(targets.labelled), dim)
    sums.index_add_(1, torch.from_numpy(speakers), targets.vectors)
    means = F.normalize(sums.flatten(0, 1))
    weight = classifier.weight
    known = means.any(dim=1)
    if weight.dim() == 3:
        # Centres of one class must differ, or they stay the same.
        means = F.normalize(means[:, None] + CENTRE_SPREAD * F.normalize(weight, dim=2), dim=2)
    weight[known] = means[known].to(weight)


def set_groups(classifier: Classifier, config: Config, manifest: Manifest) -> None:
    """Let classes compete only with those that ``data.rivals`` says.

    Raises:
        InputError: as ``class_groups``, or the loss knows nothing of groups.
    """
    groups = class_groups(config, manifest)
    if groups is not None and not classifier.knows_groups:
        raise InputError(
            f"data.rivals: the loss {config.classifier.kind} lets all speakers compete. Leave "
            "data.rivals out, or take another loss."
        )
    classifier.groups = groups


def class_groups(config: Config, manifest: Manifest) -> Tensor | None:
    """A number for every class, (classes,): that of its value in the column ``data.rivals``.

    Raises:
        InputError: the manifest has no such column, or a speaker several values.
    """
    column = config.data.rivals
    if not column:
        return None
    if column not in manifest.extra:
        known = ", ".join(manifest.extra) or "none but those that every manifest has"
        raise InputError(
            f"data.rivals={column}: {config.data.train_manifest} has no such column ({known})."
        )
    names = sorted(set(manifest.extra[column].tolist()))
    numbers = ranks_of(manifest.extra[column], names)
    groups = np.full(len(manifest.speaker_names), -1)
    groups[manifest.speaker_indices] = numbers
    several = np.flatnonzero(groups[manifest.speaker_indices] != numbers)
    if len(several):
        speaker = manifest.speakers[several[0]]
        raise InputError(
            f"data.rivals={column}: speaker {speaker} has several values, one of which is "
            f"{names[numbers[several[0]]]!r}. Give it one."
        )
    return torch.from_numpy(np.tile(groups, len(config.augment.speeds)))


@torch.no_grad()
def begin_at(encoder: SpeakerEncoder, source: SpeakerEncoder, where: str) -> None:
    """Make an encoder with another pooling layer embed as the one that it starts from.

    It takes trunk and projection; the pooled vector must begin with the numbers of the other's.
    Layers that weigh frames do so evenly, and what is new in the pooled vector has columns of
    zeros in the projection.

    Args:
        encoder: freshly built.
        source: the other.
        where: its folder, for messages.

    Raises:
        InputError: trunk or projection are of another kind or size, or with this pooling the
            encoder would not start as the other.
    """
    if replace(encoder.front_end.spec, peak=source.front_end.spec.peak) != source.front_end.spec:
        raise InputError(
            f"{where}: init_projection needs its front end, except for `peak`. Take that of its "
            "config."
        )
    load_strictly(encoder.trunk, source.trunk.state_dict(), f"{where}, trunk")
    if _states_fit(encoder.descriptors, source.descriptors):
        encoder.descriptors.load_state_dict(source.descriptors.state_dict())
    _begin_pooling(encoder.pooling, source.pooling)
    _begin_projection(encoder, source, where)
    distance = _distance(encoder, source)
    if not distance <= SAME:
        raise InputError(
            f"{where}: init_projection: with this pooling the encoder would not start as that one "
            f"(unit vectors {distance:.2g} apart). The pooled vector must begin with the numbers "
            "of its pooling: see docs/own-recordings.md."
        )


def _begin_pooling(pooling: Pooling, source: Pooling) -> None:
    """The weights of the same layer, whole or the first of two; else all frames weigh the same."""
    layers = [pooling, *([pooling.of_frames] if isinstance(pooling, SideBySide) else [])]
    for layer in layers:
        if type(layer) is type(source) and _states_fit(layer, source):
            layer.load_state_dict(source.state_dict())
            return
    pooling.weigh_evenly()


def _begin_projection(encoder: SpeakerEncoder, source: SpeakerEncoder, where: str) -> None:
    own, other = encoder.projection, source.projection
    columns = other.linear.in_features
    kinds = [(one.dim, one.relu, type(one.norm)) for one in (own, other)]
    if kinds[0] != kinds[1] or columns > own.linear.in_features:
        raise InputError(
            f"{where}: init_projection: its projection, {columns} to {other.dim} numbers, does not "
            f"fit into one of {own.linear.in_features} to {own.dim}. embedding_dim, embedding_relu "
            "and embedding_norm must be those of its config."
        )
    own.linear.weight.zero_()
    own.linear.weight[:, :columns] = other.linear.weight
    own.linear.bias.copy_(other.linear.bias)
    own.norm.load_state_dict(other.norm.state_dict())


def _states_fit(one: nn.Module, other: nn.Module) -> bool:
    shapes = [{name: v.shape for name, v in part.state_dict().items()} for part in (one, other)]
    return shapes[0] == shapes[1]


def _distance(one: SpeakerEncoder, other: SpeakerEncoder) -> float:
    """The largest distance of unit vectors that two encoders make of the same feature maps."""
    trunk = one.trunk
    rng = torch.Generator().manual_seed(0)
    shape = (4, trunk.channels, trunk.num_rows, COMPARED_FRAMES)
    maps = torch.randn(shape, generator=rng).relu()
    training = one.training
    ours, theirs = (F.normalize(encoder.eval().embed_map(maps)) for encoder in (one, other))
    one.train(training)
    return float((ours - theirs).norm(dim=1).max())
