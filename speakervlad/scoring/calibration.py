"""A calibration: from scores to log-likelihood ratios; its file."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.deprecated import warn_of_old_name
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.scoring.points import OperatingPoint
from speakervlad.texts import parse_json

MAX_FILE_BYTES = 1_000_000


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
        encoder: fingerprint of the weights whose cosines it is for; None if that is not known.
    """

    weights: tuple[float, ...]
    bias: float
    quality: tuple[str, ...] = ()
    p_target: float = 0.5
    num_target: int = 0
    num_nontarget: int = 0
    systems: tuple[str, ...] = ()
    encoder: str | None = None

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
        """Deprecated: ``save_calibration``."""
        warn_of_old_name("Calibration.save", "save_calibration")
        save_calibration(path, self)


def save_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write ``calibration.json``."""
    values = asdict(calibration)
    if calibration.encoder is None:
        del values["encoder"]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


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
    """What ``save_calibration`` wrote.

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
    """A calibration of what ``save`` wrote; files of 0.1.0 name no systems, of 0.2.0 no encoder."""
    known = {field.name for field in fields(Calibration)}
    optional = {"systems", "encoder"}
    if not isinstance(values, dict) or not known - optional <= set(values) <= known:
        raise KeyError("other keys than a calibration has")
    found = Calibration(
        weights=tuple(float(weight) for weight in values["weights"]),
        bias=float(values["bias"]),
        quality=tuple(str(name) for name in values["quality"]),
        p_target=OperatingPoint(float(values["p_target"])).p_target,
        num_target=int(values["num_target"]),
        num_nontarget=int(values["num_nontarget"]),
        systems=tuple(str(name) for name in values.get("systems", ())),
        encoder=None if values.get("encoder") is None else str(values["encoder"]),
    )
    if found.num_systems < 1 or len(found.systems) not in (0, found.num_systems):
        raise KeyError("names and weights of another number")
    return found


def expit(values: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, without overflow."""
    return np.exp(-np.logaddexp(0, -values))


def logit(probability: float) -> float:
    """``log(p / (1 - p))``."""
    return float(np.log(probability) - np.log1p(-probability))
