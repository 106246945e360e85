"""The encoders that ship inside the package."""

from pathlib import Path

from speakervlad.errors import InputError

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
