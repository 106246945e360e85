"""The command that shows the whole chain: ``quickstart``."""

from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import console, notes, training_line
from speakervlad.errors import InputError
from speakervlad.extras import require

# Two recordings of one speaker, and one of another.
SHOWN = ("alex-1", "alex-2", "kim-1")
ENROLLED = {"Alex": ("alex-1", "alex-2"), "Kim": ("kim-1", "kim-2")}
ASKED = ("alex-3", "jo-1")


def quickstart(
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(help="Two or more of yours, to compare pairwise with the default encoder."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run goes on.")] = Path(
        "quickstart-run"
    ),
) -> None:
    """Generate voices, train a small GhostVLAD encoder on them, judge it on unseen ones.

    Ends by comparing recordings with the encoder that ships: those of `examples`, and yours.

    Example: speakervlad quickstart
    """
    check_recordings(recordings or [])
    require("torch", "train", "quickstart")
    require("matplotlib", "plots", "quickstart")
    from speakervlad.audio.examples import examples
    from speakervlad.training.quickstart import run_quickstart

    with training_line() as show:
        result = run_quickstart(out, show=show)
    if result is None:
        notes.print("stopped early and saved; the same command goes on")
        return
    for name, report in (("before training", result.before), ("after training", result.after)):
        costs = "  ".join(f"minDCF({prior}) {cost:.3f}" for prior, cost in report.min_dcf.items())
        console.print(f"{name:16s} EER {report.eer:6.2%}  {costs}")
    console.print(f"{result.after.num_target} target and {result.after.num_nontarget} non-target")
    console.print(f"encoder: {result.encoder}")
    console.print(f"DET plot: {out / 'det.png'}")
    console.print()
    console.print(
        "The encoder that ships, trained on real voices, says of recordings that ship too:"
    )
    clips = examples()
    print_pairs([clips[name] for name in SHOWN])
    print_people(clips)
    if recordings:
        console.print("and of yours:")
        print_pairs(recordings)


def check_recordings(paths: list[Path]) -> None:
    """Refuse before the training what could not be compared after it.

    Raises:
        InputError: a single recording, or one that is missing or no audio.
    """
    from speakervlad.audio.spans import audio_info

    if len(paths) == 1:
        raise InputError(f"{paths[0]}: one recording has none to be compared with. Give two.")
    for path in paths:
        audio_info(path)


def print_pairs(paths: list[Path]) -> None:
    """What the default encoder makes of every two recordings."""
    from speakervlad.encoder.encoder import load_encoder

    embedder = load_encoder()
    rule = embedder.rule()
    vectors = embedder.embed_files(paths)
    for one, other in combinations(range(len(paths)), 2):
        answer = rule.judge(float(vectors[one] @ vectors[other]))
        decision = "same speaker" if answer.same else "different speakers"
        names = f"{short(paths[one])}  {short(paths[other])}"
        console.print(f"  {answer.score:6.3f}  {decision:19} {names}", markup=False, soft_wrap=True)


def print_people(clips: dict[str, Path]) -> None:
    """Enrol two people in a store that is thrown away; identify one of them, and a third person."""
    import tempfile

    from speakervlad.people.people import PeopleStore

    with tempfile.TemporaryDirectory() as folder, PeopleStore(Path(folder) / "people.db") as store:
        for name, recordings in ENROLLED.items():
            store.add(name, [clips[recording] for recording in recordings])
        names = " and ".join(ENROLLED)
        console.print(f"and, with {names} enrolled, whose voice others are:")
        for recording in ASKED:
            (answer,) = store.identify([clips[recording]])
            console.print(
                f"  {answer.name or 'unknown':8}{short(clips[recording])}", soft_wrap=True
            )


def short(path: Path) -> str:
    """The last three parts of a path."""
    return "/".join(path.parts[-3:])
