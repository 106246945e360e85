"""What an encoder's files say about it, read without torch."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from speakervlad.config import EncoderConfig, read_encoder_config
from speakervlad.errors import InputError, first_few
from speakervlad.inference.thresholds import read_thresholds
from speakervlad.plain import from_dict


def describe_encoder(path: Path) -> dict[str, str]:
    """Lines of text by name: parts, parameters, notes of the training, thresholds.

    Args:
        path: an encoder folder, or a file that ``export`` wrote.

    Raises:
        InputError: no encoder, its files are damaged, or its weights do not fit its config.
    """
    lines, notes = _of_export(path) if path.is_file() else _of_folder(path)
    known = read_thresholds(path, notes)
    if known is not None:
        lines["threshold"] = f"{known.eer:.4f} at the equal error rate"
        lines |= {
            f"FAR {100 * rate:g} %": f"accept from {value:.4f}"
            for rate, value in known.false_accept_rate.items()
        }
    return {"encoder": str(path)} | lines


def describe_config(config: EncoderConfig) -> dict[str, str]:
    """The parts of an encoder in words."""
    front, trunk, pooling = config.front_end, config.trunk, config.pooling
    bins = f"{front.num_mels} mel bands" if front.kind == "log_mel" else "257 bins"
    clusters = f", {pooling.num_clusters} clusters, {pooling.num_ghosts} ghosts"
    return {
        "front end": f"{front.kind}, {bins}, normalised by {front.normalise}",
        "trunk": f"{trunk.kind}, width {trunk.width:g}",
        "pooling": pooling.kind + (clusters if pooling.kind == "netvlad" else ""),
        "embedding": f"{config.embedding_dim} dimensions",
    }


def _of_export(path: Path) -> tuple[dict[str, str], Mapping[str, str]]:
    from speakervlad.inference.onnx_backend import OnnxBackend

    notes = OnnxBackend(path).notes
    config = from_dict(EncoderConfig, json.loads(notes["config"]), str(path))
    return describe_config(config), notes


def _of_folder(path: Path) -> tuple[dict[str, str], Mapping[str, str]]:
    config = read_encoder_config(path)
    return describe_config(config) | _weights(path / "model.safetensors", config), {}


def _weights(path: Path, config: EncoderConfig) -> dict[str, str]:
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            kinds = sorted({part.get_dtype() for part in slices.values()} - {"I64"})
            notes = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: missing or damaged ({error}).") from error
    _check_fit(path, config, shapes)
    count = sum(
        int(np.prod(shape))
        for name, shape in shapes.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    lines = {"parameters": f"{count / 1e6:.2f} million, stored as {', '.join(kinds)}"}
    if notes:
        lines["notes"] = ", ".join(f"{name} {value}" for name, value in sorted(notes.items()))
    return lines


def _check_fit(path: Path, config: EncoderConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights of other sizes than the config states; only torch can compare the rest."""
    expected: dict[str, tuple[int, ...]] = {"projection.linear.bias": (config.embedding_dim,)}
    if config.descriptor_dim:
        expected["descriptors.linear.bias"] = (config.descriptor_dim,)
    if config.pooling.kind == "netvlad" and config.descriptor_dim:
        expected["pooling.centers"] = (config.pooling.num_clusters, config.descriptor_dim)
    wrong = [
        f"{name} is {shapes.get(name, 'missing')}, not {shape}"
        for name, shape in expected.items()
        if shapes.get(name) != shape
    ]
    if wrong:
        raise InputError(f"{path}: does not fit its config: {first_few(wrong)}.")
