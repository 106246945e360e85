"""From scores to log-likelihood ratios: calibration and fusion by logistic regression."""

import json
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.curves import check_scores
from speakervlad.evaluation.figures import OperatingPoint
from speakervlad.evaluation.logistic import expit, fit_logistic, logit
from speakervlad.files import atomic_path

logger = logging.getLogger(__name__)

REGULARISATION = 1e-4


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
    """

    weights: tuple[float, ...]
    bias: float
    quality: tuple[str, ...] = ()
    p_target: float = 0.5
    num_target: int = 0
    num_nontarget: int = 0

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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if set(values) != {field.name for field in fields(Calibration)}:
            raise KeyError("other keys than a calibration has")
        values |= {
            "weights": tuple(float(weight) for weight in values["weights"]),
            "bias": float(values["bias"]),
            "quality": tuple(str(name) for name in values["quality"]),
        }
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: no calibration ({error}). Make one with `speakervlad calibrate`."
        ) from error
    if not np.isfinite([*values["weights"], values["bias"]]).all():
        raise InputError(f"{path}: weights are not finite. Train the calibration again.")
    return Calibration(**values)


def fit_calibration(
    scores: np.ndarray,
    is_target: np.ndarray,
    *,
    quality: dict[str, np.ndarray] | None = None,
    p_target: float = 0.5,
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
    weights = np.where(labels, prior / num_target, (1 - prior) / num_nontarget)
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
