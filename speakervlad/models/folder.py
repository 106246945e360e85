"""Encoder folders and configs to modules, and back."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from speakervlad.config import (
    CALIBRATION_NAME,
    ENCODER_CONFIG_NAME,
    THRESHOLDS_NAME,
    WEIGHTS_NAME,
    EncoderConfig,
    TeacherConfig,
    encoder_values,
    read_encoder_config,
)
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.models.encoder import ColumnDescriptors, EmbeddingLayer, RowMean, SpeakerEncoder
from speakervlad.models.losses import Classifier, Distillation
from speakervlad.models.spectrogram import Spectrogram
from speakervlad.models.tables import complete_part, make_part, packages_of, require_packages
from speakervlad.schema import Part

logger = logging.getLogger(__name__)

CLASSIFIER_NAME = "classifier.safetensors"


def complete(config: EncoderConfig, where: str = "") -> EncoderConfig:
    """The config with every option of its parts, checked by the tables.

    Args:
        config: as it was read.
        where: names its source, for messages.

    Raises:
        InputError: a part or an option is unknown, of the wrong type or out of its range, or a
            package is missing that parts come from.
    """
    require_packages(config.packages, where or "encoder.packages")
    prefix = "" if where else "encoder."
    parts = {
        role: complete_part(role, part, f"{prefix}{role}", where)
        for role, part in parts_of(config).items()
    }
    return replace(config, **parts)


def parts_of(config: EncoderConfig) -> dict[str, Part]:
    """The parts that are rows of ``TABLES``, by role."""
    return {"front_end": config.front_end, "trunk": config.trunk, "pooling": config.pooling}


def build_encoder(config: EncoderConfig) -> SpeakerEncoder:
    """A freshly initialised encoder: orthogonal kernels, zero biases, as the release starts.

    Raises:
        InputError: a size or count is out of its range, or the trunk gets too few bins.
    """
    encoder = assemble_encoder(config)
    encoder.apply(_initialise)
    return encoder


def assemble_encoder(config: EncoderConfig) -> SpeakerEncoder:
    """The encoder without the orthogonal start, which takes seconds and loading overwrites."""
    config = complete(config)
    front_end = make_part("front_end", config.front_end)
    try:
        trunk = make_part("trunk", config.trunk, front_end.num_bins)
    except ValueError as error:
        raise InputError(f"encoder.front_end: {error}") from error
    dim = config.descriptor_dim
    descriptors = (
        ColumnDescriptors(trunk.channels, trunk.num_rows, dim) if dim else RowMean(trunk.channels)
    )
    pooling = make_part("pooling", config.pooling, descriptors.dim, trunk.channels * trunk.num_rows)
    projection = EmbeddingLayer(
        pooling.out_dim,
        config.embedding_dim,
        relu=config.embedding_relu,
        batch_norm=config.embedding_norm,
    )
    front_end = front_end.of_at_least(trunk.least_frames)
    return SpeakerEncoder(
        Spectrogram(front_end), trunk, descriptors, pooling, projection, config.piece_seconds
    )


def build_classifier(part: Part, dim: int, num_speakers: int) -> Classifier:
    """The training objective that the config names.

    Raises:
        InputError: it is unknown, or a size or a margin is out of its range.
    """
    return make_part("loss", complete_part("loss", part, "classifier"), dim, num_speakers)


def build_distillation(config: TeacherConfig) -> Distillation | None:
    """The terms of a teacher, if the config names one."""
    if not (config.embeddings or config.start):
        return None
    return Distillation(labels=config.labels, cosine=config.cosine, similarity=config.similarity)


def save_encoder(
    folder: str | Path, encoder: SpeakerEncoder, config: EncoderConfig, notes: dict[str, str]
) -> None:
    """Write an encoder folder; ``notes`` (such as step and EER) travel inside the weights file.

    Thresholds and calibration that other weights left there are removed: they say nothing of these.
    """
    folder = Path(folder)
    config = replace(complete(config), packages=packages_of(parts_of(config)))
    with atomic_path(folder / ENCODER_CONFIG_NAME) as path:
        path.write_text(json.dumps(encoder_values(config), indent=2) + "\n")
    before = _digest(folder / WEIGHTS_NAME)
    _write_weights(folder / WEIGHTS_NAME, encoder.state_dict(), notes)
    if _digest(folder / WEIGHTS_NAME) != before:
        for name in (THRESHOLDS_NAME, CALIBRATION_NAME):
            (folder / name).unlink(missing_ok=True)


def _digest(path: Path) -> bytes | None:
    return hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None


def load_encoder_folder(folder: str | Path) -> tuple[SpeakerEncoder, EncoderConfig]:
    """Read an encoder folder, strictly; the encoder comes in evaluation mode, on the CPU.

    Raises:
        InputError: files are missing or damaged, or the weights do not fit the config.
    """
    folder = Path(folder)
    config = complete(read_encoder_config(folder), str(folder / ENCODER_CONFIG_NAME))
    encoder = assemble_encoder(config)
    path = folder / WEIGHTS_NAME
    load_strictly(encoder, _read_weights(path), str(path))
    return encoder.eval(), config


def save_classifier(folder: str | Path, weight: torch.Tensor) -> None:
    """Keep a classifier's class weights ``(speakers, dim)`` beside its encoder."""
    _write_weights(Path(folder) / CLASSIFIER_NAME, {"weight": weight})


