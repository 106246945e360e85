"""Quality measures of a trial that a calibration can use besides its score (QMF)."""

from collections.abc import Sequence

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, did_you_mean
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.normalisation import cohort_statistics
from speakervlad.evaluation.scoring import unit_vectors
from speakervlad.evaluation.speakers import required_rows
from speakervlad.evaluation.trials import Trials
from speakervlad.progress import Track, silent

MEASURES = {
    "duration": "--manifest",
    "magnitude": "--embeddings",
    "cohort": "--embeddings and --cohort",
}


def quality_measures(
    trials: Trials,
    measures: Sequence[str],
    *,
    manifest: Manifest | None = None,
    embeddings: Embeddings | None = None,
    cohort: Embeddings | None = None,
    top: int = 300,
    track: Track = silent,
) -> dict[str, np.ndarray]:
    """Two columns per measure, its lower and its higher value of both sides of each trial.

    Args:
        trials: the pairs.
        measures: names out of ``MEASURES``: log seconds, log length of the embedding before
            normalisation, mean cosine with the ``top`` nearest of a cohort.
        manifest: durations.
        embeddings: vectors of all recordings.
        cohort: vectors of other speakers.
        top: how many cohort members count.
        track: progress.

    Returns:
        (num_trials,) arrays by name, such as ``duration_low``.

    Raises:
        InputError: an unknown measure, or one whose source is not given.
    """
    columns: dict[str, np.ndarray] = {}
    for measure in measures:
        values = _of_names(trials, measure, manifest, embeddings, cohort, top, track)
        sides = values[np.stack([trials.enrol, trials.test])]
        columns[f"{measure}_low"], columns[f"{measure}_high"] = sides.min(axis=0), sides.max(axis=0)
    return columns


def _of_names(
    trials: Trials,
    measure: str,
    manifest: Manifest | None,
    embeddings: Embeddings | None,
    cohort: Embeddings | None,
    top: int,
    track: Track,
) -> np.ndarray:
    """(num_names,) one measure of every recording."""
    if measure == "duration" and manifest is not None:
        return np.log(durations(trials, manifest))
    if measure == "magnitude" and embeddings is not None:
        rows = embeddings.rows(trials.names.tolist())
        return np.log(np.linalg.norm(embeddings.vectors[rows], axis=1))
    if measure == "cohort" and embeddings is not None and cohort is not None:
        rows = embeddings.rows(trials.names.tolist())
        vectors = unit_vectors(embeddings)[rows]
        return cohort_statistics(vectors, unit_vectors(cohort), min(top, len(cohort)), track)[0]
    if measure not in MEASURES:
        raise InputError(f"unknown quality measure {measure!r}. {did_you_mean(measure, MEASURES)}")
    raise InputError(f"the quality measure {measure!r} needs {MEASURES[measure]}.")


def durations(trials: Trials, manifest: Manifest) -> np.ndarray:
    """(num_names,) seconds of every recording that the trials name.

    Raises:
        InputError: recordings that the manifest does not have.
    """
    return manifest.num_samples[required_rows(manifest, trials.names)] / SAMPLE_RATE
