"""``label``: the words of a transcript get their speakers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import counted, notes
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    BackendOption,
    DeviceOption,
    EncoderOption,
    PrecisionOption,
)
from speakervlad.cli.people import NamesOption, StoreOption, encoder_and_names
from speakervlad.errors import InputError

if TYPE_CHECKING:
    from speakervlad.diarization.turns import Turns


def label(
    transcript: Annotated[
        Path,
        typer.Argument(
            help="JSON of Whisper, faster-whisper, WhisperX or whisper.cpp; .srt; .vtt."
        ),
    ],
    recording: Annotated[Path | None, typer.Argument(help="The recording itself.")] = None,
    turns: Annotated[
        Path | None,
        typer.Option(help="Who speaks when, as diarize wrote it, instead of the recording."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="The suffix chooses: .txt, .json, .srt, .vtt, .csv; - prints text."),
    ] = Path("-"),
    speakers: Annotated[
        int | None, typer.Option(min=1, help="How many speakers there are; found by default.")
    ] = None,
    store: StoreOption = None,
    names: NamesOption = True,
    encoder: EncoderOption = DEFAULT_ENCODER,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
) -> None:
    """Say who says what: a transcript with speakers, from a transcript and its recording.

    Example: speakervlad label meeting.json meeting.wav --out meeting.srt
    """
    from speakervlad.diarization.transcripts import (
        label_transcript,
        load_transcript,
        save_transcript,
    )

    if (recording is None) == (turns is None):
        raise InputError("give the recording, or --turns FILE of it: one of the two.")
    read = load_transcript(transcript)
    if turns is not None:
        found = turns_of_one(turns)
    else:
        from speakervlad.diarization.diarize import diarize

        loaded, people = encoder_and_names(
            store, encoder, names=names, device=device, precision=precision, backend=backend
        )
        assert recording is not None
        found = diarize(recording, encoder=loaded, speakers=speakers, store=people)
    labelled = label_transcript(read, found)
    save_transcript(out, labelled)
    if str(out) != "-":
        segments = counted(len(labelled.segments), "segment")
        notes.print(f"{segments} of {counted(len(found.speakers), 'speaker')}: {out}")


def turns_of_one(path: Path) -> "Turns":
    """The turns of a file that holds those of one recording.

    Raises:
        InputError: it holds none, or those of several.
    """
    from speakervlad.diarization.turns import load_turns

    recordings = load_turns(path)
    if len(recordings) != 1:
        raise InputError(f"{path}: turns of {len(recordings)} recordings, expected one.")
    return next(iter(recordings.values()))
