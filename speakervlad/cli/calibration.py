"""Commands that turn scores and files into others: ``calibrate``, ``fuse``, ``convert-*``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import notes
from speakervlad.cli.options import (
    FormatOption,
    KeyOption,
    ManifestOption,
    PartialOption,
    SourceFormatOption,
    read_key,
    read_manifest,
)
from speakervlad.files import check_writable

if TYPE_CHECKING:
    from speakervlad.tables.embeddings import Embeddings

ScoresArgument = Annotated[
    list[Path], typer.Argument(help="Score file of every system, or NAME=FILE, on the same trials.")
]
EmbeddingsOption = Annotated[
    Path | None, typer.Option(help="Embeddings, for the measures magnitude and cohort.")
]
CohortOption = Annotated[Path | None, typer.Option(help="Cohort embeddings, for cohort.")]


def calibrate(
    scores: ScoresArgument,
    out: Annotated[Path, typer.Option(help="The calibration, e.g. ENCODER/calibration.json.")],
    trials: KeyOption = None,
    form: SourceFormatOption = None,
    partial: PartialOption = False,
    quality: Annotated[
        list[str] | None, typer.Option(help="Quality measure: duration, magnitude, cohort.")
    ] = None,
    manifest: ManifestOption = None,
    embeddings: EmbeddingsOption = None,
    cohort: CohortOption = None,
    p_target: Annotated[float, typer.Option(help="Prior to train for.")] = 0.5,
) -> None:
    """Learn to turn scores into log-likelihood ratios; several systems are fused.

    Example: speakervlad calibrate S.txt --out calibration.json
    """
    from speakervlad.encoder.backends import weights_digest
    from speakervlad.scoring import fusion
    from speakervlad.scoring.calibration import save_calibration
    from speakervlad.scoring.metrics import cllr, min_cllr
    from speakervlad.scoring.systems import load_systems

    check_writable(out)
    pairs, systems = load_systems(scores, read_key(trials), form=form, partial=partial)
    found, ratios = fusion.calibrate(
        pairs,
        systems,
        quality=quality or [],
        manifest=read_manifest(manifest),
        embeddings=read_embeddings(embeddings),
        cohort=read_embeddings(cohort),
        p_target=p_target,
    )
    # In an encoder's folder it is for these weights, and for none that come after them.
    save_calibration(out, replace(found, encoder=weights_digest(out.parent)))
    labels = pairs.labels()
    notes.print(f"{len(pairs)} trials, weights {', '.join(f'{w:.4g}' for w in found.weights)}")
    notes.print(f"Cllr {cllr(ratios, labels):.4f} bits, minimum {min_cllr(ratios, labels):.4f}")


def fuse(
    scores: ScoresArgument,
    calibration: Annotated[Path, typer.Option(help="As `calibrate` wrote it.")],
    out: Annotated[Path, typer.Option(help="Score file of log-likelihood ratios.")],
    manifest: ManifestOption = None,
    embeddings: EmbeddingsOption = None,
    cohort: CohortOption = None,
    source_form: SourceFormatOption = None,
    form: FormatOption = "speakervlad",
) -> None:
    """Apply a calibration to the scores of one or several systems.

    Example: speakervlad fuse A.txt B.txt --calibration AB.json --out AB.txt
    """
    from speakervlad.scoring.calibration import load_calibration
    from speakervlad.scoring.fusion import fuse
    from speakervlad.scoring.scores import save_scores
    from speakervlad.scoring.systems import load_systems

    check_writable(out)
    model = load_calibration(calibration)
    pairs, systems = load_systems(scores, form=source_form)
    ratios = fuse(
        model,
        pairs,
        systems,
        manifest=read_manifest(manifest),
        embeddings=read_embeddings(embeddings),
        cohort=read_embeddings(cohort),
    )
    save_scores(out, pairs, ratios, form)
    notes.print(f"{len(pairs)} trials: {out}")


def convert_embeddings(
    source: Annotated[
        Path,
        typer.Argument(
            help=".npz, .ark, .scp, .parquet, .npy with ids beside it, .csv, or a folder of shards."
        ),
    ],
    out: Annotated[Path, typer.Argument(help=".npz, .ark, .scp or .parquet.")],
) -> None:
    """Bring embeddings into the form of another toolkit, told by the suffix.

    Example: speakervlad convert-embeddings E.npz E.ark
    """
    from speakervlad.tables.interchange import load_embeddings, save_embeddings

    table = load_embeddings(source)
    save_embeddings(out, table)
    notes.print(f"{len(table)} embeddings of {table.dim}: {out}")


def convert_scores(
    source: Annotated[Path, typer.Argument(help="Score file of any toolkit, or .npy.")],
    out: Annotated[Path, typer.Argument(help="Score file.")],
    trials: KeyOption = None,
    source_form: SourceFormatOption = None,
    partial: PartialOption = False,
    form: FormatOption = "speakervlad",
) -> None:
    """Bring scores into the form of another toolkit.

    Example: speakervlad convert-scores S.txt K.txt --format kaldi
    """
    from speakervlad.scoring.scores import save_scores
    from speakervlad.scoring.systems import load_scores

    pairs, values = load_scores(source, read_key(trials), form=source_form, partial=partial)
    save_scores(out, pairs, values, form)
    notes.print(f"{len(pairs)} trials: {out}")


def read_embeddings(path: Path | None) -> "Embeddings | None":
    """The embeddings of an option, if it is given."""
    from speakervlad.tables.interchange import load_embeddings

    return None if path is None else load_embeddings(path)
