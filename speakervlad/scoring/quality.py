"""Quality measures of trials (QMF), which can stand beside their scores in a calibration."""

from collections.abc import Sequence

import numpy as np

from speakervlad.errors import InputError, did_you_mean
from speakervlad.scoring.scoring import check_same_encoder, cohort_statistics, unit_vectors
from speakervlad.scoring.trials import Trials
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest
from speakervlad.tables.names import required_rows

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

    Returns:
        (num_trials,) arrays by name, such as ``duration_low``.

    Raises:
        InputError: an unknown measure, or one whose source is not given.
    """
    columns: dict[str, np.ndarray] = {}
    check_same_encoder({"embeddings": embeddings, "cohort": cohort})
    for measure in measures:
        values = _of_names(trials, measure, manifest, embeddings, cohort, top)
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
        return cohort_statistics(vectors, unit_vectors(cohort), min(top, len(cohort)))[0]
    if measure not in MEASURES:
        raise InputError(f"unknown quality measure {measure!r}. {did_you_mean(measure, MEASURES)}")
    raise InputError(f"the quality measure {measure!r} needs {MEASURES[measure]}.")


def durations(trials: Trials, manifest: Manifest) -> np.ndarray:
    """(num_names,) seconds of every recording that the trials name.

    Raises:
        InputError: recordings that the manifest does not have.
    """
    return manifest.num_samples[required_rows(manifest, trials.names)] / SAMPLE_RATE
