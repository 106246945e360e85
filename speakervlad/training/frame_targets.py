"""Targets without a second network: what the encoder that a run starts from says of every voice."""

import numpy as np
import torch
import torch.nn.functional as F

from speakervlad.config import Config
from speakervlad.errors import InputError
from speakervlad.training.distributed import World
from speakervlad.training.frame_cache import FrameCache, speed_embeddings, start_embeddings
from speakervlad.training.teacher import Targets, labelled


def start_targets(config: Config, cache: FrameCache, shares: np.ndarray, world: World) -> Targets:
    """What the encoder that a run starts from says of every voice, around the mean of all.

    Args:
        config: of the run.
        cache: the frames of its trunk.
        shares: how often utterances (utterances,) are drawn; by them they count in the mean.
        world: its first process computes, the others read.

    Raises:
        InputError: the encoder has another dimension than the one that is trained.
    """
    assert config.init_from is not None
    if world.is_main:
        start_embeddings(cache, config.init_from)
    world.wait()
    clean = start_embeddings(cache, config.init_from)
    return targets_around_mean(config, cache, clean, shares)


def targets_around_mean(
    config: Config, cache: FrameCache, clean: np.ndarray, shares: np.ndarray
) -> Targets:
    """Targets from embeddings (utterances, dim) of what was recorded; see ``start_targets``.

    Raises:
        InputError: they have another dimension than the encoder that is trained.
    """
    if clean.shape[1] != config.encoder.embedding_dim:
        raise InputError(
            f"{config.init_from}: embeds in {clean.shape[1]} dimensions, encoder.embedding_dim is "
            f"{config.encoder.embedding_dim}. Make them equal for teacher.start."
        )
    centre = config.teacher.centre * (shares @ clean) / shares[cache.kept[0]].sum()
    at_speeds = speed_embeddings(cache, config, clean.shape[1])
    vectors = [
        np.where(each.any(axis=1, keepdims=True), each - centre, 0)
        for each in (clean, *at_speeds.values())
    ]
    return Targets(
        F.normalize(torch.from_numpy(np.stack(vectors)).float(), dim=2),
        labelled(config, cache.manifest),
        torch.from_numpy(centre).float(),
    )
