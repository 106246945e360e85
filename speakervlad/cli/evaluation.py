"""Commands that score and judge one system: ``score``, ``metrics``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console, track
from speakervlad.cli.figures_table import groups_to_json, print_groups, print_report
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    ByOption,
    KeyOption,
    ManifestOption,
    PointOption,
    ResamplesOption,
    parse_points,
)
from speakervlad.cli.pictures import Pictures
from speakervlad.errors import InputError
from speakervlad.files import atomic_path, check_writable

if TYPE_CHECKING:
    import numpy as np

    from speakervlad.evaluation.embeddings import Embeddings
    from speakervlad.evaluation.figures import OperatingPoint
    from speakervlad.evaluation.metrics import VerificationReport
    from speakervlad.evaluation.trials import Trials
    from speakervlad.inference.engine import Embedder

STREAM_BYTES = 500_000_000


@app.command()
def score(
    trials: Annotated[Path, typer.Argument(help="Trial list; its format is recognised.")],
    out: Annotated[Path, typer.Option(help="Score file: `enrol test score [1|0]`.")],
    embeddings: Annotated[
        Path | None,
        typer.Option(help=".npz, .ark, .scp, .parquet; without them, the recordings are embedded."),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="What embeds the recordings: as for `embed`, the default if not named."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the recordings, if not that of the list.")
    ] = None,
    enrol: Annotated[
        Path | None, typer.Option(help="Recordings of every model, e.g. enroll.map.")
    ] = None,
    mean_of: Annotated[
        Path | None, typer.Option(help="Embeddings whose mean is subtracted first.")
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="Embeddings for AS-norm.")] = None,
    cohort_manifest: Annotated[
        Path | None, typer.Option(help="Average the cohort by the speakers of this manifest.")
    ] = None,
    top: Annotated[int, typer.Option(help="Nearest cohort members; 0 for all (S-norm).")] = 300,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration.json: write log-likelihood ratios.")
    ] = None,
    form: Annotated[str, typer.Option(help="speakervlad, kaldi or voxsrc.")] = "speakervlad",
) -> None:
    """Score a trial list by cosine similarity, normalised and calibrated if asked."""
    from speakervlad.evaluation.calibration import load_calibration
    from speakervlad.evaluation.enrolment import read_enrolment, with_models
    from speakervlad.evaluation.interchange import load_embeddings
    from speakervlad.evaluation.normalisation import load_cohort
    from speakervlad.evaluation.score_files import write_scores
    from speakervlad.evaluation.trials import read_trials

    check_sources(embeddings, encoder, (enrol, mean_of, cohort))
    check_writable(out)
    pairs = read_trials(trials)
    calibrated = None if calibration is None else load_calibration(calibration)
    others = None if cohort is None else load_cohort(cohort, cohort_manifest)
    if embeddings is None:
        from speakervlad.inference.engine import load_encoder

        table = embed_trials(pairs, root or trials.parent, load_encoder(encoder or DEFAULT_ENCODER))
    else:
        table = load_embeddings(embeddings)
    if mean_of is not None:
        table, others = centre(table, others, mean_of)
    if enrol is not None:
        table = with_models(table, read_enrolment(enrol), pairs)
    values = similarities(table, pairs, others, top)
    if calibrated is not None:
        values = calibrated.log_likelihood_ratio(values)
    write_scores(out, pairs, values, form)
    console.print(f"{len(pairs)} trials scored: {out}")


def check_sources(
    embeddings: Path | None, encoder: Path | None, need_embeddings: tuple[Path | None, ...]
) -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: embeddings and what makes them; or no embeddings and what works on them.
    """
    if embeddings is None and any(path is not None for path in need_embeddings):
        raise InputError("--enrol, --mean-of and --cohort go with --embeddings. Run `embed` first.")
    if embeddings is not None and encoder is not None:
        raise InputError(
            f"--encoder {encoder} would compute what --embeddings {embeddings} holds. Give one."
        )


def embed_trials(pairs: "Trials", root: Path, embedder: "Embedder") -> "Embeddings":
    """Embeddings of the recordings that a trial list names."""
    import numpy as np

    from speakervlad.evaluation.embeddings import Embeddings
    from speakervlad.inference.recordings import from_names

    files = from_names(pairs.names.tolist(), root)
    vectors = embedder.embed_files(files.paths, track=track)
    return Embeddings(np.asarray(files.ids), vectors)


