"""Commands that score and judge: ``score``, ``metrics``, ``compare``, ``report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import notes
from speakervlad.cli.figures_table import print_comparison, print_report
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    ByOption,
    FormatOption,
    JsonOption,
    JsonOutOption,
    KeyOption,
    ManifestOption,
    PartialOption,
    PointOption,
    ResamplesOption,
    SourceFormatOption,
    parse_points,
    read_key,
    read_manifest,
    write_json,
)
from speakervlad.errors import InputError
from speakervlad.files import STANDARD_OUTPUT, check_writable

if TYPE_CHECKING:
    from speakervlad.encoder.encoder import Encoder
    from speakervlad.scoring.plots import Pictures
    from speakervlad.scoring.trials import Trials
    from speakervlad.tables.embeddings import Embeddings

# Of larger score files the names are not kept.
STREAM_BYTES = 500_000_000


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
    plda: Annotated[
        Path | None, typer.Option(help="Score by this model of `plda`, not by the cosine.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration.json: write log-likelihood ratios.")
    ] = None,
    form: FormatOption = "speakervlad",
) -> None:
    """Score a trial list by cosine similarity, normalised and calibrated if asked.

    Example: speakervlad score list.trials --embeddings E.npz --out S.txt
    """
    from speakervlad.scoring import scoring
    from speakervlad.scoring.calibration import load_calibration
    from speakervlad.scoring.enrolment import load_enrolment
    from speakervlad.scoring.lists import load_trials
    from speakervlad.scoring.plda import load_plda
    from speakervlad.scoring.scores import save_scores
    from speakervlad.tables.interchange import load_embeddings

    check_sources(embeddings, encoder, (enrol, mean_of, cohort, plda))
    check_writable(out)
    pairs = load_trials(trials)
    calibrated = None if calibration is None else load_calibration(calibration)
    others = None if cohort is None else scoring.load_cohort(cohort, cohort_manifest)
    if embeddings is None:
        from speakervlad.encoder.encoder import load_encoder

        table = embed_trials(pairs, root or trials.parent, load_encoder(encoder or DEFAULT_ENCODER))
    else:
        table = load_embeddings(embeddings)
    values = scoring.score(
        pairs,
        table,
        enrolment=None if enrol is None else load_enrolment(enrol),
        mean_of=None if mean_of is None else load_embeddings(mean_of),
        cohort=others,
        top=top or None,
        plda=None if plda is None else load_plda(plda),
        calibration=calibrated,
    )
    save_scores(out, pairs, values, form)
    notes.print(f"{len(pairs)} trials scored: {out}")


def check_sources(
    embeddings: Path | None, encoder: Path | None, need_embeddings: tuple[Path | None, ...]
) -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: embeddings and what makes them; or no embeddings and what works on them.
    """
    if embeddings is None and any(path is not None for path in need_embeddings):
        raise InputError(
            "--enrol, --mean-of, --cohort and --plda go with --embeddings. Run `embed` first."
        )
    if embeddings is not None and encoder is not None:
        raise InputError(
            f"--encoder {encoder} would compute what --embeddings {embeddings} holds. Give one."
        )


def embed_trials(pairs: "Trials", root: Path, embedder: "Encoder") -> "Embeddings":
    """Embeddings of the recordings that a trial list names."""
    import numpy as np

    from speakervlad.corpus.inputs import from_names
    from speakervlad.tables.embeddings import Embeddings

    files = from_names(pairs.names.tolist(), root)
    vectors = embedder.embed_files(files.paths)
    return Embeddings(np.asarray(files.ids), vectors, embedder.fingerprint)


