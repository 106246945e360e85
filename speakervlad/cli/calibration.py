"""Commands that turn scores and files into others: ``calibrate``, ``fuse``, ``convert-*``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console, track
from speakervlad.cli.options import KeyOption, ManifestOption
from speakervlad.files import check_writable

if TYPE_CHECKING:
    import numpy as np

    from speakervlad.evaluation.trials import Trials

ScoresArgument = Annotated[
    list[Path], typer.Argument(help="Score file of every system, on the same trials.")
]
EmbeddingsOption = Annotated[
    Path | None, typer.Option(help="Embeddings, for the measures magnitude and cohort.")
]
CohortOption = Annotated[Path | None, typer.Option(help="Cohort embeddings, for cohort.")]


@app.command()
def calibrate(
    scores: ScoresArgument,
    out: Annotated[Path, typer.Option(help="The calibration, e.g. ENCODER/calibration.json.")],
    trials: KeyOption = None,
    quality: Annotated[
        list[str] | None, typer.Option(help="Quality measure: duration, magnitude, cohort.")
    ] = None,
    manifest: ManifestOption = None,
    embeddings: EmbeddingsOption = None,
    cohort: CohortOption = None,
    p_target: Annotated[float, typer.Option(help="Prior to train for.")] = 0.5,
) -> None:
    """Learn to turn scores into log-likelihood ratios; several systems are fused."""
    from speakervlad.evaluation.calibration import fit_calibration
    from speakervlad.evaluation.metrics import cllr, min_cllr
    from speakervlad.evaluation.scored_lists import align, read_scored
    from speakervlad.evaluation.trials import read_trials

    check_writable(out)
    key = None if trials is None else read_trials(trials)
    pairs, values = align([read_scored(path, key) for path in scores])
    measures = measure(pairs, quality or [], manifest, embeddings, cohort)
    labels = pairs.labels()
    found = fit_calibration(values, labels, quality=measures, p_target=p_target)
    ratios = found.log_likelihood_ratio(values, columns_of(measures))
    found.save(out)
    console.print(f"{len(pairs)} trials, weights {', '.join(f'{w:.4g}' for w in found.weights)}")
    console.print(f"Cllr {cllr(ratios, labels):.4f} bits, minimum {min_cllr(ratios, labels):.4f}")


@app.command()
def fuse(
    scores: ScoresArgument,
    calibration: Annotated[Path, typer.Option(help="As `calibrate` wrote it.")],
    out: Annotated[Path, typer.Option(help="Score file of log-likelihood ratios.")],
    manifest: ManifestOption = None,
    embeddings: EmbeddingsOption = None,
    cohort: CohortOption = None,
    form: Annotated[str, typer.Option(help="speakervlad, kaldi or voxsrc.")] = "speakervlad",
) -> None:
    """Apply a calibration to the scores of one or several systems."""
    from speakervlad.evaluation.calibration import load_calibration
    from speakervlad.evaluation.score_files import write_scores
    from speakervlad.evaluation.scored_lists import align, read_scored

    check_writable(out)
    model = load_calibration(calibration)
    pairs, values = align([read_scored(path) for path in scores])
    kinds = dict.fromkeys(name.rpartition("_")[0] for name in model.quality)
    measures = measure(pairs, list(kinds), manifest, embeddings, cohort)
    ratios = model.log_likelihood_ratio(values, columns_of(measures))
    write_scores(out, pairs, ratios, form)
    console.print(f"{len(pairs)} trials: {out}")


@app.command()
def convert_embeddings(
    source: Annotated[Path, typer.Argument(help=".npz, .ark, .scp or .parquet.")],
    out: Annotated[Path, typer.Argument(help="Another of these.")],
) -> None:
    """Bring embeddings into the form of another toolkit, told by the suffix."""
    from speakervlad.evaluation.interchange import load_embeddings, save_embeddings

    table = load_embeddings(source)
    save_embeddings(out, table)
    console.print(f"{len(table)} embeddings of {table.dim}: {out}")


@app.command()
def convert_scores(
    source: Annotated[Path, typer.Argument(help="Score file of any toolkit, or .npy.")],
    out: Annotated[Path, typer.Argument(help="Score file.")],
    trials: KeyOption = None,
    form: Annotated[str, typer.Option(help="speakervlad, kaldi or voxsrc.")] = "speakervlad",
) -> None:
    """Bring scores into the form of another toolkit."""
    from speakervlad.evaluation.score_files import write_scores
    from speakervlad.evaluation.scored_lists import read_scored
    from speakervlad.evaluation.trials import read_trials

    pairs, values = read_scored(source, None if trials is None else read_trials(trials))
    write_scores(out, pairs, values, form)
    console.print(f"{len(pairs)} trials: {out}")


def measure(
    trials: "Trials",
    kinds: list[str],
    manifest: Path | None,
    embeddings: Path | None,
    cohort: Path | None,
) -> "dict[str, np.ndarray]":
    """Quality measures from the files that hold their sources."""
    from speakervlad.data.manifest import Manifest
    from speakervlad.evaluation.interchange import load_embeddings
    from speakervlad.evaluation.quality import quality_measures

    return quality_measures(
        trials,
        kinds,
        manifest=None if manifest is None else Manifest.load(manifest),
        embeddings=None if embeddings is None else load_embeddings(embeddings),
        cohort=None if cohort is None else load_embeddings(cohort),
        track=track,
    )


def columns_of(measures: "dict[str, np.ndarray]") -> "np.ndarray | None":
    """(num_trials, num_measures), or None without any."""
    import numpy as np

    return np.column_stack(list(measures.values())) if measures else None
