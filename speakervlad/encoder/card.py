"""What an encoder's files say about it, read without torch: parts, size, thresholds, name."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from speakervlad.errors import InputError, first_few
from speakervlad.files import parse_json

if TYPE_CHECKING:
    from speakervlad.config import EncoderConfig
    from speakervlad.schema import Part
    from speakervlad.scoring.calibration import Calibration
    from speakervlad.scoring.decision import Thresholds

THRESHOLDS_NAME = "thresholds.json"
CALIBRATION_NAME = "calibration.json"
# Of which `info` tells the thresholds.
TOLD_RATES = (0.01, 0.001, 0.0001)
DEFAULT = "default"
# The better one on the development lists is the default; names stay when weights improve.
PRETRAINED = {DEFAULT: "small", "small": "small"}
FOLDER = Path(__file__).parent.parent / "pretrained"


def find_encoder(name: str | Path) -> Path:
    """The folder or file that a user means by an encoder.

    Args:
        name: ``default`` or another name of ``PRETRAINED``, or the path of an encoder folder or of
            an exported file. A name that ships wins over a folder of that name: write ``./small``.

    Raises:
        InputError: neither a known name nor the path of a folder or an .onnx file.
    """
    if str(name) in PRETRAINED:
        return FOLDER / PRETRAINED[str(name)]
    path = Path(name)
    if not path.is_dir() and not (path.is_file() and path.suffix == ".onnx"):
        reason = "is no encoder" if path.exists() else "no such encoder"
        known = ", ".join(PRETRAINED)
        raise InputError(f"{name}: {reason}. Name a folder, an .onnx file, or {known}.")
    return path


def ships(encoder: Path) -> bool:
    """Whether an encoder is part of the package."""
    return FOLDER.resolve() in encoder.resolve().parents


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
            f"FAR {100 * rate:g} %": f"accept from {known.at(rate):.4f}"
            for rate in TOLD_RATES
            if rate in known.false_accept_rate
        }
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
    return ", ".join([part.kind, *(f"{name} {value}" for name, value in part.options.items())])


def _of_export(path: Path) -> tuple[dict[str, str], Mapping[str, str]]:
    from speakervlad.config import EncoderConfig
    from speakervlad.encoder.runtimes import OnnxBackend
    from speakervlad.schema import from_dict

    notes = OnnxBackend(path).notes
    config = from_dict(EncoderConfig, parse_json(notes["config"]), str(path))
    return describe_config(config), notes


def _of_folder(path: Path) -> tuple[dict[str, str], Mapping[str, str]]:
    from speakervlad.config import WEIGHTS_NAME, read_encoder_config

    config = read_encoder_config(path)
    return describe_config(config) | _weights(path / WEIGHTS_NAME, config), {}


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


def read_thresholds(encoder: Path | None, notes: Mapping[str, str]) -> "Thresholds | None":
    """What an encoder knows about where to decide; None if it was never validated.

    Args:
        encoder: a folder, or a file that ``export`` wrote; None for one that is only in memory.
        notes: what the file carries, as its backend read it; a ``thresholds.json`` beside the file
            comes first.

    Raises:
        InputError: the thresholds are damaged.
    """
    from speakervlad.scoring.decision import Thresholds

    path = None if encoder is None else companion(encoder, THRESHOLDS_NAME)
    try:
        text = notes.get(THRESHOLDS_NAME)
        if path is not None and path.is_file():
            text = path.read_text(encoding="utf-8")
        return None if text is None else Thresholds.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{encoder}: its {THRESHOLDS_NAME} holds no thresholds ({error}). "
            "Restore it. Until then, pass --threshold."
        ) from error


def read_calibration(encoder: Path | None, notes: Mapping[str, str]) -> "Calibration | None":
    """The calibration of an encoder, if there is one; looked for as ``read_thresholds`` does.

    Raises:
        InputError: it is damaged.
    """
    from speakervlad.scoring.calibration import load_calibration, parse_calibration

    path = None if encoder is None else companion(encoder, CALIBRATION_NAME)
    if path is not None and path.is_file():
        return load_calibration(path)
    text = notes.get(CALIBRATION_NAME)
    return None if text is None else parse_calibration(text, f"{encoder}: its {CALIBRATION_NAME}")


def read_threshold(
    encoder: Path | None, notes: Mapping[str, str], false_accept_rate: float | None = None
) -> float:
    """The cosine from which on to accept: at the equal error rate, or at a false-acceptance rate.

    Args:
        encoder: as ``read_thresholds``.
        notes: as ``read_thresholds``.
        false_accept_rate: any that its development recordings can tell of.

    Raises:
        InputError: the encoder was never validated, its thresholds are damaged, or it has none for
            that rate.
    """
    known = read_thresholds(encoder, notes)
    if known is None:
        raise InputError(
            f"{encoder or 'this encoder'}: holds no {THRESHOLDS_NAME}. Pass --threshold, or learn "
            "them with `speakervlad calibrate-encoder`."
        )
    return known.eer if false_accept_rate is None else known.at(false_accept_rate)


def companion(encoder: Path, name: str) -> Path:
    """A file that goes with an encoder: in its folder, or beside its exported file."""
    return (encoder if encoder.is_dir() else encoder.parent) / name