def load_classifier(folder: str | Path, classifier: Classifier) -> None:
    """Give a classifier the class weights that were kept beside an encoder.

    Of a classifier that was trained with speeds as classes, the first speed's are taken; where the
    speeds as classes are new, every speed begins with the classes of the first.

    Args:
        folder: holds ``classifier.safetensors``.
        classifier: takes them.

    Raises:
        InputError: there are none, or they are damaged or of another size.
    """
    path = Path(folder) / CLASSIFIER_NAME
    state, wanted = _read_weights(path), len(classifier.weight)
    kept = len(state["weight"]) if "weight" in state else 0
    if kept > wanted and kept % wanted == 0:
        logger.info("%s: the first %d of %d classes are taken", path, wanted, kept)
    elif 0 < kept < wanted and wanted % kept == 0:
        logger.info("%s: its %d classes are taken %d times", path, kept, wanted // kept)
    elif kept and kept != wanted:
        found = tuple(state["weight"].shape)
        expected = (wanted, *found[1:])
        raise InputError(f"{path}: does not fit its config: weight is {found}, not {expected}.")
    if kept:
        state["weight"] = state["weight"][torch.arange(wanted) % kept]
    load_strictly(classifier, state, str(path))


def load_strictly(module: nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load a state dict of exactly the module's names and shapes, or name every mismatch."""
    own = module.state_dict()
    expected = {name: tuple(value.shape) for name, value in own.items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [f"missing {name}" for name in expected.keys() - found.keys()]
    wrong += [f"unexpected {name}" for name in found.keys() - expected.keys()]
    wrong += [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    wrong += [
        f"{name} holds {str(value.dtype).removeprefix('torch.')}"
        for name, value in state.items()
        if name in own and value.is_floating_point() != own[name].is_floating_point()
    ]
    if wrong:
        raise InputError(f"{where}: does not fit its config: {first_few(sorted(wrong))}.")
    module.load_state_dict(state)


def _write_weights(
    path: Path, state: dict[str, torch.Tensor], notes: dict[str, str] | None = None
) -> None:
    state = {name: value.contiguous() for name, value in state.items()}
    # `save_file` would rename a file of its own over the temporary one, and leave it when killed.
    content = save(state, metadata=notes)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"{path.parent}: holds no {path.name}. Name a folder that has one.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is damaged or no safetensors file ({error}).") from error


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
