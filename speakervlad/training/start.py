"""Where a run starts: from nothing, from another encoder, from another encoder's projection."""

import logging
from pathlib import Path

import torch
from torch import nn

from speakervlad.config import Config
from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.errors import InputError
from speakervlad.models.encoder import SpeakerClassifier, SpeakerEncoder
from speakervlad.models.folder import (
    WEIGHTS_NAME,
    assemble_encoder,
    build_classifier,
    build_distillation,
    build_encoder,
    load_classifier,
    load_encoder_folder,
    load_strictly,
)
from speakervlad.models.pooling import NetVLAD, Pooling, SideBySide

logger = logging.getLogger(__name__)

# Of unit vectors that are the same but for the rounding of float32.
SAME = 1e-4
# Frames of the feature maps by which two encoders are compared.
COMPARED_FRAMES = 60


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


@torch.no_grad()
def init_vlad(
    model: SpeakerClassifier, dataset: UtteranceDataset, num_utterances: int, seed: int
) -> None:
    """Start NetVLAD from k-means over descriptors of crops; ghosts from noisy crops (0 dB)."""
    pooling = model.encoder.pooling
    assert isinstance(pooling, NetVLAD | SideBySide)
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
    if encoder.front_end.spec != source.front_end.spec:
        raise InputError(f"{where}: init_projection needs its front end. Take that of its config.")
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
    ours, theirs = (
        nn.functional.normalize(encoder.eval().embed_map(maps)) for encoder in (one, other)
    )
    one.train(training)
    return float((ours - theirs).norm(dim=1).max())
