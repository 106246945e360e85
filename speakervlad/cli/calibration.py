"""Commands that turn scores and files into others: ``calibrate``, ``fuse``, ``convert-*``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import console, track
from speakervlad.cli.options import (
    FormOption,
    KeyOption,
    ManifestOption,
    PartialOption,
    read_key,
    read_manifest,
)
from speakervlad.files import check_writable

if TYPE_CHECKING:
    from speakervlad.evaluation.embeddings import Embeddings

ScoresArgument = Annotated[
    list[Path], typer.Argument(help="Score file of every system, or NAME=FILE, on the same trials.")
]
EmbeddingsOption = Annotated[
    Path | None, typer.Option(help="Embeddings, for the measures magnitude and cohort.")
]
SourceFormOption = Annotated[
    str | None,
    typer.Option(help="How to read score files that fit two forms; names as for --form."),
]
CohortOption = Annotated[Path | None, typer.Option(help="Cohort embeddings, for cohort.")]


def calibrate(
    scores: ScoresArgument,
    out: Annotated[Path, typer.Option(help="The calibration, e.g. ENCODER/calibration.json.")],
    trials: KeyOption = None,
    form: FormOption = None,
    partial: PartialOption = False,
    quality: Annotated[
        list[str] | None, typer.Option(help="Quality measure: duration, magnitude, cohort.")
    ] = None,
    manifest: ManifestOption = None,
    embeddings: EmbeddingsOption = None,
    cohort: CohortOption = None,
    p_target: Annotated[float, typer.Option(help="Prior to train for.")] = 0.5,
) -> None:
    """Learn to turn scores into log-likelihood ratios; several systems are fused."""
    from speakervlad.evaluation import calibration
    from speakervlad.evaluation.judge import read_systems
    from speakervlad.evaluation.metrics import cllr, min_cllr

    check_writable(out)
    pairs, systems = read_systems(scores, read_key(trials), form=form, partial=partial)
    found, ratios = calibration.calibrate(
        pairs,
        systems,
        quality=quality or [],
        manifest=read_manifest(manifest),
        embeddings=read_embeddings(embeddings),
        cohort=read_embeddings(cohort),
        p_target=p_target,
        track=track,
    )
    found.save(out)
    labels = pairs.labels()
    console.print(f"{len(pairs)} trials, weights {', '.join(f'{w:.4g}' for w in found.weights)}")
    console.print(f"Cllr {cllr(ratios, labels):.4f} bits, minimum {min_cllr(ratios, labels):.4f}")


def fuse(
    scores: ScoresArgument,
    calibration: Annotated[Path, typer.Option(help="As `calibrate` wrote it.")],
    out: Annotated[Path, typer.Option(help="Score file of log-likelihood ratios.")],
    manifest: ManifestOption = None,
    embeddings: EmbeddingsOption = None,
    cohort: CohortOption = None,
    source_form: SourceFormOption = None,
    form: Annotated[str, typer.Option(help="speakervlad, kaldi or voxsrc.")] = "speakervlad",
) -> None:
    """Apply a calibration to the scores of one or several systems."""
    from speakervlad.evaluation.calibration import fuse, load_calibration
    from speakervlad.evaluation.judge import read_systems
    from speakervlad.evaluation.lists import write_scores

    check_writable(out)
    model = load_calibration(calibration)
    pairs, systems = read_systems(scores, form=source_form)
    ratios = fuse(
        model,
        pairs,
        systems,
        manifest=read_manifest(manifest),
        embeddings=read_embeddings(embeddings),
        cohort=read_embeddings(cohort),
        track=track,
    )
    write_scores(out, pairs, ratios, form)
    console.print(f"{len(pairs)} trials: {out}")


def convert_embeddings(
    source: Annotated[Path, typer.Argument(help=".npz, .ark, .scp or .parquet.")],
    out: Annotated[Path, typer.Argument(help="Another of these.")],
) -> None:
    """Bring embeddings into the form of another toolkit, told by the suffix."""
    from speakervlad.evaluation.embeddings import load_embeddings, save_embeddings

    table = load_embeddings(source)
    save_embeddings(out, table)
    console.print(f"{len(table)} embeddings of {table.dim}: {out}")


def convert_scores(
    source: Annotated[Path, typer.Argument(help="Score file of any toolkit, or .npy.")],
    out: Annotated[Path, typer.Argument(help="Score file.")],
    trials: KeyOption = None,
    source_form: SourceFormOption = None,
    partial: PartialOption = False,
    form: Annotated[str, typer.Option(help="speakervlad, kaldi or voxsrc.")] = "speakervlad",
) -> None:
    """Bring scores into the form of another toolkit."""
    from speakervlad.evaluation.judge import read_scored
    from speakervlad.evaluation.lists import write_scores

    pairs, values = read_scored(source, read_key(trials), form=source_form, partial=partial)
    write_scores(out, pairs, values, form)
    console.print(f"{len(pairs)} trials: {out}")


def read_embeddings(path: Path | None) -> "Embeddings | None":
    """The embeddings of an option, if it is given."""
    from speakervlad.evaluation.embeddings import load_embeddings

    return None if path is None else load_embeddings(path)