def metrics(
    scores: Annotated[Path, typer.Argument(help="Score file of any toolkit, or .npy.")],
    trials: KeyOption = None,
    form: SourceFormatOption = None,
    partial: PartialOption = False,
    manifest: ManifestOption = None,
    by: ByOption = None,
    point: PointOption = None,
    resamples: ResamplesOption = 1000,
    threshold: Annotated[
        float | None, typer.Option(help="Also print the error rates when accepting from here on.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="The same at the threshold of an encoder, as for `verify`.")
    ] = None,
    far: Annotated[
        float | None, typer.Option(help="With --encoder: its threshold for this rate.")
    ] = None,
    det: Annotated[Path | None, typer.Option(help="Draw the DET curve: .png, .svg, .pdf.")] = None,
    histogram: Annotated[Path | None, typer.Option(help="Draw the scores of both classes.")] = None,
    bars: Annotated[Path | None, typer.Option(help="Draw the EERs of the --by groups.")] = None,
    as_json: JsonOption = False,
    json_out: JsonOutOption = None,
) -> None:
    """Judge scored trials: EER, detection costs, Cllr, fixed false-acceptance rates.

    Example: speakervlad metrics S.txt --det det.png
    """
    from speakervlad.scoring.judge import judge
    from speakervlad.scoring.metrics import verification_report, warn_of_reversed
    from speakervlad.scoring.scores import read_long_scores
    from speakervlad.scoring.systems import load_scores

    pictures = pictures_of(det, histogram, bars)
    if json_out is not None:
        check_writable(json_out)
    if bars is not None and len(by or []) != 1:
        raise InputError("--bars draws one breakdown. Give one --by.")
    points, place = parse_points(point), decision_threshold(threshold, encoder, far)
    if trials is None and scores.suffix != ".npy" and scores.stat().st_size > STREAM_BYTES:
        notes.print("a large file: read as a stream, without names, intervals and breakdown")
        values, labels = read_long_scores(scores, form)
        report = verification_report(values, labels, points, place)
        warn_of_reversed(report)
    else:
        pairs, values = load_scores(scores, read_key(trials), form=form, partial=partial)
        labels = pairs.labels()
        report = judge(
            pairs,
            values,
            manifest=read_manifest(manifest),
            by=by or [],
            points=points,
            threshold=place,
            num_resamples=resamples,
        )
    if pictures is not None:
        pictures.draw(scores.stem, values, labels, report, points[0])
    if not as_json and json_out != STANDARD_OUTPUT:
        print_report(report)
    write_json(report.to_json(), json_out, printed=as_json, indent=2)


def pictures_of(det: Path | None, histogram: Path | None, bars: Path | None) -> "Pictures | None":
    """What is to be drawn, if anything.

    Raises:
        InputError: what cannot be written, drawn or is no picture.
    """
    if det is None and histogram is None and bars is None:
        return None
    from speakervlad.scoring.plots import Pictures

    pictures = Pictures(det, histogram, bars)
    pictures.check()
    return pictures


def decision_threshold(
    threshold: float | None, encoder: Path | None, far: float | None
) -> float | None:
    """The threshold that is given, or that of an encoder; None for neither.

    Raises:
        InputError: both, a rate without an encoder, or an encoder without such a threshold.
    """
    if threshold is not None and encoder is not None:
        raise InputError("--threshold and --encoder both say where to decide. Give one of them.")
    if encoder is None:
        if far is not None:
            raise InputError("--far goes with --encoder, whose threshold for that rate is taken.")
        return threshold
    from speakervlad.encoder.location import find_encoder
    from speakervlad.encoder.runtimes import exported_notes
    from speakervlad.verification.known import read_threshold

    path = find_encoder(encoder)
    return read_threshold(path, exported_notes(path), far)


def compare(
    first: Annotated[Path, typer.Argument(help="Scores of system A.")],
    second: Annotated[Path, typer.Argument(help="Scores of system B, on the same trials.")],
    trials: KeyOption = None,
    form: SourceFormatOption = None,
    partial: PartialOption = False,
    manifest: ManifestOption = None,
    point: PointOption = None,
    resamples: ResamplesOption = 1000,
) -> None:
    """Compare two systems on one list: differences, intervals and p-values, paired by speakers.

    Example: speakervlad compare A.txt B.txt
    """
    from speakervlad.scoring.judge import compare as compare_scores
    from speakervlad.scoring.systems import load_systems

    pairs, systems = load_systems([first, second], read_key(trials), form=form, partial=partial)
    found = compare_scores(
        pairs,
        *systems.values(),
        manifest=read_manifest(manifest),
        points=parse_points(point),
        num_resamples=max(resamples, 1),
    )
    print_comparison(found, list(systems))


def report(
    scores: Annotated[list[Path], typer.Argument(help="Score files of one or many systems.")],
    out: Annotated[Path, typer.Option(help="The page, e.g. report.html.")],
    trials: KeyOption = None,
    form: SourceFormatOption = None,
    partial: PartialOption = False,
    manifest: ManifestOption = None,
    by: ByOption = None,
    point: PointOption = None,
    resamples: ResamplesOption = 1000,
    title: Annotated[str, typer.Option(help="Heading.")] = "Speaker verification",
) -> None:
    """Write one self-contained HTML page that compares systems on one list.

    Example: speakervlad report A.txt B.txt --out report.html
    """
    from speakervlad.figures import check_drawable
    from speakervlad.scoring.judge import judge_systems
    from speakervlad.scoring.report import save_report
    from speakervlad.scoring.systems import load_systems

    check_drawable()
    check_writable(out)
    pairs, systems = load_systems(scores, read_key(trials), form=form, partial=partial)
    results = judge_systems(
        pairs,
        systems,
        manifest=read_manifest(manifest),
        by=by or [],
        points=parse_points(point),
        num_resamples=resamples,
    )
    save_report(out, pairs, results, title=title)
    notes.print(f"{len(systems)} systems on {len(pairs)} trials: {out}")
