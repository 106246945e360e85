"""Parts of a scored list, by columns of a manifest or by duration, judged one by one."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from speakervlad.errors import InputError
from speakervlad.scoring.bootstrap import (
    with_intervals,
)
from speakervlad.scoring.metrics import VerificationReport, verification_report
from speakervlad.scoring.points import REPORTED_POINTS, OperatingPoint
from speakervlad.scoring.quality import durations
from speakervlad.scoring.speakers import MIN_SPEAKERS, TrialSpeakers
from speakervlad.scoring.trials import Trials
from speakervlad.tables.manifest import Manifest
from speakervlad.tables.names import required_rows

DURATION_EDGES_SECONDS = (2.0, 4.0, 6.0, 10.0)
DURATION = "duration"


@dataclass(frozen=True)
class Resampling:
    """How the parts of a list get their intervals; none without speakers or resamples."""

    speakers: TrialSpeakers | None = None
    num_resamples: int = 0
    seed: int = 0


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
