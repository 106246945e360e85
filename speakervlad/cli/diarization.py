"""The commands of who speaks when: ``diarize`` and ``der``."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.answers import answers
from speakervlad.cli.console import console, counted
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
from speakervlad.cli.people import open_people
from speakervlad.errors import InputError, first_few
from speakervlad.files import check_writable

if TYPE_CHECKING:
    from speakervlad.diarization.der import DiarizationErrors
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
    """Find who speaks when, and write the turns.

    Example: speakervlad diarize meeting.wav --out turns --srt
    """
    from speakervlad.audio.recording import Recording
    from speakervlad.diarization.diarize import diarize as find_turns
    from speakervlad.diarization.turns import FORMS, save_turns
    from speakervlad.encoder.encoder import load_encoder

    if speakers is not None and (min_speakers, max_speakers) != (1, 20):
        raise InputError(
            "--speakers says how many; it leaves nothing to --min- and --max-speakers."
        )
    if channels is Channels.SEPARATE:
        check_separate(channel, speakers, min_speakers, max_speakers)
    asked = {"rttm": rttm, "json": as_json, "srt": srt, "labels": labels}
    forms = [form for form, wanted in asked.items() if wanted] or ["rttm"]
    check_names(files)
    check_writable(out / f"{files[0].stem}{FORMS[forms[0]].suffix}")
    if store is not None:
        from speakervlad.people.people import encoder_for

        encoder = encoder_for(store, encoder)
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
        overlap=overlap,
    )

    def turns_of(path: Path) -> "Turns":
        return find(Recording(path, channel=channel))

    for path, turns in answers(files, "diarizing", turns_of, max_bad=max_bad, bad_list=bad_list):
        for form in forms:
            save_turns(out / f"{path.stem}{FORMS[form].suffix}", turns, form)
        console.print(f"{path}: {describe(turns)}")


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
        typer.Argument(
            help="Who spoke when: .rttm, .txt (Audacity), .srt, .vtt, .json, or a folder."
        ),
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
    uem: Annotated[
        Path | None,
        typer.Option(help="Judge these parts alone: lines of recording, channel, begin, end."),
    ] = None,
    any_name: Annotated[
        bool,
        typer.Option(
            "--any-name", help="Compare the only recordings of both, whatever their names."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON.")] = False,
) -> None:
    """Diarization error rate with its parts, and Jaccard error rate: a recording a line, and all.

    Example: speakervlad der reference.rttm turns/
    """
    from speakervlad.diarization.der import DiarizationErrors, errors_by_recording
    from speakervlad.diarization.turns import load_turns
    from speakervlad.diarization.uem import load_uem

    references, hypotheses = load_turns(reference), load_turns(hypothesis)
    if any_name or is_named_by_files(reference, hypothesis):
        hypotheses = renamed(references, hypotheses)
    else:
        check_same_names(references, hypotheses)
    errors = errors_by_recording(
        references,
        hypotheses,
        collar=collar,
        skip_overlap=skip_overlap,
        uem=None if uem is None else load_uem(uem),
    )
    in_all = sum(errors.values(), DiarizationErrors())
    if as_json:
        import json

        figures = {name: found.figures for name, found in errors.items()}
        typer.echo(json.dumps({"recordings": figures, "all": in_all.figures}, indent=1))
        return
    print_errors([*errors.items(), ("all", in_all)] if len(errors) > 1 else list(errors.items()))


def is_named_by_files(reference: Path, hypothesis: Path) -> bool:
    """Whether one of two files does not say itself which recording it is of."""
    from speakervlad.diarization.turns import names_recordings

    return not (names_recordings(reference) and names_recordings(hypothesis))


def renamed(references: "dict[str, Turns]", hypotheses: "dict[str, Turns]") -> "dict[str, Turns]":
    """The hypotheses; one alone gets the name of the only reference."""
    is_pair = len(references) == len(hypotheses) == 1
    return dict(zip(references, hypotheses.values(), strict=True)) if is_pair else hypotheses


def check_same_names(references: "dict[str, Turns]", hypotheses: "dict[str, Turns]") -> None:
    """Refuse to judge one recording by the reference of another.

    Raises:
        InputError: both have one recording, and the names differ.
    """
    from speakervlad.diarization.der import recording_key

    if len(references) == len(hypotheses) == 1:
        one, other = (next(iter(each)) for each in (references, hypotheses))
        if recording_key(one) != recording_key(other):
            raise InputError(
                f"the reference is of the recording {one!r}, the hypothesis of {other!r}. "
                "--any-name compares them all the same."
            )


def print_errors(rows: "list[tuple[str, DiarizationErrors]]") -> None:
    """A line for each recording; seconds where there is nothing that errors are a fraction of."""
    width = max(len("recording"), *(len(name) for name, _ in rows))
    heading = "      DER   missed  false alarm  confusion       JER  speakers  found"
    console.print(f"{'recording':{width}} {heading}")
    for name, found in rows:
        if found.is_defined:
            parts = [f"{rate:.2%}" for rate in found.rates]
        else:
            parts = [f"{each:.2f} s" for each in (found.missed, found.false_alarm, found.confusion)]
        missed, false_alarm, confusion = parts
        der = f"{found.der:.2%}" if found.is_defined else "undefined"
        jer = f"{found.jer:.2%}" if found.num_speakers else "undefined"
        console.print(
            f"{name:{width}} {der:>9} {missed:>8} {false_alarm:>12} {confusion:>10} {jer:>9} "
            f"{found.num_speakers:9} {found.num_found:6}"
        )