def centre(
    table: "Embeddings", others: "Embeddings | None", mean_of: Path
) -> "tuple[Embeddings, Embeddings | None]":
    """Subtract the mean of the embeddings of a file from a table and, if given, from a cohort."""
    from speakervlad.evaluation.interchange import load_embeddings
    from speakervlad.evaluation.normalisation import subtract_mean

    origin = load_embeddings(mean_of)
    return subtract_mean(table, origin), None if others is None else subtract_mean(others, origin)


def similarities(
    table: "Embeddings", pairs: "Trials", cohort: "Embeddings | None", top: int
) -> "np.ndarray":
    """(num_trials,) cosines, normalised by the nearest ``top`` of a cohort if there is one."""
    from speakervlad.evaluation.normalisation import adaptive_s_norm
    from speakervlad.evaluation.scoring import cosine_scores

    if cohort is None:
        return cosine_scores(table, pairs, track)
    return adaptive_s_norm(table, pairs, cohort, top or None, track).scores


@app.command()
def metrics(
    scores: Annotated[Path, typer.Argument(help="Score file of any toolkit, or .npy.")],
    trials: KeyOption = None,
    manifest: ManifestOption = None,
    by: ByOption = None,
    point: PointOption = None,
    resamples: ResamplesOption = 1000,
    det: Annotated[Path | None, typer.Option(help="Draw the DET curve: .png, .svg, .pdf.")] = None,
    histogram: Annotated[Path | None, typer.Option(help="Draw the scores of both classes.")] = None,
    bars: Annotated[Path | None, typer.Option(help="Draw the EERs of the --by groups.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the numbers.")] = None,
) -> None:
    """Judge scored trials: EER, detection costs, Cllr, fixed false-acceptance rates."""
    from speakervlad.evaluation.streaming import stream_score_file, streamed_report

    pictures = Pictures(det, histogram, bars)
    pictures.check()
    if json_out is not None:
        check_writable(json_out)
    if bars is not None and len(by or []) != 1:
        raise InputError("--bars draws one breakdown. Give one --by.")
    points = parse_points(point)
    if trials is None and scores.suffix != ".npy" and scores.stat().st_size > STREAM_BYTES:
        console.print("a large file: read as a stream, without intervals, breakdown and pictures")
        report, parts = streamed_report(stream_score_file(scores), points), {}
    else:
        report, parts = judge_file(scores, trials, manifest, by or [], points, resamples, pictures)
    print_report(report)
    for column, groups in parts.items():
        print_groups(column, groups)
    if json_out is not None:
        numbers = report.to_json() | {"breakdown": groups_to_json(parts)}
        with atomic_path(json_out) as temporary:
            temporary.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def judge_file(
    scores: Path,
    trials: Path | None,
    manifest: Path | None,
    by: list[str],
    points: "tuple[OperatingPoint, ...]",
    resamples: int,
    pictures: Pictures,
) -> "tuple[VerificationReport, dict[str, dict[str, VerificationReport | None]]]":
    """Read, judge, break down and draw one score file."""
    from speakervlad.data.manifest import Manifest
    from speakervlad.evaluation.breakdown import breakdown, trial_groups
    from speakervlad.evaluation.curves import check_scores
    from speakervlad.evaluation.scored_lists import judge, read_scored, speakers_if_known
    from speakervlad.evaluation.trials import read_trials

    pairs, values = read_scored(scores, None if trials is None else read_trials(trials))
    check_scores(values, pairs.labels())
    known = None if manifest is None else Manifest.load(manifest)
    if by and known is None:
        raise InputError("--by needs --manifest.")
    speakers = speakers_if_known(pairs, known) if resamples else None
    judged = judge(pairs, values, speakers, points=points, num_resamples=resamples, track=track)
    parts = {
        column: breakdown(values, pairs, trial_groups(pairs, known, column), points)
        for column in by
        if known is not None
    }
    pictures.draw(scores.stem, values, pairs.labels(), points[0], judged.threshold, parts)
    return judged, parts
