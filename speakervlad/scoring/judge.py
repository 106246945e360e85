"""Scored lists judged: score files brought together, every figure, parts, paired comparisons."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.progress import Track, silent
from speakervlad.scoring.bootstrap import (
    NUM_RESAMPLES,
    Comparison,
    attach_intervals,
    compare_systems,
    of_system,
    paired,
    resampled_figures,
    with_intervals,
)
from speakervlad.scoring.calibration import durations
from speakervlad.scoring.lists import Trials, read_scores
from speakervlad.scoring.metrics import (
    REPORTED_POINTS,
    OperatingPoint,
    VerificationReport,
    all_figures,
    error_curve,
    measurable_rates,
    verification_report,
    warn_of_reversed,
)
from speakervlad.scoring.speakers import MIN_SPEAKERS, TrialSpeakers, speakers_if_known
from speakervlad.tables.arrays import load_npy
from speakervlad.tables.manifest import Manifest
from speakervlad.tables.names import NameIndex, required_rows

logger = logging.getLogger(__name__)

DURATION_EDGES_SECONDS = (2.0, 4.0, 6.0, 10.0)
DURATION = "duration"


Scored = tuple[Trials, np.ndarray]


def read_scored(
    path: str | Path, key: Trials | None = None, *, form: str | None = None, partial: bool = False
) -> Scored:
    """Read a score file and take the labels from a key, where one is given.

    A ``.npy`` file holds scores in the order of the key.

    Args:
        path: the file.
        key: the trial list that was scored.
        form: as for ``read_scores``.
        partial: whether trials of the key may have no score.

    Raises:
        InputError: a ``.npy`` file without a key or of another length; trials that the key misses,
            or that have no score.
    """
    path = Path(path)
    if path.suffix == ".npy":
        return _read_array(path, key)
    trials, scores = read_scores(path, form)
    if key is None:
        return trials, scores
    try:
        return with_labels(trials, key, str(path), partial=partial), scores
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_array(path: Path, key: Trials | None) -> Scored:
    if key is None:
        raise InputError(f"{path}: scores without names. Give the trial list with --trials.")
    scores = load_npy(path)
    if scores.dtype.kind not in "fiu":
        raise InputError(f"{path}: {scores.dtype} is no type of scores. Save plain numbers.")
    if scores.shape != (len(key),):
        raise InputError(
            f"{path}: scores of shape {scores.shape} for {len(key)} trials. "
            "Give the list that they belong to."
        )
    return key, scores


def read_systems(
    paths: Sequence[str | Path],
    key: Trials | None = None,
    *,
    form: str | None = None,
    partial: bool = False,
) -> tuple[Trials, dict[str, np.ndarray]]:
    """Read the score files of several systems on the same trials.

    Args:
        paths: the files, or ``NAME=FILE`` to name the system.
        key: as for ``read_scored``.
        form: of all files, as for ``read_scores``.
        partial: as for ``read_scored``.

    Returns:
        The trials in the order of the first file, and (num_trials,) scores by the name of the
        system: the given one, its file's stem, or the whole path where stems repeat.

    Raises:
        InputError: as ``read_scored`` and ``align``.
    """
    named = [_name_and_file(str(path)) for path in paths]
    stems = [name for name, _ in named]
    names: list[str] = []
    for name, file in named:
        distinct = name if stems.count(name) == 1 else str(file)
        names.append(f"{distinct} ({len(names) + 1})" if distinct in names else distinct)
    scored = [read_scored(file, key, form=form, partial=partial) for _, file in named]
    trials, scores = align(scored)
    return trials, dict(zip(names, scores.T, strict=True))


def _name_and_file(text: str) -> tuple[str, Path]:
    """``NAME=FILE``, or a file and its stem."""
    name, given, file = text.partition("=")
    if given and name and file and not Path(text).exists():
        return name, Path(file)
    return Path(text).stem, Path(text)


def with_labels(
    trials: Trials, key: Trials, source: str = "the scores", *, partial: bool = True
) -> Trials:
    """The trials with the labels that a key gives the same pairs.

    Labels that they had already give way, with a warning that names ``source`` if some differ.

    Args:
        trials: scored pairs.
        key: the list that was scored.
        source: of the scores, for warnings.
        partial: whether trials of the key may be missing; their number is warned of then.

    Raises:
        InputError: a blind key, trials that it does not have, or trials that have no score.
    """
    labels = key.labels()
    codes, problem = _codes_in(key, trials)
    key_codes = _codes(key, np.arange(len(key.names)))
    order = np.argsort(key_codes, kind="stable")
    places = np.minimum(np.searchsorted(key_codes[order], codes), len(key) - 1)
    missing = np.flatnonzero(key_codes[order][places] != codes)
    if len(missing):
        raise InputError(
            f"{len(missing)} of {len(trials)} scored trials are not in the trial list: "
            f"{first_few(map(trials.spelt, missing[:6]))}.{problem} Give the list that was scored."
        )
    without = np.flatnonzero(~np.isin(key_codes, codes))
    if len(without):
        said = (
            f"{len(without)} of {len(key)} trials of the list have no score: "
            f"{first_few(map(key.spelt, without[:6]))}."
        )
        if not partial:
            raise InputError(f"{said} Score them, or judge the others alone with --partial.")
        logger.warning("%s: %s", source, said)
    found = labels[order][places]
    differing = 0 if trials.is_target is None else int(np.sum(trials.is_target != found))
    if differing:
        logger.warning(
            "%s: %d of %d labels differ from those of the trial list, which are taken.",
            source,
            differing,
            len(trials),
        )
    return Trials(trials.names, trials.enrol, trials.test, found)


def align(systems: Sequence[Scored]) -> tuple[Trials, np.ndarray]:
    """Bring the scores of several systems into the order of the first.

    Returns:
        The trials of the first system and (num_trials, num_systems) scores.

    Raises:
        InputError: systems that scored other trials, or whose labels contradict each other.
    """
    first, _ = systems[0]
    codes = _codes(first, np.arange(len(first.names)))
    orders = [_order_like(codes, _codes_in(first, trials)[0]) for trials, _ in systems]
    different = [number for number, order in enumerate(orders, 1) if order is None]
    if different:
        raise InputError(
            f"score files {first_few(map(str, different))} hold other trials than file 1. "
            "Score the same list with all systems."
        )
    ordered = [
        (trials.is_target if trials.is_target is None else trials.is_target[order], scores[order])
        for (trials, scores), order in zip(systems, orders, strict=True)
    ]
    _check_same_labels(first, [labels for labels, _ in ordered])
    return first, np.column_stack([scores for _, scores in ordered])


def _check_same_labels(first: Trials, columns: Sequence[np.ndarray | None]) -> None:
    """Refuse systems, in the order of the first, that know other answers to the same trials."""
    known = [(number, labels) for number, labels in enumerate(columns, 1) if labels is not None]
    for number, labels in known[1:]:
        reference, expected = known[0]
        differing = np.flatnonzero(labels != expected)
        if len(differing):
            raise InputError(
                f"score files {reference} and {number} disagree about {len(differing)} of "
                f"{len(labels)} labels, first that of {first.spelt(differing[0])}. Give both the "
                "labels of one list: --trials, or `convert-scores --trials`."
            )


def _codes(trials: Trials, rows: np.ndarray) -> np.ndarray:
    """(num_trials,) int: a number per ordered pair, from rows given to the names; -1 if unknown."""
    enrol, test = rows[trials.enrol], rows[trials.test]
    return np.where((enrol < 0) | (test < 0), -1, (enrol << 32) + test)


def _codes_in(reference: Trials, trials: Trials) -> tuple[np.ndarray, str]:
    """The pair numbers of trials, in terms of the names of others; what was ambiguous, if any."""
    if trials is reference:
        return _codes(trials, np.arange(len(trials.names))), ""
    rows, problem = NameIndex(reference.names.tolist()).match(trials.names.tolist())
    return _codes(trials, rows), problem


def _order_like(codes: np.ndarray, other: np.ndarray) -> np.ndarray | slice | None:
    """Where ``other`` has the pairs of ``codes``; None if the pairs are not the same."""
    if len(codes) != len(other):
        return None
    if (codes == other).all():
        return slice(None)
    order, other_order = np.argsort(codes, kind="stable"), np.argsort(other, kind="stable")
    if (codes[order] != other[other_order]).any():
        return None
    places = np.empty_like(order)
    places[order] = other_order
    return places


@dataclass(frozen=True)
class SystemResult:
    """One system on a list.

    Attributes:
        name: as shown.
        scores: (num_trials,).
        report: its figures.
        against_best: by figure, this system minus the best one; empty for the best.
    """

    name: str
    scores: np.ndarray
    report: VerificationReport
    against_best: Mapping[str, Comparison] = field(default_factory=dict)


def judge(
    trials: Trials,
    scores: np.ndarray,
    *,
    manifest: Manifest | None = None,
    by: Sequence[str] = (),
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    threshold: float | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track: Track = silent,
) -> VerificationReport:
    """Every figure of one system, as the command ``metrics`` prints them.

    Args:
        trials: with labels.
        scores: (num_trials,).
        manifest: speakers, columns and durations of the recordings; without it, speakers are read
            from the names where these agree with the labels.
        by: manifest columns to break down by, or ``duration``.
        points: operating points.
        threshold: a score to decide at, whose error rates are wanted too.
        num_resamples: of the bootstrap over speakers; 0 for no intervals.
        seed: of the bootstrap.
        track: progress.

    Raises:
        InputError: no labels, unusable scores, or a breakdown without a manifest.
    """
    labels = trials.labels()
    report = verification_report(scores, labels, points, threshold)
    warn_of_reversed(report)
    _check_by(by, manifest)
    speakers = speakers_if_known(trials, manifest) if num_resamples else None
    if speakers is not None:
        report = with_intervals(
            report,
            scores,
            labels,
            speakers,
            points=points,
            num_resamples=num_resamples,
            seed=seed,
            track=track,
        )
    resampling = Resampling(speakers, num_resamples, seed)
    return _broken_down(report, scores, trials, manifest, by, points, resampling)


def judge_systems(
    trials: Trials,
    systems: Mapping[str, np.ndarray],
    *,
    manifest: Manifest | None = None,
    by: Sequence[str] = (),
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track: Track = silent,
) -> list[SystemResult]:
    """Judge every system, and compare it with the one of the lowest EER; see ``judge``.

    Args:
        trials: with labels.
        systems: (num_trials,) scores by name.
        manifest: as for ``judge``.
        by: as for ``judge``.
        points: operating points.
        num_resamples: of the bootstrap, the same speakers for all systems.
        seed: of the bootstrap.
        track: progress.

    Raises:
        InputError: as ``judge``.
    """
    results = [
        SystemResult(
            name,
            scores,
            judge(trials, scores, manifest=manifest, points=points, num_resamples=0),
        )
        for name, scores in systems.items()
    ]
    _check_by(by, manifest)
    speakers = speakers_if_known(trials, manifest) if num_resamples else None
    resampling = Resampling(speakers, num_resamples, seed)
    results = [
        replace(
            result,
            report=_broken_down(
                result.report, result.scores, trials, manifest, by, points, resampling
            ),
        )
        for result in results
    ]
    if speakers is None:
        return results
    draws = resampled_figures(
        list(systems.values()),
        trials.labels(),
        speakers,
        points,
        num_resamples=num_resamples,
        seed=seed,
        track=track,
    )
    return _with_spread(results, draws, trials.labels(), points)


def _with_spread(
    results: list[SystemResult],
    draws: dict[str, np.ndarray],
    labels: np.ndarray,
    points: tuple[OperatingPoint, ...],
) -> list[SystemResult]:
    """Add intervals, and the paired difference of every system to the best one.

    Args:
        results: one per system.
        draws: (num_systems, num_resamples) figures by name, all of the same resamples.
        labels: (num_trials,) bool.
        points: operating points.
    """
    best = min(range(len(results)), key=lambda system: results[system].report.eer)
    rates = measurable_rates(int(np.sum(~labels)))
    figures = [all_figures(error_curve(result.scores, labels), points, rates) for result in results]
    spread = []
    for system, result in enumerate(results):
        own = of_system(draws, system)
        against = paired(figures[best], figures[system], of_system(draws, best), own)
        spread.append(
            replace(
                result,
                report=attach_intervals(result.report, own),
                against_best={} if system == best else against,
            )
        )
    return spread


def compare(
    trials: Trials,
    first: np.ndarray,
    second: np.ndarray,
    *,
    manifest: Manifest | None = None,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track: Track = silent,
) -> dict[str, Comparison]:
    """Every figure of two systems and their paired difference, as the command ``compare`` does.

    Raises:
        InputError: as ``judge``, or the speakers are not known.
    """
    speakers = speakers_if_known(trials, manifest)
    if speakers is None:
        raise InputError("a paired comparison needs the speakers. Give --manifest.")
    return compare_systems(
        first,
        second,
        trials.labels(),
        speakers,
        points=points,
        num_resamples=num_resamples,
        seed=seed,
        track=track,
    )


@dataclass(frozen=True)
class Resampling:
    """How the parts of a list get their intervals; none without speakers or resamples."""

    speakers: TrialSpeakers | None = None
    num_resamples: int = 0
    seed: int = 0


def _check_by(by: Sequence[str], manifest: Manifest | None) -> None:
    if by and manifest is None:
        raise InputError("--by needs --manifest: the columns are in it. Give --manifest.")


def _broken_down(
    report: VerificationReport,
    scores: np.ndarray,
    trials: Trials,
    manifest: Manifest | None,
    by: Sequence[str],
    points: tuple[OperatingPoint, ...],
    resampling: Resampling,
) -> VerificationReport:
    """The report with a breakdown by every column that is asked for."""
    if manifest is None:
        return report
    groups = {column: trial_groups(trials, manifest, column) for column in by}
    return replace(
        report,
        breakdown={
            column: breakdown(scores, trials, values, points, resampling)
            for column, values in groups.items()
        },
    )


def breakdown(
    scores: np.ndarray,
    trials: Trials,
    groups: np.ndarray,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    resampling: Resampling = Resampling(),
) -> dict[str, VerificationReport | None]:
    """A report per group; None where a group has one class only, so that no EER exists.

    Args:
        scores: (num_trials,).
        trials: with labels.
        groups: (num_trials,) str.
        points: operating points.
        resampling: gives the groups intervals that have at least ``MIN_SPEAKERS`` speakers.
    """
    labels = trials.labels()
    reports: dict[str, VerificationReport | None] = {}
    for name in np.unique(groups).tolist():
        inside = groups == name
        values, classes = scores[inside], labels[inside]
        if not 0 < classes.sum() < inside.sum():
            reports[name] = None
            continue
        report = verification_report(values, classes, points)
        speakers = resampling.speakers and resampling.speakers.of(inside)
        if speakers is not None and speakers.num_speakers >= MIN_SPEAKERS:
            report = with_intervals(
                report,
                values,
                classes,
                speakers,
                points=points,
                num_resamples=resampling.num_resamples,
                seed=resampling.seed,
            )
        reports[name] = report
    return reports


def trial_groups(trials: Trials, manifest: Manifest, by: str) -> np.ndarray:
    """(num_trials,) str: the group of every trial by ``duration`` or by a manifest column.

    Raises:
        InputError: no such column, or recordings that the manifest does not have.
    """
    if by == DURATION:
        return duration_groups(trials, manifest)
    rows = required_rows(manifest, trials.names)
    values = _column(manifest, by)[rows]
    sides = np.sort(np.stack([values[trials.enrol], values[trials.test]]), axis=0)
    mixed = np.char.add(np.char.add(sides[0], " / "), sides[1])
    return np.where(sides[0] == sides[1], sides[0], mixed)


def duration_groups(
    trials: Trials, manifest: Manifest, edges_seconds: tuple[float, ...] = DURATION_EDGES_SECONDS
) -> np.ndarray:
    """(num_trials,) str: the bin of the shorter side, such as ``02-04 s``."""
    seconds = durations(trials, manifest)
    shorter = np.minimum(seconds[trials.enrol], seconds[trials.test])
    edges = [0.0, *edges_seconds]
    names = [f"{low:02g}-{high:02g} s" for low, high in pairwise(edges)]
    names.append(f"{edges[-1]:02g} s and more")
    return np.array(names)[np.digitize(shorter, edges_seconds)]


def _column(manifest: Manifest, name: str) -> np.ndarray:
    """(num_rows,) str: a column of the manifest, the fixed ones included."""
    if name == "session":
        return np.asarray(list(manifest.sessions))
    if name == "speaker":
        raise InputError("every non-target trial has two speakers. Break down by another column.")
    return manifest.column(name)
