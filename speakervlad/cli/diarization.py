"""The commands of who speaks when: ``der``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import console


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
    from speakervlad.evaluation.diarization_errors import DiarizationErrors, errors_by_recording
    from speakervlad.evaluation.turns import read_turns

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
