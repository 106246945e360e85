"""The commands of who speaks when: ``diarize`` and ``der``."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import answers, console, counted
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    BackendOption,
    ChannelOption,
    DeviceOption,
    EncoderOption,
    PrecisionOption,
)
from speakervlad.cli.people import open_people
from speakervlad.errors import InputError, first_few
from speakervlad.files import check_writable

if TYPE_CHECKING:
    from speakervlad.diarization.turns import Turns


class Channels(StrEnum):
    """What the channels of a file are."""

    MIXED = "mixed"
    SEPARATE = "separate"


def diarize(
    files: Annotated[list[Path], typer.Argument(help="Recordings.")],
    out: Annotated[Path, typer.Option(help="Folder: a file for each recording, named after it.")],
    encoder: EncoderOption = DEFAULT_ENCODER,
    rttm: Annotated[bool, typer.Option("--rttm", help="Write NAME.rttm; so by default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write NAME.json.")] = False,
    srt: Annotated[bool, typer.Option("--srt", help="Write NAME.srt, subtitles.")] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Write NAME.txt, a label track of Audacity.")
    ] = False,
    speakers: Annotated[
        int | None, typer.Option(min=1, help="How many speakers there are; found by default.")
    ] = None,
    min_speakers: Annotated[int, typer.Option(min=1, help="At least so many.")] = 1,
    max_speakers: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    min_seconds: Annotated[
        float, typer.Option(help="Who says less in all is no speaker; others get those sounds.")
    ] = 2.0,
    store: Annotated[
        str | None,
        typer.Option(help="File of people, or postgresql:// URL, to name the speakers it knows."),
    ] = None,
    fpir: Annotated[
        float, typer.Option(help="Share of strangers who may get a name of the store.")
    ] = 0.01,
    channels: Annotated[
        Channels, typer.Option(help="separate: each channel is one speaker, as in recorded calls.")
    ] = Channels.MIXED,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
) -> None:
    """Find who speaks when, and write the turns.

    Example: speakervlad diarize meeting.wav --out turns --srt
    """
    from speakervlad.audio.recording import Recording
    from speakervlad.diarization.diarize import diarize as find_turns
    from speakervlad.diarization.turns import FORMS, write_turns
    from speakervlad.encoder.encoder import load_encoder

    if speakers is not None and (min_speakers, max_speakers) != (1, 20):
        raise InputError(
            "--speakers says how many; it leaves nothing to --min- and --max-speakers."
        )
    asked = {"rttm": rttm, "json": as_json, "srt": srt, "labels": labels}
    forms = [form for form, wanted in asked.items() if wanted] or ["rttm"]
    check_names(files)
    check_writable(out / f"{files[0].stem}{FORMS[forms[0]].suffix}")
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    people = None if store is None else open_people(store, embedder)
    find = partial(
        find_turns,
        encoder=embedder,
        speakers=speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        min_seconds=min_seconds,
        store=people,
        fpir=fpir,
        separate=channels is Channels.SEPARATE,
    )

    def turns_of(path: Path) -> "Turns":
        return find(Recording(path, channel=channel))

    for path, turns in answers(files, "diarizing", turns_of):
        for form in forms:
            write_turns(out / f"{path.stem}{FORMS[form].suffix}", turns, form)
        console.print(f"{path}: {describe(turns)}")


def check_names(files: list[Path]) -> None:
    """Refuse two recordings whose turns would be written into one file.

    Raises:
        InputError: names them.
    """
    by_stem: dict[str, list[str]] = {}
    for path in files:
        by_stem.setdefault(path.stem, []).append(str(path))
    for stem, paths in by_stem.items():
        if len(paths) > 1:
            raise InputError(
                f"{first_few(paths)}: all would be {stem} in --out. Give each a folder of its own."
            )


def describe(turns: "Turns") -> str:
    """Who speaks how long, in one line."""
    if not turns.turns:
        return f"nobody speaks in {turns.seconds:.1f} s"
    said = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in turns.speakers.items())
    return f"{counted(len(turns), 'turn')} in {turns.seconds:.1f} s: {said}"


def der(
    reference: Annotated[
        Path,
        typer.Argument(help="Who spoke when: .rttm, .txt (Audacity), .srt, .json, or a folder."),
    ],
    hypothesis: Annotated[
        Path, typer.Argument(help="What is to be judged, in any of these forms.")
    ],
    collar: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds around each begin and end of the reference that do not count, "
            "half before and half after.",
        ),
    ] = 0.0,
    skip_overlap: Annotated[
        bool, typer.Option("--skip-overlap", help="Leave out where the reference has two speakers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON.")] = False,
) -> None:
    """Diarization error rate with its parts, and Jaccard error rate: a recording a line, and all.

    Example: speakervlad der reference.rttm turns/
    """
    from speakervlad.diarization.der import DiarizationErrors, errors_by_recording
    from speakervlad.diarization.turns import read_turns

    errors = errors_by_recording(
        read_turns(reference), read_turns(hypothesis), collar=collar, skip_overlap=skip_overlap
    )
    in_all = sum(errors.values(), DiarizationErrors())
    if as_json:
        import json

        figures = {name: found.figures for name, found in errors.items()}
        console.print(json.dumps({"recordings": figures, "all": in_all.figures}, indent=1))
        return
    rows = [*errors.items(), ("all", in_all)] if len(errors) > 1 else list(errors.items())
    width = max(len("recording"), *(len(name) for name, _ in rows))
    console.print(
        f"{'recording':{width}}     DER  missed  false alarm  confusion     JER  speakers  found"
    )
    for name, found in rows:
        missed, false_alarm, confusion = found.rates
        console.print(
            f"{name:{width}} {found.der:7.2%} {missed:7.2%} {false_alarm:12.2%} {confusion:10.2%} "
            f"{found.jer:7.2%} {found.num_speakers:9} {found.num_found:6}"
        )
