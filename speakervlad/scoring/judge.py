"""Scored trials judged: every figure with its interval, several systems, paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from speakervlad.errors import InputError
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
from speakervlad.scoring.metrics import (
    VerificationReport,
    all_figures,
    error_curve,
    measurable_rates,
    verification_report,
    warn_of_reversed,
)
from speakervlad.scoring.points import REPORTED_POINTS, OperatingPoint
from speakervlad.scoring.speakers import TrialSpeakers, speakers_if_known
from speakervlad.scoring.trials import Trials

if TYPE_CHECKING:
    from speakervlad.tables.manifest import Manifest


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


class _Parts(NamedTuple):
    """What the parts of a list are judged by, if a breakdown is asked for."""

    trials: Trials
    manifest: Manifest | None
    by: Sequence[str]
    points: tuple[OperatingPoint, ...]
    speakers: TrialSpeakers | None
    num_resamples: int
    seed: int

    def added_to(self, report: VerificationReport, scores: np.ndarray) -> VerificationReport:
        """The report with a breakdown by every column that is asked for."""
        if self.manifest is None or not self.by:
            return report
        from speakervlad.scoring.breakdown import Resampling, breakdown, trial_groups

        resampling = Resampling(self.speakers, self.num_resamples, self.seed)
        groups = {column: trial_groups(self.trials, self.manifest, column) for column in self.by}
        found = {
            column: breakdown(scores, self.trials, values, self.points, resampling)
            for column, values in groups.items()
        }
        return replace(report, breakdown=found)


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
        )
    parts = _Parts(trials, manifest, by, points, speakers, num_resamples, seed)
    return parts.added_to(report, scores)


def _check_by(by: Sequence[str], manifest: Manifest | None) -> None:
    if by and manifest is None:
        raise InputError("--by needs --manifest: the columns are in it. Give --manifest.")


def judge_systems(
    trials: Trials,
    systems: Mapping[str, np.ndarray],
    *,
    manifest: Manifest | None = None,
    by: Sequence[str] = (),
    points: tuple[OperatingPoint, ...] = REPORTED_POINTS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
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
    parts = _Parts(trials, manifest, by, points, speakers, num_resamples, seed)
    results = [
        replace(result, report=parts.added_to(result.report, result.scores)) for result in results
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
    )
