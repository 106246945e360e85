"""Open-set identification: the best people for a recording, or nobody, at a rate one chooses.

The score of a person is the cosine of the recording and the nearest of the person's voices. S-norm
and AS-norm are left out because they make it worse here: benchmarks/RESULTS.md.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from speakervlad.errors import InputError, check_range
from speakervlad.people.mixture import Mixture
from speakervlad.people.records import Match
from speakervlad.people.sql import SqlStore
from speakervlad.scoring.calibration import Calibration

logger = logging.getLogger(__name__)

# Share of others' recordings that may be given a name, where nobody says another.
USUAL_FPIR = 0.01
# Rates below this are extrapolated from the impostors that score highest.
TAIL = 0.1
# Voices of the store that are scored as strangers, and the number of people at which they weigh as
# much as the cohort.
STRANGERS, HALF_TRUSTED = 300, 5
# Voices looked at until one of another person is found, or enough people.
NEAREST = 20
# Of the number of voices in the store, before the threshold is computed anew.
GROWTH = 0.01
# People of the store who are nearer to each other than what so many in one are by chance are taken
# for one person under two names, and are no strangers to each other.
ALIKE = 0.1
# Scores farther from the median than so many robust deviations count as being there.
OUTLYING = 2.0
# Median of the absolute deviations to standard deviation, of normal scores.
NORMAL = 1.4826
# What no cosine exceeds.
HIGHEST = 1.0


class Candidate(NamedTuple):
    """A person who might have spoken.

    Attributes:
        name: of the person.
        score: cosine of the recording and the person's nearest voice.
        probability: that it is this person, at a prior of 0.5 that the speaker is not in the store;
            None if the encoder is not calibrated.
    """

    name: str
    score: float
    probability: float | None


class Identification(NamedTuple):
    """Whose voice a recording is.

    Attributes:
        name: of the person, or None for nobody who is enrolled.
        candidates: the best people, the best first.
        threshold: the score from which on the first one is believed.
        fpir: false-positive identification rate that the threshold is for.
        seconds: of audio, or of speech where only speech was heard.
        mixture: two voices, where a recording has them; its name is then of neither for certain.
    """

    name: str | None
    candidates: tuple[Candidate, ...]
    threshold: float
    fpir: float
    seconds: float
    mixture: Mixture | None = None


class Matcher:
    """A store and impostors: scores, thresholds and decisions.

    Args:
        store: of people.
        cohort: (impostors, dim) unit vectors of people whom nobody enrolled.
        calibration: cosines to log-likelihood ratios, for probabilities.
        same_voice: the cosine that a share of pairs of strangers reaches; None if that is unknown.
    """

    def __init__(
        self,
        store: SqlStore,
        cohort: np.ndarray,
        calibration: Calibration | None = None,
        same_voice: Callable[[float], float | None] = lambda _: None,
    ) -> None:
        self.store = store
        self.cohort = cohort
        self.calibration = calibration
        self.same_voice = same_voice
        self._num_voices = 0
        self._impostors = self._strangers = np.empty(0)

    def identify(self, vectors: np.ndarray, fpir: float, top: int) -> list[Identification]:
        """Whose voices some recordings are.

        Args:
            vectors: (recordings, dim) float32 unit vectors.
            fpir: share of recordings of people who are not enrolled that may be given a name.
            top: how many people are named at most.

        Returns:
            One for each, with ``seconds`` 0.

        Raises:
            InputError: nobody is enrolled, or an impossible rate.
        """
        check_range("top", top, at_least=1)
        threshold = self.threshold(fpir)
        answers = []
        for matches in self.store.nearest(vectors, max(NEAREST, 2 * top)):
            people = self._people(matches)[:top]
            name = people[0].name if people and people[0].score >= threshold else None
            answers.append(Identification(name, people, threshold, fpir, 0.0))
        return answers

    def threshold(self, fpir: float) -> float:
        """The best score in this store that a share ``fpir`` of strangers reaches.

        Two kinds of strangers are known. The cohort gives the shape: how high its best scores in
        this store are. The people of the store are strangers to each other, of its own channel and
        language: mean and deviation of their best scores for others move and widen the cohort's,
        the more, the more people there are. Neither one person under two names nor a few odd pairs
        decide that: see ``ALIKE`` and ``OUTLYING``. The threshold is never below the cohort's, and
        never above what a cosine reaches.

        Raises:
            InputError: nobody is enrolled, or an impossible rate.
        """
        check_range("fpir", fpir, above=0, below=1)
        self._refresh()
        known, own = self._impostors, self._strangers
        threshold = quantile_of_tail(known, fpir)
        if len(own) >= 2:
            threshold = max(threshold, moved(threshold, known, own))
        return min(threshold, HIGHEST)

    def live_threshold(self, fpir: float) -> float:
        """That of live speech, which is compared again every half second, before it is lowered.

        Where somebody of the store is as probable as a stranger, at the usual rate; at others the
        odds are others by as much. It is not above ``threshold``, which is strict where there are
        few people, and which decides alone where the encoder is not calibrated.

        Raises:
            InputError: as ``threshold``.
        """
        threshold = self.threshold(fpir)
        if self.calibration is None:
            return threshold
        at_zero, at_one = self.calibration.log_likelihood_ratio(np.array([0.0, 1.0])).tolist()
        odds = float(np.log(self._num_voices) + np.log(USUAL_FPIR / fpir))
        return min(threshold, (odds - at_zero) / max(at_one - at_zero, 1e-6))

    def _refresh(self) -> None:
        """Score all strangers again when the store has grown or shrunk."""
        count = self.store.header().num_voices
        if not count:
            raise InputError(
                f"{self.store.where}: nobody is enrolled. `speakervlad people add NAME FILE` does."
            )
        if abs(count - self._num_voices) <= GROWTH * self._num_voices:
            return
        nearest = self.store.nearest(self.cohort, 1)
        if not all(nearest):
            raise InputError(
                f"{self.store.where}: is damaged (its {count} voices belong to nobody). Restore a "
                "copy, or enrol anew in another file (--store)."
            )
        self._impostors = np.array([matches[0].cosine for matches in nearest])
        voices = self.store.voices(STRANGERS)
        found = self.store.nearest(np.stack([vector for _, vector in voices]), NEAREST)
        level = self.same_voice(ALIKE / count)
        best = [
            next(
                (
                    match.cosine
                    for match in matches
                    if match.name != name and (level is None or match.cosine < level)
                ),
                None,
            )
            for (name, _), matches in zip(voices, found, strict=True)
        ]
        self._strangers = np.array([cosine for cosine in best if cosine is not None])
        self._num_voices = count

    def _people(self, matches: list[Match]) -> tuple[Candidate, ...]:
        """Each person once, by the nearest voice."""
        best: dict[str, float] = {}
        for match in matches:
            best.setdefault(match.name, match.cosine)
        chances = self._probabilities(np.array(list(best.values())))
        return tuple(
            Candidate(name, cosine, chance)
            for (name, cosine), chance in zip(best.items(), chances, strict=True)
        )

    def _probabilities(self, cosines: np.ndarray) -> list[float | None]:
        """Posteriors of these people; half of the prior is that nobody of the store speaks."""
        if self.calibration is None or not len(cosines):
            return [None] * len(cosines)
        ratios = self.calibration.log_likelihood_ratio(cosines) - np.log(self._num_voices)
        total = np.logaddexp(0, np.logaddexp.reduce(ratios))
        return np.exp(ratios - total).tolist()


def moved(threshold: float, known: np.ndarray, own: np.ndarray) -> float:
    """Where a threshold of the cohort lies among the strangers of a store.

    Args:
        threshold: among ``known``.
        known: (impostors,) best scores of the cohort.
        own: (people,) best scores of the people of the store for others, two or more.
    """
    spread = max(robust_deviation(known), 1e-6)
    known, own = (_without_outliers(each, spread) for each in (known, own))
    trust = len(own) / (len(own) + HALF_TRUSTED)
    mean = known.mean() + trust * max(0.0, own.mean() - known.mean())
    # Two people have one score for each other, which says nothing of how scores differ.
    variance = known.var() if len(own) == 2 else own.var()
    wider = np.sqrt((1 - trust) * known.var() + trust * variance) / max(known.std(), 1e-6)
    return float(mean + wider * (threshold - known.mean()))


def _without_outliers(scores: np.ndarray, least: float) -> np.ndarray:
    """The scores, no farther from their median than ``OUTLYING`` deviations; these, ``least``."""
    middle, reach = np.median(scores), OUTLYING * max(robust_deviation(scores), least)
    return np.clip(scores, middle - reach, middle + reach)


def robust_deviation(scores: np.ndarray) -> float:
    """The standard deviation of normal scores, which a few others hardly change."""
    return NORMAL * float(np.median(np.abs(scores - np.median(scores))))


def quantile_of_tail(scores: np.ndarray, rate: float) -> float:
    """The score that a share ``rate`` of the population behind some scores reaches.

    Below ``TAIL`` it is read off an exponential tail through the highest ones, because hundreds of
    scores resolve no rate of one in a thousand.
    """
    if rate >= TAIL:
        return float(np.quantile(scores, 1 - rate))
    start = float(np.quantile(scores, 1 - TAIL))
    scale = float((scores[scores >= start] - start).mean())
    return start + scale * float(np.log(TAIL / rate))
