"""``der``: how wrong turns of speakers are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import console
from speakervlad.errors import InputError

if TYPE_CHECKING:
    from speakervlad.diarization.der import DiarizationErrors
    from speakervlad.diarization.turns import Turns


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
