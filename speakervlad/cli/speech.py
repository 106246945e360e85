"""The command that finds where somebody speaks: ``speech``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import console, errors, track
from speakervlad.cli.options import ChannelOption
from speakervlad.errors import InputError

if TYPE_CHECKING:
    from speakervlad.inference.speech import Speech


def speech(
    files: Annotated[list[Path], typer.Argument(help="Recordings.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")] = False,
    channel: ChannelOption = None,
) -> None:
    """Find where somebody speaks: begin and end of every segment, in seconds."""
    from speakervlad.inference.speech import find_speech

    show = print_json if as_json else print_text
    failures = []
    for path in track(files, "listening", len(files)):
        try:
            found = find_speech(path, channel=channel)
        except InputError as error:
            failures.append(error)
        else:
            show(path, found)
    for failure in failures[:-1]:
        errors.print(f"error: {failure}")
    if failures:
        raise failures[-1]


def print_text(path: Path, found: "Speech") -> None:
    """A line for the file, and one for each segment."""
    console.print(f"{path}: {found.spoken_seconds:.2f} s of speech in {found.seconds:.2f} s")
    for begin, end in found.segments:
        console.print(f"{begin:10.3f} {end:10.3f}")


def print_json(path: Path, found: "Speech") -> None:
    """All of it in one line."""
    line = {
        "file": str(path),
        "seconds": found.seconds,
        "speech": found.spoken_seconds,
        "segments": found.segments.tolist(),
    }
    console.print(json.dumps(line, ensure_ascii=False))
