"""``adapt``: an encoder's head, fitted to recordings of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import console, notes
from speakervlad.cli.options import DEFAULT_ENCODER

if TYPE_CHECKING:
    from speakervlad.scoring.metrics import VerificationReport
    from speakervlad.training.adapt import Adapted


def adapt(
    manifest: Annotated[
        Path, typer.Argument(help="Recordings of ten speakers or more, as `prepare` writes it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new encoder.")],
    encoder: Annotated[
        Path, typer.Option(help="default, small, or an encoder folder.")
    ] = DEFAULT_ENCODER,
    frames: Annotated[
        Path | None, typer.Option(help="Folder to keep the trunk's frames in, for another time.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the fitting.")] = 300,
    even_if_worse: Annotated[
        bool, typer.Option("--even-if-worse", help="Write the encoder whatever it is worth.")
    ] = False,
) -> None:
    """Fit an encoder to recordings of your own, and judge it by speakers that are kept apart.

    Ends with code 1 if the encoder became worse and was not written.

    Example: speakervlad adapt mine.csv --out my-encoder
    """
    from speakervlad.extras import require
    from speakervlad.tables.manifest import load_manifest

    require("torch", "train", "adapt")
    from speakervlad.training.adapt import adapt

    found = adapt(
        load_manifest(manifest),
        out,
        encoder=encoder,
        frames=frames,
        steps=steps,
        even_if_worse=even_if_worse,
    )
    for line in describe(found):
        console.print(line)
    if found.encoder is None:
        notes.print("worse than before: nothing was written (--even-if-worse writes it)")
        raise typer.Exit(1)


def describe(found: "Adapted") -> list[str]:
    """What was judged, and what was learnt."""
    how = (
        f"{found.judged} of {found.speakers} speakers kept apart"
        if found.learns
        else f"each of {found.speakers} speakers kept apart once, in {found.parts} parts"
    )
    lines = [
        f"judged by   {how}, {found.before.num_target} target and "
        f"{found.before.num_nontarget} impostor trials",
        f"EER before  {_eer(found.before)}",
        f"EER after   {_eer(found.after)}",
    ]
    if found.encoder is not None:
        learnt = "learnt from these speakers" if found.learns else "those of the encoder before"
        lines += [f"thresholds  {learnt}", f"encoder     {found.encoder}"]
    return lines


def _eer(report: "VerificationReport") -> str:
    low, high = (report.intervals or {})["eer"]
    return f"{100 * report.eer:.2f} %  (95 %: {100 * low:.2f} to {100 * high:.2f})"
