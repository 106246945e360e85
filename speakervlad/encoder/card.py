"""What an encoder's files say about it, read without torch: parts, size, notes of its training."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from speakervlad.errors import InputError, first_few
from speakervlad.texts import parse_json

if TYPE_CHECKING:
    from speakervlad.config import EncoderConfig
    from speakervlad.schema import Part


def describe_encoder(path: Path) -> dict[str, str]:
    """Lines of text by name: parts, parameters, notes of the training.

    Args:
        path: an encoder folder, or a file that ``export`` wrote.

    Raises:
        InputError: no encoder, its files are damaged, or its weights do not fit its config.
    """
    from speakervlad.encoder.runtimes import exported_notes

    notes = exported_notes(path)
    if "framework" in notes:
        lines = _of_foreign(notes)
    else:
        lines = _of_export(path, notes) if path.is_file() else _of_folder(path)
    return {"encoder": str(path)} | lines


def describe_config(config: "EncoderConfig") -> dict[str, str]:
    """The parts of an encoder in words."""
    lines = {
        "front end": _part(config.front_end),
        "trunk": _part(config.trunk),
        "pooling": _part(config.pooling),
        "embedding": f"{config.embedding_dim} dimensions",
    }
    return lines | ({"packages": ", ".join(config.packages)} if config.packages else {})


def _part(part: "Part") -> str:
    """Its kind and options; those of an option that is a part itself stand in brackets."""
    from speakervlad.schema import Part

    shown = {
        name: f"({_part(value)})" if isinstance(value, Part) else value
        for name, value in part.options.items()
    }
    return ", ".join([part.kind, *(f"{name} {value}" for name, value in shown.items())])


def _of_foreign(notes: Mapping[str, str]) -> dict[str, str]:
    return {
        "toolkit": f"{notes['framework']}: a network of features to one vector, without frames",
        "front end": notes["front end"],
        "embedding": f"{notes['dim']} dimensions",
    }


def _of_export(path: Path, notes: Mapping[str, str]) -> dict[str, str]:
    from speakervlad.config import EncoderConfig
    from speakervlad.schema import from_dict

    return describe_config(from_dict(EncoderConfig, parse_json(notes["config"]), str(path)))


def _of_folder(path: Path) -> dict[str, str]:
    from speakervlad.config import WEIGHTS_NAME, read_encoder_config

    config = read_encoder_config(path)
    return describe_config(config) | _weights(path / WEIGHTS_NAME, config)


def _weights(path: Path, config: "EncoderConfig") -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

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
        math.prod(shape)
        for name, shape in shapes.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    lines = {"parameters": f"{count / 1e6:.2f} million, stored as {', '.join(kinds)}"}
    if notes:
        lines["notes"] = ", ".join(f"{name} {value}" for name, value in sorted(notes.items()))
    return lines


def _check_fit(path: Path, config: "EncoderConfig", shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights of other sizes than the config states; only torch can compare the rest."""
    expected: dict[str, tuple[int, ...]] = {"projection.linear.bias": (config.embedding_dim,)}
    if config.descriptor_dim:
        expected["descriptors.linear.bias"] = (config.descriptor_dim,)
    wrong = [
        f"{name} is {shapes.get(name, 'missing')}, not {shape}"
        for name, shape in expected.items()
        if shapes.get(name) != shape
    ]
    if wrong:
        raise InputError(f"{path}: does not fit its config: {first_few(wrong)}.")
