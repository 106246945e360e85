"""Commands that score and judge: ``score``, ``metrics``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console, track
from speakervlad.files import atomic_path

if TYPE_CHECKING:
    from speakervlad.evaluation.metrics import VerificationReport


@app.command()
def score(
    trials: Annotated[Path, typer.Argument(help="Trial list; its format is recognised.")],
    embeddings: Annotated[Path, typer.Option(help="Embedding file, as `embed` writes.")],
    out: Annotated[Path, typer.Option(help="Score file: `enrol test score [1|0]`.")],
) -> None:
    """Score a trial list by cosine similarity."""
    from speakervlad.evaluation.embeddings import Embeddings
    from speakervlad.evaluation.score_files import write_scores
    from speakervlad.evaluation.scoring import cosine_scores
    from speakervlad.evaluation.trials import read_trials
    from speakervlad.files import check_writable

    check_writable(out)
    pairs, table = read_trials(trials), Embeddings.load(embeddings)
    write_scores(out, pairs, cosine_scores(table, pairs, track))
    console.print(f"{len(pairs)} trials scored: {out}")


@app.command()
def metrics(
    scores: Annotated[Path, typer.Argument(help="Score file with labels.")],
    det: Annotated[Path | None, typer.Option(help="Draw the DET curve: .png, .svg, .pdf.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the numbers.")] = None,
) -> None:
    """Print EER and minDCF of scored trials."""
    from speakervlad.evaluation.curves import error_curve
    from speakervlad.evaluation.metrics import verification_report
    from speakervlad.evaluation.score_files import read_scores

    trials, values = read_scores(scores)
    report = verification_report(values, trials.labels())
    if det is not None:
        from speakervlad.evaluation.plots import det_figure, save_figure

        save_figure(det_figure({scores.stem: error_curve(values, trials.labels())}), det)
    if json_out is not None:
        with atomic_path(json_out) as temporary:
            temporary.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    print_report(report)


def print_report(report: "VerificationReport") -> None:
    """The few lines that everybody wants to read."""
    console.print(f"trials     {report.num_target} target, {report.num_nontarget} non-target")
    console.print(f"EER        {report.eer:.3%} at threshold {report.threshold:.4f}")
    for prior, cost in report.min_dcf.items():
        console.print(f"minDCF     {cost:.4f} (p_target {prior})")
