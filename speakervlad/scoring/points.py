"""Operating points: a prior and costs."""

from dataclasses import dataclass

import numpy as np

from speakervlad.errors import InputError

# Costs and prior odds lie between its inverse and it: products and ratios of them stay finite.
LARGEST = 1e12


@dataclass(frozen=True)
class OperatingPoint:
    """What an application expects and fears.

    Attributes:
        p_target: prior probability that a trial is a target.
        c_miss: cost of rejecting a target.
        c_fa: cost of accepting a non-target.
    """

    p_target: float
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.p_target < 1 or not self.c_miss > 0 or not self.c_fa > 0:
            raise InputError(
                f"operating point {self.name}: p_target must lie between 0 and 1 and costs above 0."
            )
        odds = self.p_target / (1 - self.p_target)
        for what, value in {"odds": odds, "c_miss": self.c_miss, "c_fa": self.c_fa}.items():
            if not 1 / LARGEST <= value <= LARGEST:
                raise InputError(
                    f"operating point {self.name}: {what} of {value:g} cannot be computed with. "
                    f"Choose between {1 / LARGEST:g} and {LARGEST:g}."
                )

    @property
    def name(self) -> str:
        """``0.01``, or ``0.01,10,1`` where the costs are not 1."""
        costs = "" if self.c_miss == self.c_fa == 1 else f",{self.c_miss:g},{self.c_fa:g}"
        return f"{self.p_target:g}{costs}"

    @property
    def bayes_threshold(self) -> float:
        """The log-likelihood ratio above which accepting is cheaper."""
        return float(np.log(self.c_fa * (1 - self.p_target) / (self.c_miss * self.p_target)))

    @classmethod
    def parse(cls, text: str) -> "OperatingPoint":
        """Read ``p_target`` or ``p_target,c_miss,c_fa``.

        Raises:
            InputError: other text, or numbers out of range.
        """
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            raise InputError(
                f"operating point {text!r}: expected p_target or p_target,c_miss,c_fa, "
                "such as 0.01 or 0.01,10,1."
            )
        return cls(*numbers)


REPORTED_POINTS = (OperatingPoint(0.01), OperatingPoint(0.05))
