"""Where encoders lie, by name or path, and what lies beside them."""

import re
from pathlib import Path

# What an encoder learnt about deciding lies beside it, and travels in its exported file.
from speakervlad.config import CALIBRATION_NAME as CALIBRATION_NAME
from speakervlad.config import THRESHOLDS_NAME as THRESHOLDS_NAME
from speakervlad.errors import InputError

DEFAULT = "default"
# Names stay when weights improve.
PRETRAINED = {DEFAULT: "default", "small": "small"}
FOLDER = Path(__file__).parent.parent / "pretrained"
# `organisation/model` and `https:/...`, as a `Path` has it.
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(?<!\.onnx)")
ADDRESS = re.compile(r"[a-z][a-z0-9]{1,10}:/")


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
        ways = f"Name a folder, an .onnx file, or {', '.join(PRETRAINED)}."
        raise InputError(f"{name}: {reason}. {ways}{_way_from_elsewhere(path)}")
    return path


def _way_from_elsewhere(path: Path) -> str:
    """What to do about the name of an encoder that lies elsewhere, if it looks like one."""
    name = path.as_posix()
    if path.parent.is_dir() or not (ADDRESS.match(name) or HUB_NAME.fullmatch(name)):
        return ""
    return " Encoders are not downloaded: fetch it (`hf download`, `curl`) and name the file."


def ships(encoder: Path) -> bool:
    """Whether an encoder is part of the package."""
    return FOLDER.resolve() in encoder.resolve().parents


def companion(encoder: Path, name: str) -> Path:
    """A file that goes with an encoder: in its folder, or beside its exported file."""
    return (encoder if encoder.is_dir() else encoder.parent) / name
