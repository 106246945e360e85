"""The same list in parts: by a manifest column of both sides, or by the shorter duration."""

from itertools import pairwise

import numpy as np

from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError
from speakervlad.evaluation.figures import REPORTED_POINTS, OperatingPoint
from speakervlad.evaluation.metrics import VerificationReport, verification_report
from speakervlad.evaluation.quality import durations
from speakervlad.evaluation.speakers import required_rows
from speakervlad.evaluation.trials import Trials

DURATION_EDGES_SECONDS = (2.0, 4.0, 6.0, 10.0)
DURATION = "duration"


def breakdown(
    scores: np.ndarray,
    trials: Trials,
    groups: np.ndarray,
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
) -> dict[str, VerificationReport | None]:
    """A report per group; None where a group has one class only, so that no EER exists.

    Args:
        scores: (num_trials,).
        trials: with labels.
        groups: (num_trials,) str.
        points: operating points.
    """
    labels = trials.labels()
    reports: dict[str, VerificationReport | None] = {}
    for name in np.unique(groups).tolist():
        inside = groups == name
        both = 0 < labels[inside].sum() < inside.sum()
        reports[name] = (
            verification_report(scores[inside], labels[inside], points) if both else None
        )
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
