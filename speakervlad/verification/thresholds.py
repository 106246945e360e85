"""Where to decide, learnt from scored lists: thresholds with their rates, and a calibration."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration
from speakervlad.scoring.logistic import fit_calibration
from speakervlad.scoring.metrics import eer_point, error_curve, mean_curve, miss_at_false_accept
from speakervlad.texts import parse_json

# Renard's series R10: ten rates a decade, 0.01 and 0.001 among them.
STEPS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
LARGEST_RATE = 0.5
# A rate so many times rarer than the rarest known is still taken for it where a guess will do.
BEYOND = 5

# (num_trials,) scores and bool labels by the name of their list.
LabelledScores = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Thresholds:
    """Cosines from which on to accept, as scored lists have taught them.

    Attributes:
        eer: where misses and false alarms balance.
        false_accept_rate: by false-acceptance rate, a fraction: points of a curve on which any
            rate between the smallest and the largest has its threshold; often none is known.
        eer_by_list: as ``eer``, for every list alone.
        num_impostors: how many impostor trials the curve is worth; 0 if that is not known.
        encoder: fingerprint of the weights whose scores taught them; None if that is not known.
    """

    eer: float
    false_accept_rate: dict[float, float] = field(default_factory=dict)
    eer_by_list: dict[str, float] = field(default_factory=dict)
    num_impostors: int = 0
    encoder: str | None = None

    def at(self, rate: float) -> float:
        """The threshold for a false-acceptance rate: linear in its logarithm between two points.

        Raises:
            InputError: a rate that the curve does not reach, as fewer impostors than one in
                ``1 / rate`` have been heard.
        """
        rates = sorted(self.false_accept_rate)
        if not rates:
            raise InputError(
                f"no threshold for a false-acceptance rate of {rate:g}: none is known for any. "
                "Learn them with `speakervlad calibrate-encoder`, or pass --threshold."
            )
        if not rates[0] <= rate <= rates[-1]:
            heard = f" as {self.num_impostors} impostor trials allow" if self.num_impostors else ""
            raise InputError(
                f"no threshold for a false-acceptance rate of {rate:g}: known from {rates[0]:g} "
                f"to {rates[-1]:g}{heard}. Choose one of these, or pass --threshold."
            )
        values = [self.false_accept_rate[known] for known in rates]
        return float(np.interp(math.log(rate), np.log(rates), values))

    def near(self, rate: float) -> float | None:
        """As ``at``, with the end of the curve for rates a little beyond it; None without a curve.

        At a rate that is somewhat rarer than any known one, that is a little too low.
        """
        rates = sorted(self.false_accept_rate)
        if not rates or rate < rates[0] / BEYOND:
            return None
        return self.at(min(max(rate, rates[0]), rates[-1]))

    def to_json(self) -> str:
        """The text of ``thresholds.json``."""
        values = asdict(self)
        if self.encoder is None:
            del values["encoder"]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Thresholds":
        """Read what ``to_json`` wrote.

        Files of version 0.1.0 hold fewer rates or none, those of 0.2.0 name no encoder.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the text holds no thresholds.
        """
        values = parse_json(text)
        rates = {float(r): float(v) for r, v in values.get("false_accept_rate", {}).items()}
        lists = {str(n): float(v) for n, v in values.get("eer_by_list", {}).items()}
        encoder = None if values.get("encoder") is None else str(values["encoder"])
        count = int(values.get("num_impostors", 0))
        found = cls(float(values["eer"]), rates, lists, count, encoder)
        if not all(map(math.isfinite, (found.eer, *rates.values(), *lists.values()))):
            raise ValueError("not all are finite numbers")
        if not all(0 < rate < 1 for rate in rates):
            raise ValueError("a rate is no fraction")
        ordered = [rates[rate] for rate in sorted(rates)]
        if ordered != sorted(ordered, reverse=True):
            raise ValueError("a rarer false acceptance has a lower threshold")
        return found


def learn_thresholds(lists: LabelledScores) -> Thresholds:
    """Thresholds of all lists together, each with the same weight, however long it is.

    At every threshold the error rates are the means of those of the lists. The curve ends where
    one impostor decides: with lists of different length, the number of impostors is that of equal
    lists whose mean false-acceptance rate is as uncertain (Kish's effective sample size).

    Raises:
        InputError: scores that are not finite, or a list of one class only.
    """
    curves = {name: error_curve(*scored) for name, scored in lists.items()}
    counts = [int(np.sum(~labels.astype(bool))) for _, labels in lists.values()]
    num_impostors = int(len(counts) ** 2 / sum(1 / count for count in counts))
    together = mean_curve(list(curves.values()))
    return Thresholds(
        eer_point(together)[1],
        {rate: miss_at_false_accept(together, rate)[1] for rate in curve_rates(num_impostors)},
        {name: eer_point(curve)[1] for name, curve in curves.items()},
        num_impostors,
    )


def learn_calibration(lists: LabelledScores) -> Calibration:
    """A calibration of all lists together, each with the same weight, however long it is.

    Raises:
        InputError: as ``fit_calibration``.
    """
    scores = np.concatenate([values for values, _ in lists.values()])
    labels = np.concatenate([labels.astype(bool) for _, labels in lists.values()])
    shares = np.concatenate([_shares(own.astype(bool)) for _, own in lists.values()])
    return fit_calibration(scores, labels, shares=shares)


def _shares(labels: np.ndarray) -> np.ndarray:
    """(num_trials,) what each trial of a list is of all of its class."""
    num_target = max(int(labels.sum()), 1)
    return np.where(labels, 1 / num_target, 1 / max(len(labels) - num_target, 1))


def curve_rates(num_impostors: int) -> tuple[float, ...]:
    """The rates of a stored curve: ten a decade, none rarer than one of so many impostors."""
    decades = range(-math.ceil(math.log10(max(num_impostors, 1))) - 1, 0)
    rates = [float(f"{step}e{decade}") for decade in decades for step in STEPS]
    return tuple(rate for rate in rates if rate * num_impostors >= 1 and rate <= LARGEST_RATE)
