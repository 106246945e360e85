"""Where encoders lie, by name or path, and what lies beside them."""

from pathlib import Path

# What an encoder learnt about deciding lies beside it, and travels in its exported file.
from speakervlad.config import CALIBRATION_NAME as CALIBRATION_NAME
from speakervlad.config import THRESHOLDS_NAME as THRESHOLDS_NAME
from speakervlad.errors import InputError

DEFAULT = "default"
# Names stay when weights improve.
PRETRAINED = {DEFAULT: "default", "small": "small"}
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


def companion(encoder: Path, name: str) -> Path:
    """A file that goes with an encoder: in its folder, or beside its exported file."""
    return (encoder if encoder.is_dir() else encoder.parent) / name
