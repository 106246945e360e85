"""What a report page shows about each system, computed."""

from collections.abc import Mapping, Sequence

import numpy as np

from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError
from speakervlad.evaluation.bootstrap import compare_systems
from speakervlad.evaluation.breakdown import breakdown, trial_groups
from speakervlad.evaluation.figures import REPORTED_POINTS, OperatingPoint
from speakervlad.evaluation.report import SystemResult
from speakervlad.evaluation.scored_lists import judge, speakers_if_known
from speakervlad.evaluation.trials import Trials
from speakervlad.progress import Track, silent


def system_results(
    trials: Trials,
    systems: Mapping[str, np.ndarray],
    *,
    manifest: Manifest | None = None,
    by: Sequence[str] = (),
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    num_resamples: int = 1000,
    track: Track = silent,
) -> list[SystemResult]:
    """Judge every system, break it down, and compare it with the best of them.

    Args:
        trials: with labels.
        systems: (num_trials,) scores by name.
        manifest: speakers, columns and durations of the recordings.
        by: manifest columns to break down by, or ``duration``.
        points: operating points.
        num_resamples: of the bootstrap; 0 for none.
        track: progress.

    Raises:
        InputError: no labels, unusable scores, or a breakdown without a manifest.
    """
    if by and manifest is None:
        raise InputError("a breakdown needs the manifest of the recordings. Give --manifest.")
    speakers = speakers_if_known(trials, manifest) if num_resamples else None
    reports = {
        name: judge(
            trials, scores, speakers, points=points, num_resamples=num_resamples, track=track
        )
        for name, scores in systems.items()
    }
    groups = {
        column: trial_groups(trials, manifest, column) for column in by if manifest is not None
    }
    best = min(reports, key=lambda name: reports[name].eer)
    results = []
    for name, scores in systems.items():
        against_best = {}
        if speakers is not None and name != best:
            against_best = compare_systems(
                systems[best],
                scores,
                trials.labels(),
                speakers,
                points=points,
                num_resamples=num_resamples,
                track=track,
            )
        parts = {
            column: breakdown(scores, trials, values, points) for column, values in groups.items()
        }
        results.append(SystemResult(name, scores, reports[name], parts, against_best))
    return results
