"""Options that several commands share."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.errors import InputError
from speakervlad.files import STANDARD_OUTPUT, atomic_path

if TYPE_CHECKING:
    from speakervlad.scoring.points import OperatingPoint
    from speakervlad.scoring.trials import Trials
    from speakervlad.tables.manifest import Manifest

DEFAULT_ENCODER = Path("default")

EncoderOption = Annotated[
    Path,
    typer.Option(
        help="default, small, an encoder folder, or an .onnx file: of `export`, or of WeSpeaker, "
        "3D-Speaker or sherpa-onnx."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="float32, or bfloat16: faster for large encoders and for recordings of one length, "
        "where the processor has it; small encoders, as the default, are fastest in float32."
    ),
]
BackendOption = Annotated[
    str, typer.Option(help="torch, onnxruntime, openvino, or auto: the fastest that can do it.")
]
ChannelOption = Annotated[int | None, typer.Option(help="Channel to take; the mean by default.")]

SpeechOnlyOption = Annotated[
    bool, typer.Option("--speech-only", help="Leave out where nobody speaks.")
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
JsonOutOption = Annotated[
    Path | None, typer.Option("--json-out", help="Write the numbers as JSON; - prints them alone.")
]

MaxBad = Annotated[str, typer.Option(help="Fail when more files than this cannot be used.")]
BadListPath = Annotated[
    Path | None, typer.Option(help="Write the bad files and their reasons here (.csv).")
]

KeyOption = Annotated[
    Path | None, typer.Option("--trials", help="Trial list with the labels, if S has none.")
]
ManifestOption = Annotated[
    Path | None, typer.Option(help="Manifest of the recordings: speakers, columns, durations.")
]
SourceFormatOption = Annotated[
    str | None,
    typer.Option(
        "--source-format",
        help="How to read score files that fit two: speakervlad, kaldi, voxsrc, 3d-speaker.",
    ),
]
FormatOption = Annotated[str, typer.Option("--format", help="speakervlad, kaldi or voxsrc.")]
PartialOption = Annotated[
    bool, typer.Option("--partial", help="Let trials of --trials have no score.")
]
ByOption = Annotated[
    list[str] | None, typer.Option(help="Break down by a manifest column, or by `duration`.")
]
PointOption = Annotated[
    list[str] | None, typer.Option(help="Operating point: p_target or p_target,c_miss,c_fa.")
]
ResamplesOption = Annotated[
    int, typer.Option(min=0, help="Bootstrap resamples of the speakers; 0 for no intervals.")
]


def parse_points(texts: list[str] | None) -> "tuple[OperatingPoint, ...]":
    """Operating points of the command line, or the usual two."""
    from speakervlad.scoring.points import REPORTED_POINTS, OperatingPoint

    return tuple(map(OperatingPoint.parse, texts)) if texts else REPORTED_POINTS


def read_key(path: Path | None) -> "Trials | None":
    """The trial list of an option, if it is given."""
    if path is None:
        return None
    from speakervlad.scoring.lists import load_trials

    return load_trials(path)


def read_manifest(path: Path | None) -> "Manifest | None":
    """The manifest of an option, if it is given."""
    if path is None:
        return None
    from speakervlad.tables.manifest import load_manifest

    return load_manifest(path)


def write_json(
    values: object, out: Path | None, *, printed: bool, indent: int | None = None
) -> None:
    """Print and write what ``--json`` and ``--json-out`` ask for.

    Raises:
        InputError: ``out`` cannot be written.
    """
    for path in filter(None, (STANDARD_OUTPUT if printed else None, out)):
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values, indent=indent) + "\n", encoding="utf-8")


def parse_fraction(text: str) -> float:
    """``1%`` or ``0.01`` as 0.01.

    Raises:
        InputError: not a number between 0 and 1 (or 0% and 100%).
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"--max-bad: {text!r} is not a fraction. Write 1% or 0.01.")
    return value
