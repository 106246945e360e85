"""The command that shows the whole chain: ``quickstart``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console, track
from speakervlad.cli.train import training_line
from speakervlad.extras import require


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run goes on.")] = Path(
        "quickstart-run"
    ),
) -> None:
    """Generate voices, train a small GhostVLAD encoder on them, judge it on unseen ones."""
    require("torch", "train", "quickstart")
    require("matplotlib", "plots", "quickstart")
    from speakervlad.training.quickstart import run_quickstart

    with training_line() as show:
        result = run_quickstart(out, track=track, show=show)
    for name, report in (("before training", result.before), ("after training", result.after)):
        costs = "  ".join(f"minDCF({prior}) {cost:.3f}" for prior, cost in report.min_dcf.items())
        console.print(f"{name:16s} EER {report.eer:6.2%}  {costs}")
    console.print(f"{result.after.num_target} target and {result.after.num_nontarget} non-target")
    console.print(f"encoder: {result.encoder}\nDET plot: {out / 'det.png'}")
