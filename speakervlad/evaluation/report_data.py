"""What a report page shows about each system, computed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError
from speakervlad.evaluation.bootstrap import (
    attach_intervals,
    of_system,
    paired,
    resampled_figures,
)
from speakervlad.evaluation.breakdown import breakdown, trial_groups
from speakervlad.evaluation.curves import error_curve
from speakervlad.evaluation.figures import (
    REPORTED_POINTS,
    OperatingPoint,
    all_figures,
    measurable_rates,
)
from speakervlad.evaluation.metrics import verification_report
from speakervlad.evaluation.report import SystemResult
from speakervlad.evaluation.scored_lists import speakers_if_known
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
    labels = trials.labels()
    groups = {
        column: trial_groups(trials, manifest, column) for column in by if manifest is not None
    }
    results = [
        SystemResult(
            name,
            scores,
            verification_report(scores, labels, points),
            {by: breakdown(scores, trials, values, points) for by, values in groups.items()},
        )
        for name, scores in systems.items()
    ]
    speakers = speakers_if_known(trials, manifest) if num_resamples else None
    if speakers is None:
        return results
    draws = resampled_figures(
        list(systems.values()), labels, speakers, points, num_resamples=num_resamples, track=track
    )
    return with_spread(results, draws, labels, points)


def with_spread(
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
