"""The command that makes recordings to try the others with: ``examples``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import console

SESSIONS, UTTERANCES = 3, 4


def examples(
    folder: Annotated[Path, typer.Argument(help="Folder to write them into.")] = Path("examples"),
    generated: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Instead, so many generated speakers, to try `prepare` and `train` with. Another "
            "folder name gives other speakers.",
        ),
    ] = None,
) -> None:
    """Copy twelve recordings of five people, to try the commands with.

    Example: speakervlad examples
    """
    if generated is None:
        from speakervlad.audio.examples import copy_examples

        for path in copy_examples(folder):
            console.print(path)
        return
    from speakervlad.corpus.voices import make_corpus

    manifest = make_corpus(
        folder,
        num_speakers=generated,
        num_sessions=SESSIONS,
        utterances_per_session=UTTERANCES,
        speaker_prefix=folder.resolve().name,
        num_workers=None,
    )
    console.print(f"{len(manifest)} recordings of {generated} generated speakers: {folder}")
