"""From scores to log-likelihood ratios: calibration and fusion by logistic regression.

Quality measures of a trial (QMF) can stand beside its scores.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.errors import InputError, did_you_mean
from speakervlad.files import atomic_path, parse_json
from speakervlad.scoring.lists import Trials
from speakervlad.scoring.metrics import OperatingPoint, check_scores
from speakervlad.scoring.scoring import check_same_encoder, cohort_statistics, unit_vectors
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest
from speakervlad.tables.names import required_rows

logger = logging.getLogger(__name__)

REGULARISATION = 1e-4
MAX_FILE_BYTES = 1_000_000
MAX_STEPS = 100
MAX_HALVINGS = 30
TOLERANCE = 1e-10
MEASURES = {
    "duration": "--manifest",
    "magnitude": "--embeddings",
    "cohort": "--embeddings and --cohort",
}


@dataclass(frozen=True)
class Calibration:
    """An affine map from the scores of one or several systems to a log-likelihood ratio.

    Attributes:
        weights: one per system, then one per quality measure.
        bias: added to the weighted sum.
        quality: names of the quality measures that it expects.
        p_target: the prior that the training weighed the classes by.
        num_target: target trials it was trained on.
        num_nontarget: non-target trials it was trained on.
        systems: names of the systems, in the order of their weights, where they are known.
    """

    weights: tuple[float, ...]
    bias: float
    quality: tuple[str, ...] = ()
    p_target: float = 0.5
    num_target: int = 0
    num_nontarget: int = 0
    systems: tuple[str, ...] = ()

    @property
    def num_systems(self) -> int:
        return len(self.weights) - len(self.quality)

    def log_likelihood_ratio(
        self, scores: np.ndarray | float, quality: np.ndarray | None = None
    ) -> np.ndarray:
        """Natural-log likelihood ratio of "same speaker" against "different speakers".

        Args:
            scores: (num_trials,) of one system, or (num_trials, num_systems).
            quality: (num_trials, num_measures) when the calibration expects some.

        Returns:
            (num_trials,) float64; a single number for a single score.

        Raises:
            InputError: another number of systems or quality measures.
        """
        scores = np.asarray(scores, dtype=np.float64)
        columns = scores if scores.ndim == 2 else scores.reshape(-1, 1)
        features = columns if quality is None else np.column_stack([columns, quality])
        if columns.shape[1] != self.num_systems or features.shape[1] != len(self.weights):
            raise InputError(
                f"this calibration expects {self.num_systems} systems and the quality measures "
                f"[{', '.join(self.quality)}], not {features.shape[1]} columns. Give those, "
                "or train another calibration."
            )
        ratios = features @ np.array(self.weights) + self.bias
        return ratios.reshape(scores.shape) if scores.ndim < 2 else ratios

    def probability(self, llr: np.ndarray | float, p_target: float) -> np.ndarray:
        """Posterior probability of the same speaker at a prior, by Bayes' rule."""
        return expit(np.asarray(llr) + logit(OperatingPoint(p_target).p_target))

    def threshold(self, point: OperatingPoint) -> float:
        """The raw score at which one system's ratio reaches the Bayes threshold.

        Raises:
            InputError: several systems or quality measures have no single threshold.
        """
        if len(self.weights) != 1 or self.weights[0] == 0:
            raise InputError("only a calibration of one system has a threshold on raw scores.")
        return (point.bayes_threshold - self.bias) / self.weights[0]

    def save(self, path: str | Path) -> None:
        """Write ``calibration.json``."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def load_calibration(path: str | Path) -> Calibration:
    """Read ``calibration.json``.

    Raises:
        InputError: no such file contents.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        if size > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES:,} bytes")
        return parse_calibration(path.read_text(encoding="utf-8"), str(path))
    except InputError:
        raise
    except ValueError as error:
        raise _no_calibration(str(path), error) from error


def parse_calibration(text: str, where: str) -> Calibration:
    """What ``Calibration.save`` wrote.

    Raises:
        InputError: the text is no calibration; ``where`` says whose it is.
    """
    try:
        found = _from_json(parse_json(text))
    # OverflowError: a number beyond all floats.
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise _no_calibration(where, error) from error
    if not np.isfinite([*found.weights, found.bias]).all():
        raise InputError(f"{where}: weights are not finite. Train the calibration again.")
    return found


