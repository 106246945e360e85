"""What an encoder's files say about it, read without torch."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from speakervlad.config import EncoderConfig, read_encoder_config
from speakervlad.errors import InputError
from speakervlad.inference.thresholds import THRESHOLDS_NAME
from speakervlad.plain import from_dict


def describe_encoder(path: Path) -> dict[str, str]:
    """Lines of text by name: parts, parameters, notes of the training, thresholds.

    Args:
        path: an encoder folder, or a file that ``export`` wrote.

    Raises:
        InputError: no encoder, or its files are damaged.
    """
    lines, thresholds = _of_export(path) if path.is_file() else _of_folder(path)
    if thresholds is not None:
        known = json.loads(thresholds)
        lines["threshold"] = f"{known['eer']:.4f} at the equal error rate"
        lines |= {
            f"FAR {float(rate):.1%}": f"accept from {value:.4f}"
            for rate, value in known.get("false_accept_rate", {}).items()
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


def _of_export(path: Path) -> tuple[dict[str, str], str | None]:
    from speakervlad.inference.onnx_backend import OnnxBackend

    notes = OnnxBackend(path).notes
    config = from_dict(EncoderConfig, json.loads(notes["config"]), str(path))
    return describe_config(config), notes.get(THRESHOLDS_NAME)


def _of_folder(path: Path) -> tuple[dict[str, str], str | None]:
    lines = describe_config(read_encoder_config(path)) | _weights(path)
    thresholds = path / THRESHOLDS_NAME
    return lines, thresholds.read_text() if thresholds.is_file() else None


def _weights(folder: Path) -> dict[str, str]:
    path = folder / "model.safetensors"
    try:
        with safe_open(path, "numpy") as file:
            shapes = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            count = sum(
                int(np.prod(part.get_shape()))
                for name, part in shapes.items()
                if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
            )
            kinds = sorted({part.get_dtype() for part in shapes.values()} - {"I64"})
            notes = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: missing or damaged ({error}).") from error
    lines = {"parameters": f"{count / 1e6:.2f} million, stored as {', '.join(kinds)}"}
    if notes:
        lines["notes"] = ", ".join(f"{name} {value}" for name, value in sorted(notes.items()))
    return lines
