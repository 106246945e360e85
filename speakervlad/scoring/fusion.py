"""Scores of one or several systems calibrated: what ``calibrate`` and ``fuse`` do."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration
from speakervlad.scoring.logistic import fit_calibration
from speakervlad.scoring.quality import quality_measures
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest

logger = logging.getLogger(__name__)


def calibrate(
    trials: Trials,
    systems: Mapping[str, np.ndarray],
    *,
    quality: Sequence[str] = (),
    manifest: Manifest | None = None,
    embeddings: Embeddings | None = None,
    cohort: Embeddings | None = None,
    p_target: float = 0.5,
) -> tuple[Calibration, np.ndarray]:
    """Train on scored trials, as the command ``calibrate`` does.

    Args:
        trials: with labels.
        systems: (num_trials,) scores by the name of the system.
        quality: names out of ``MEASURES``.
        manifest: source of durations.
        embeddings: source of magnitudes and cohort means.
        cohort: embeddings of other speakers, for cohort means.
        p_target: prior to train for.

    Returns:
        The calibration, and the (num_trials,) log-likelihood ratios of its training trials.

    Raises:
        InputError: no labels, untrainable scores, or a measure without its source.
    """
    measures = quality_measures(
        trials, quality, manifest=manifest, embeddings=embeddings, cohort=cohort
    )
    scores = np.column_stack(list(systems.values()))
    found = fit_calibration(scores, trials.labels(), quality=measures, p_target=p_target)
    found = replace(found, systems=tuple(systems))
    return found, found.log_likelihood_ratio(scores, _columns(measures))


def fuse(
    calibration: Calibration,
    trials: Trials,
    systems: Mapping[str, np.ndarray],
    *,
    manifest: Manifest | None = None,
    embeddings: Embeddings | None = None,
    cohort: Embeddings | None = None,
) -> np.ndarray:
    """Apply a calibration to scored trials, as the command ``fuse`` does.

    Args:
        calibration: of these systems.
        trials: the pairs.
        systems: (num_trials,) scores by the name that the system had for ``calibrate``.
        manifest: as for ``calibrate``, if the calibration expects durations.
        embeddings: likewise.
        cohort: likewise.

    Returns:
        (num_trials,) log-likelihood ratios.

    Raises:
        InputError: other systems than the calibration expects, or a measure without its source.
    """
    kinds = list(dict.fromkeys(name.rpartition("_")[0] for name in calibration.quality))
    measures = quality_measures(
        trials, kinds, manifest=manifest, embeddings=embeddings, cohort=cohort
    )
    scores = np.column_stack([systems[name] for name in _order_of(calibration, systems)])
    return calibration.log_likelihood_ratio(scores, _columns(measures))


def _order_of(calibration: Calibration, systems: Mapping[str, np.ndarray]) -> list[str]:
    """The names of the systems in the order of the calibration; one system may have any name.

    Raises:
        InputError: other systems than the calibration was trained on.
    """
    given, expected = list(systems), list(calibration.systems)
    if calibration.num_systems == 1 == len(given):
        return given
    if not expected and len(given) == calibration.num_systems:
        logger.warning("this calibration names no systems: taken in the order they are given.")
        return given
    if set(given) != set(expected):
        naming = " ".join(f"{name}=FILE" for name in expected)
        raise InputError(
            f"this calibration is of {calibration.num_systems} systems "
            f"({', '.join(expected) or 'without names'}), not of {', '.join(given)}. "
            f"Give the scores of those{f', named so: {naming}' if naming else ''}."
        )
    return expected


def _columns(measures: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """(num_trials, num_measures), or None without any."""
    return np.column_stack(list(measures.values())) if measures else None