def _no_calibration(where: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{where}: no calibration ({reason}). Make one with `speakervlad calibrate`.")


def _from_json(values: dict[str, Any]) -> Calibration:
    """A calibration of what ``save`` wrote; files of version 0.1.0 name no systems."""
    known = {field.name for field in fields(Calibration)}
    if not isinstance(values, dict) or not known - {"systems"} <= set(values) <= known:
        raise KeyError("other keys than a calibration has")
    found = Calibration(
        weights=tuple(float(weight) for weight in values["weights"]),
        bias=float(values["bias"]),
        quality=tuple(str(name) for name in values["quality"]),
        p_target=OperatingPoint(float(values["p_target"])).p_target,
        num_target=int(values["num_target"]),
        num_nontarget=int(values["num_nontarget"]),
        systems=tuple(str(name) for name in values.get("systems", ())),
    )
    if found.num_systems < 1 or len(found.systems) not in (0, found.num_systems):
        raise KeyError("names and weights of another number")
    return found


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


def fit_calibration(
    scores: np.ndarray,
    is_target: np.ndarray,
    *,
    quality: dict[str, np.ndarray] | None = None,
    p_target: float = 0.5,
    shares: np.ndarray | None = None,
) -> Calibration:
    """Train calibration, or fusion when there are several systems, by logistic regression.

    The classes are weighed as if a share ``p_target`` of the trials were targets, which lowers the
    detection cost near that prior; the prior's log odds are then taken out, so that the result is a
    likelihood ratio. Features are standardised inside and lightly regularised, so that separable
    trials still give finite weights.

    Args:
        scores: (num_trials,) or (num_trials, num_systems).
        is_target: (num_trials,) bool.
        quality: (num_trials,) measures by name.
        p_target: prior to train for.
        shares: (num_trials,) of each trial in its class, up to a factor; all alike by default.

    Raises:
        InputError: scores that are not finite, one class only, or a score that never varies.
    """
    measures = quality or {}
    systems = np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)
    labels = is_target
    for system in systems.T:
        _, labels = check_scores(system, is_target)
    features = np.column_stack([systems, *measures.values()])
    centre, spread = features.mean(axis=0), features.std(axis=0)
    _check_features(features, spread, systems.shape[1], measures)
    prior = OperatingPoint(p_target).p_target
    num_target = int(labels.sum())
    num_nontarget = len(labels) - num_target
    shares = np.ones(len(labels)) if shares is None else shares
    of_class = np.where(labels, shares[labels].sum(), shares[~labels].sum())
    weights = np.where(labels, prior, 1 - prior) * shares / of_class
    slopes, intercept = fit_logistic((features - centre) / spread, labels, weights, REGULARISATION)
    slopes = slopes / spread
    if slopes[: systems.shape[1]].min() < 0:
        logger.warning("a system has a negative weight: higher scores speak against the target.")
    return Calibration(
        weights=tuple(slopes.tolist()),
        bias=float(intercept - centre @ slopes - logit(prior)),
        quality=tuple(measures),
        p_target=prior,
        num_target=num_target,
        num_nontarget=num_nontarget,
    )


def _check_features(
    features: np.ndarray, spread: np.ndarray, num_systems: int, measures: dict[str, np.ndarray]
) -> None:
    """Refuse columns that no weight can be learnt for."""
    names = [f"system {number + 1}" for number in range(num_systems)] + list(measures)
    for name, column, deviation in zip(names, features.T, spread, strict=True):
        if not np.isfinite(column).all():
            raise InputError(f"{name} holds NaN or infinite values. Compute it again.")
        if deviation == 0:
            raise InputError(f"{name} is the same for all trials. Leave it out.")


def expit(values: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, without overflow."""
    return np.exp(-np.logaddexp(0, -values))


def logit(probability: float) -> float:
    """``log(p / (1 - p))``."""
    return float(np.log(probability) - np.log1p(-probability))


def fit_logistic(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, regularisation: float
) -> tuple[np.ndarray, float]:
    """Minimise ``sum(weights * loss) + regularisation / 2 * |slopes|^2``; it has one minimum.

    Args:
        features: (num_trials, num_features), about standardised.
        labels: (num_trials,) bool.
        weights: (num_trials,) of the trials, with sum 1.
        regularisation: positive; keeps the slopes of separable classes finite.

    Returns:
        (num_features,) slopes, and the intercept, which is not regularised.
    """
    design = np.column_stack([features, np.ones(len(features))])
    signs = np.where(labels, 1.0, -1.0)
    ridge = np.append(np.full(features.shape[1], regularisation), 0.0)

    def loss(solution: np.ndarray) -> float:
        losses = np.logaddexp(0, -signs * (design @ solution))
        return float(weights @ losses + 0.5 * ridge @ solution**2)

    solution = np.zeros(design.shape[1])
    current = loss(solution)
    for _ in range(MAX_STEPS):
        chance = expit(design @ solution)
        gradient = design.T @ (weights * (chance - labels)) + ridge * solution
        if np.abs(gradient).max() < TOLERANCE:
            break
        curvature = design.T @ (design * (weights * chance * (1 - chance))[:, None])
        step = np.linalg.solve(curvature + np.diag(ridge + TOLERANCE), gradient)
        for _ in range(MAX_HALVINGS):
            if (proposed := loss(solution - step)) <= current:
                break
            step = step / 2
        else:
            break
        solution, current = solution - step, proposed
    return solution[:-1], float(solution[-1])


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
