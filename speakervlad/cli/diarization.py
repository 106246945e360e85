"""``diarize``: who speaks when."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.answers import answers
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    BackendOption,
    BadListPath,
    ChannelOption,
    DeviceOption,
    EncoderOption,
    MaxBad,
    PrecisionOption,
)
from speakervlad.cli.people import NamesOption, StoreOption, encoder_and_names
from speakervlad.errors import InputError

if TYPE_CHECKING:
    from speakervlad.diarization.turns import Turns


class Channels(StrEnum):
    """What the channels of a file are."""

    MIXED = "mixed"
    SEPARATE = "separate"


def diarize(
    files: Annotated[list[Path], typer.Argument(help="Recordings.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A file (.rttm, .json, .srt, .vtt, .csv, .txt), - for standard output, or a "
            "folder that gets a file for each recording. Printed if not given."
        ),
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    rttm: Annotated[
        bool, typer.Option("--rttm", help="As RTTM; so by default, but for a terminal.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, an object a line.")] = False,
    srt: Annotated[bool, typer.Option("--srt", help="As subtitles, SRT.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="As subtitles, WebVTT.")] = False,
    table: Annotated[bool, typer.Option("--csv", help="As a table of commas.")] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="As a label track of Audacity (.txt).")
    ] = False,
    speakers: Annotated[
        int | None, typer.Option(min=1, help="How many speakers there are; found by default.")
    ] = None,
    min_speakers: Annotated[int, typer.Option(min=1, help="At least so many.")] = 1,
    max_speakers: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    min_seconds: Annotated[
        float, typer.Option(help="Who says less in all is no speaker; others get those sounds.")
    ] = 2.0,
    store: StoreOption = None,
    names: NamesOption = True,
    fpir: Annotated[
        float, typer.Option(help="Share of strangers who may get a name of the store.")
    ] = 0.01,
    channels: Annotated[
        Channels, typer.Option(help="separate: each channel is one speaker, as in recorded calls.")
    ] = Channels.MIXED,
    overlap: Annotated[
        bool,
        typer.Option(
            "--overlap/--no-overlap", help="Whether two may speak at once; else one does."
        ),
    ] = True,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
    max_bad: MaxBad = "0%",
    bad_list: BadListPath = None,
) -> None:
    """Find who speaks when, and print or write the turns; people of the store get their names.

    Example: speakervlad diarize meeting.wav --out meeting.srt
    """
    from speakervlad.audio.recording import Recording
    from speakervlad.cli.turns_output import Output
    from speakervlad.diarization.diarize import diarize as find_turns

    if speakers is not None and (min_speakers, max_speakers) != (1, 20):
        raise InputError(
            "--speakers says how many; it leaves nothing to --min- and --max-speakers."
        )
    if channels is Channels.SEPARATE:
        check_separate(channel, speakers, min_speakers, max_speakers)
    flags = {"rttm": rttm, "json": as_json, "srt": srt, "vtt": vtt, "csv": table, "labels": labels}
    output = Output.of(files, out, [form for form, is_asked in flags.items() if is_asked])
    loaded, people = encoder_and_names(
        store, encoder, names=names, device=device, precision=precision, backend=backend
    )
    find = partial(
        find_turns,
        encoder=loaded,
        speakers=speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        min_seconds=min_seconds,
        store=people,
        fpir=fpir,
        separate=channels is Channels.SEPARATE,
        overlap=overlap,
    )

    def turns_of(path: Path) -> "Turns":
        return find(Recording(path, channel=channel))

    for path, turns in answers(files, "diarizing", turns_of, max_bad=max_bad, bad_list=bad_list):
        output.take(path, turns)
    output.finish()


def check_separate(
    channel: int | None, speakers: int | None, min_speakers: int, max_speakers: int
) -> None:
    """Refuse what says nothing beside ``--channels separate``.

    Raises:
        InputError: names it.
    """
    if channel is not None:
        raise InputError("--channels separate takes all channels; it leaves nothing to --channel.")
    if speakers is not None or (min_speakers, max_speakers) != (1, 20):
        raise InputError(
            "--channels separate: as many speakers as channels; it leaves nothing to --speakers, "
            "--min-speakers and --max-speakers."
        )
