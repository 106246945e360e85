"""Commands about trial lists: ``trials check``, ``trials make``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import console, notes


def check(
    trials: Annotated[Path, typer.Argument(help="Trial list; its format is recognised.")],
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest of the recordings: speakers, files, sessions.")
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="Manifest of the training set, to find leaks.")
    ] = None,
) -> None:
    """Count and name what is in a list and what is wrong with it; exit code 1 for problems.

    Example: speakervlad trials check list.trials --manifest dev.csv
    """
    from speakervlad.scoring.checks import check_trials
    from speakervlad.scoring.lists import load_trials
    from speakervlad.tables.manifest import load_manifest

    known = None if manifest is None else load_manifest(manifest)
    trained = None if train is None else load_manifest(train)
    found = check_trials(load_trials(trials), known, trained)
    if found.known_as is not None:
        console.print(f"list        {found.known_as}")
    classes = ""
    if found.num_target is not None:
        classes = f": {found.num_target} target, {found.num_trials - found.num_target} non-target"
    console.print(f"trials      {found.num_trials}{classes}")
    console.print(f"recordings  {found.num_names}")
    if found.num_speakers is not None:
        console.print(f"speakers    {found.num_speakers}")
    for note in found.notes:
        console.print(f"note: {note}", markup=False)
    for problem in found.problems:
        console.print(f"problem: {problem}", markup=False)
    if found.problems:
        raise typer.Exit(1)


def make(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the recordings.")],
    out: Annotated[Path, typer.Option(help="Trial list: `label enrol test`.")],
    per_speaker: Annotated[int, typer.Option(help="Most trials of either class a speaker.")] = 20,
    match: Annotated[
        list[str] | None, typer.Option(help="Column that impostors share, such as corpus.")
    ] = None,
    allow_same_session: Annotated[
        bool, typer.Option(help="Let target trials come from one session.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
) -> None:
    """Draw a balanced trial list: sessions differ, impostors share columns, no pair twice.

    Example: speakervlad trials make dev.csv --out dev.trials
    """
    from speakervlad.files import check_writable
    from speakervlad.scoring.checks import make_trials
    from speakervlad.scoring.lists import save_trials
    from speakervlad.tables.manifest import load_manifest

    check_writable(out)
    trials = make_trials(
        load_manifest(manifest),
        per_speaker=per_speaker,
        match=match or (),
        allow_same_session=allow_same_session,
        seed=seed,
    )
    save_trials(out, trials)
    notes.print(f"{len(trials)} trials: {out}")
