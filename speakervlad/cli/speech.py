"""The command that finds where somebody speaks: ``speech``."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.answers import answers
from speakervlad.cli.console import console
from speakervlad.cli.options import BadListPath, ChannelOption, MaxBad
from speakervlad.errors import InputError
from speakervlad.urls import called

if TYPE_CHECKING:
    from speakervlad.audio.speech import Speech


def speech(
    files: Annotated[list[Path], typer.Argument(help="Recordings.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")] = False,
    rttm: Annotated[bool, typer.Option("--rttm", help="Print RTTM.")] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Print a label track of Audacity, of one file.")
    ] = False,
    channel: ChannelOption = None,
    max_bad: MaxBad = "0%",
    bad_list: BadListPath = None,
) -> None:
    """Find where somebody speaks: begin and end of every segment, in seconds.

    Example: speakervlad speech call.wav --json
    """
    from speakervlad.audio.recording import Recording

    if as_json + rttm + labels > 1:
        raise InputError("--json, --rttm and --labels: give one of them.")
    if labels and len(files) > 1:
        raise InputError(f"--labels holds one recording, not {len(files)}. Take --rttm.")
    form = next((name for name, asked in {"rttm": rttm, "labels": labels}.items() if asked), None)
    show = print_json if as_json else partial(print_turns, form) if form else print_text

    def find(path: Path) -> "Speech":
        return Recording(path, channel=channel).find_speech()

    for path, found in answers(files, "listening", find, max_bad=max_bad, bad_list=bad_list):
        show(path, found)


def print_text(path: Path, found: "Speech") -> None:
    """A line for the file, and one for each segment."""
    console.print(
        f"{called(path)}: {found.spoken_seconds:.2f} s of speech in {found.seconds:.2f} s"
    )
    for begin, end in found.segments:
        console.print(f"{begin:10.3f} {end:10.3f}")


def print_turns(form: str, path: Path, found: "Speech") -> None:
    """As the turns of one speaker."""
    from speakervlad.diarization.turns import FORMS, Turn, Turns

    turns = tuple(Turn(begin, end, "speech") for begin, end in found.segments.tolist())
    typer.echo(FORMS[form].write(Turns(Path(called(path)).stem, turns, found.seconds)), nl=False)


def print_json(path: Path, found: "Speech") -> None:
    """All of it in one line."""
    line = {
        "file": called(path),
        "seconds": found.seconds,
        "speech": found.spoken_seconds,
        "segments": found.segments.tolist(),
    }
    console.print(json.dumps(line, ensure_ascii=False))
