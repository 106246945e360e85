"""Commands that set systems side by side: ``compare``, ``report``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console, track
from speakervlad.cli.options import (
    ByOption,
    KeyOption,
    ManifestOption,
    PointOption,
    ResamplesOption,
    parse_points,
)
from speakervlad.files import check_writable


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Scores of system A.")],
    second: Annotated[Path, typer.Argument(help="Scores of system B, on the same trials.")],
    trials: KeyOption = None,
    manifest: ManifestOption = None,
    point: PointOption = None,
    resamples: ResamplesOption = 1000,
) -> None:
    """Compare two systems on one list: differences, intervals and p-values, paired by speakers."""
    from speakervlad.data.manifest import Manifest
    from speakervlad.errors import InputError
    from speakervlad.evaluation.bootstrap import compare_systems
    from speakervlad.evaluation.scored_lists import align, read_scored, speakers_if_known
    from speakervlad.evaluation.trials import read_trials

    key = None if trials is None else read_trials(trials)
    pairs, values = align([read_scored(first, key), read_scored(second, key)])
    known = None if manifest is None else Manifest.load(manifest)
    speakers = speakers_if_known(pairs, known)
    if speakers is None:
        raise InputError("a paired comparison needs the speakers. Give --manifest.")
    found = compare_systems(
        values[:, 0],
        values[:, 1],
        pairs.labels(),
        speakers,
        points=parse_points(point),
        num_resamples=max(resamples, 1),
        track=track,
    )
    console.print(f"{'':22}{'A':>9}{'B':>9}{'B - A':>10}  95% interval          p")
    for name, result in found.items():
        low, high = result.interval
        console.print(
            f"{name:22}{result.first:9.4f}{result.second:9.4f}{result.difference:+10.4f}"
            f"  {low:+.4f} to {high:+.4f}  {result.p_value:.3f}"
        )


@app.command()
def report(
    scores: Annotated[list[Path], typer.Argument(help="Score files of one or many systems.")],
    out: Annotated[Path, typer.Option(help="The page, e.g. report.html.")],
    trials: KeyOption = None,
    manifest: ManifestOption = None,
    by: ByOption = None,
    point: PointOption = None,
    resamples: ResamplesOption = 1000,
    title: Annotated[str, typer.Option(help="Heading.")] = "Speaker verification",
) -> None:
    """Write one self-contained HTML page that compares systems on one list."""
    from speakervlad.data.manifest import Manifest
    from speakervlad.evaluation.report import write_report
    from speakervlad.evaluation.report_data import system_results
    from speakervlad.evaluation.scored_lists import align, read_scored
    from speakervlad.evaluation.trial_checks import check_trials
    from speakervlad.evaluation.trials import read_trials

    check_writable(out)
    key = None if trials is None else read_trials(trials)
    pairs, values = align([read_scored(path, key) for path in scores])
    known = None if manifest is None else Manifest.load(manifest)
    systems = system_results(
        pairs,
        dict(zip(distinct_names(scores), values.T, strict=True)),
        manifest=known,
        by=by or [],
        points=parse_points(point),
        num_resamples=resamples,
        track=track,
    )
    checked = check_trials(pairs)
    notes = [*checked.problems, *checked.notes]
    write_report(out, systems, pairs.labels(), title=title, list_name=checked.known_as, notes=notes)
    console.print(f"{len(systems)} systems on {len(pairs)} trials: {out}")


def distinct_names(paths: list[Path]) -> list[str]:
    """A name for every file: its stem, or its whole path where stems repeat."""
    stems = [path.stem for path in paths]
    return [
        stem if stems.count(stem) == 1 else str(path)
        for stem, path in zip(stems, paths, strict=True)
    ]
