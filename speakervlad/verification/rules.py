"""From a score to an answer: the rule that decides, and what it says."""

import math
from dataclasses import dataclass

import numpy as np

from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration, expit
from speakervlad.scoring.points import OperatingPoint
from speakervlad.verification.thresholds import Thresholds

EVEN_ODDS = OperatingPoint(0.5)


@dataclass(frozen=True)
class Verification:
    """Whether two recordings are of one speaker.

    Attributes:
        score: cosine similarity.
        threshold: the score from which on they are taken for one speaker.
        same: whether they are.
        rule: what decided, in words.
        log_likelihood_ratio: of "same" against "different", natural logarithm; None without a
            calibration.
        probability: of the same speaker at the prior by which the calibration decides; None where
            a threshold decides, which knows no prior.
        doubts: why the answer is not to be trusted: recordings in which hardly anybody speaks.
    """

    score: float
    threshold: float
    same: bool
    rule: str
    log_likelihood_ratio: float | None = None
    probability: float | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """By what scores are judged; ``choose_rule`` makes it.

    Attributes:
        threshold: the score from which on to accept.
        basis: where the threshold is from, in words.
        calibration: what turns a score into a log-likelihood ratio, if it is known.
        point: prior and costs, where the calibration decides; None where the threshold does.
    """

    threshold: float
    basis: str
    calibration: Calibration | None = None
    point: OperatingPoint | None = None

    @property
    def words(self) -> str:
        """The rule in words; they say so if it gives every cosine the same answer."""
        if self.threshold > 1:
            return f"{self.basis}; no score is that high: nobody is accepted"
        if self.threshold <= -1:
            return f"{self.basis}; every score is that high: everybody is accepted"
        return self.basis

    def judge(self, score: float) -> Verification:
        """The answer to one score.

        Where the calibration decides, it does so by the cost that is expected (Bayes): accepted
        if and only if the probability reaches ``c_fa / (c_fa + c_miss)``.
        """
        if self.calibration is None:
            return Verification(score, self.threshold, score >= self.threshold, self.words)
        ratio = float(self.calibration.log_likelihood_ratio(score))
        if self.point is None:
            return Verification(score, self.threshold, score >= self.threshold, self.words, ratio)
        margin = ratio - self.point.bayes_threshold
        odds = margin + math.log(self.point.c_fa / self.point.c_miss)
        probability = float(expit(np.asarray(odds)))
        return Verification(score, self.threshold, margin >= 0, self.words, ratio, probability)


def choose_rule(
    known: Thresholds | None,
    calibration: Calibration | None,
    *,
    threshold: float | None = None,
    far: float | None = None,
    point: OperatingPoint | None = None,
) -> Rule:
    """The rule that follows from what is known of an encoder and what is asked for.

    A threshold or a false-acceptance rate decides where one is asked for; otherwise the
    calibration does, at a prior and costs; the threshold of the equal error rate where there is no
    calibration.

    Args:
        known: thresholds of the encoder.
        calibration: of its scores.
        threshold: decide here.
        far: decide at the threshold for this false-acceptance rate.
        point: prior and costs; 0.5 and 1 by default.

    Raises:
        InputError: several of threshold, far and point; one that is impossible, or needs what is
            not known; a calibration of something else than one score.
    """
    _check_asked(threshold, far, point)
    if calibration is not None:
        _check_usable(calibration)
    if threshold is not None:
        return Rule(threshold, "the threshold that was given", calibration)
    if far is not None:
        place = (known or Thresholds(math.nan)).at(far)
        basis = f"the threshold for a false-acceptance rate of {far:g} on development recordings"
        return Rule(place, basis, calibration)
    if calibration is not None:
        point = point or EVEN_ODDS
        return Rule(calibration.threshold(point), _bayes_words(point), calibration, point)
    if point is not None:
        raise InputError(
            "a prior and costs need a calibration, and there is none. Give one (--calibration), "
            "or learn one with `speakervlad calibrate-encoder`."
        )
    if known is None:
        raise InputError(
            "no threshold is known. Pass --threshold, or learn one with "
            "`speakervlad calibrate-encoder`."
        )
    return Rule(known.eer, "the threshold of the equal error rate on development recordings")


def _check_asked(threshold: float | None, far: float | None, point: OperatingPoint | None) -> None:
    asked = {"--threshold": threshold, "--far": far, "--p-target, --c-miss or --c-fa": point}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} each say where to decide. Give one of them.")
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold {threshold}: is not finite. Give a cosine, such as 0.5.")


def _check_usable(calibration: Calibration) -> None:
    if len(calibration.weights) != 1 or calibration.weights[0] <= 0:
        raise InputError(
            "a calibration of two recordings' cosine has one weight, above 0, and no quality "
            f"measures; this one has the weights {', '.join(f'{w:g}' for w in calibration.weights)}"
            ". Make one with `speakervlad calibrate-encoder`."
        )


def _bayes_words(point: OperatingPoint) -> str:
    least = point.c_fa / (point.c_fa + point.c_miss)
    costs = (
        "equal costs"
        if point.c_fa == point.c_miss
        else f"costs of {point.c_miss:g} for a miss and {point.c_fa:g} for a false acceptance"
    )
    return (
        f"the calibration, at a prior of {point.p_target:g} and {costs}: "
        f"the same speaker from a probability of {100 * least:.4g}% on"
    )
