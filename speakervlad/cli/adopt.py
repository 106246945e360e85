"""``adopt``: an ONNX encoder of another toolkit to an encoder folder."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from speakervlad.cli.console import notes
from speakervlad.errors import InputError

# What must be said of a network of a toolkit that is not known: option, question, answers.
QUESTIONS = {
    "samples": ("Which samples are its features of?", ("unit", "int16")),
    "window": ("Which window?", ("povey", "hamming")),
    "normalise": ("What is done over the recording?", ("time_mean", "time", "none")),
}


def adopt(
    model: Annotated[Path, typer.Argument(help="ONNX file: filter-bank features to one vector.")],
    out: Annotated[Path, typer.Option(help="Encoder folder to write.")],
    framework: Annotated[
        str | None,
        typer.Option(help="wespeaker, 3d-speaker, or other; by default what the file says."),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(help="Its features are of samples in [-1, 1] (unit) or of 16 bits (int16)."),
    ] = None,
    window: Annotated[str | None, typer.Option(help="povey or hamming.")] = None,
    normalise: Annotated[
        str | None,
        typer.Option(help="time_mean: minus the mean over the recording; time: CMVN; none."),
    ] = None,
    num_mels: Annotated[int | None, typer.Option(help="Features a frame; 80 mostly.")] = None,
    f_min: Annotated[float | None, typer.Option(help="Lower edge in Hz; 20 mostly.")] = None,
    f_max: Annotated[float | None, typer.Option(help="Upper edge in Hz; 8000 mostly.")] = None,
    piece_seconds: Annotated[
        float | None, typer.Option(help="Longer recordings are the mean of pieces of so long.")
    ] = None,
) -> None:
    """Make an encoder folder of another toolkit's ONNX encoder; nothing of the network changes.

    What the file says is taken from it; the rest is asked for, or given as options.

    Example: speakervlad adopt resnet34.onnx --framework wespeaker --out resnet34
    """
    from speakervlad.encoder.foreign import adopt_file

    given = {
        "window": window,
        "normalise": normalise,
        "num_mels": num_mels,
        "f_min": f_min,
        "f_max": f_max,
        "scale": None if samples is None else scale_of(samples),
    }
    options = {name: value for name, value in given.items() if value is not None}
    if framework == "other":
        options |= ask({"samples": samples, "window": window, "normalise": normalise})
    values: dict[str, Any] = {} if framework is None else {"framework": framework}
    if options:
        values["front_end"] = options | ({"kind": "kaldi_fbank"} if framework == "other" else {})
    if piece_seconds is not None:
        values["piece_seconds"] = piece_seconds
    told = adopt_file(model, out, values)
    notes.print(f"{out}: {told}")


def ask(given: dict[str, str | None]) -> dict[str, object]:
    """Options of the front end; on a terminal the user is asked for what is missing.

    Raises:
        InputError: something is missing, and there is no terminal; or no such answer.
    """
    missing = [name for name, value in given.items() if value is None]
    if missing and not sys.stdin.isatty():
        told = "; ".join(
            f"--{name} {' or '.join(QUESTIONS[name][1])}: {QUESTIONS[name][0]}" for name in missing
        )
        raise InputError(f"--framework other: cannot be told from the file: {told}")
    found: dict[str, object] = {}
    for name, value in given.items():
        question, answers = QUESTIONS[name]
        answer = value or typer.prompt(f"{question} ({', '.join(answers)})", default=answers[0])
        if name == "samples":
            found["scale"] = scale_of(answer)
        else:
            found[name] = answer
    return found


def scale_of(samples: str) -> float:
    """What samples in [-1, 1] are multiplied with.

    Raises:
        InputError: neither of both kinds.
    """
    from speakervlad.models.frontend import KALDI_SCALE

    scales = {"unit": 1.0, "int16": KALDI_SCALE}
    if samples not in scales:
        raise InputError(f"--samples {samples}: Known: {', '.join(scales)}.")
    return scales[samples]
