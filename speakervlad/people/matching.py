"""Open-set identification: the best people for a recording, or nobody, at a rate one chooses.

A cohort of impostors, recordings of other people that nobody enrolled, says two things: how high
scores are where nobody is right, for each voice and each recording (adaptive S-norm), and how high
the best score in this store is for somebody who is not in it (the threshold).
"""

from typing import NamedTuple

import numpy as np

from speakervlad.errors import InputError, check_range
from speakervlad.people.cohort import Cohort
from speakervlad.people.records import Match
from speakervlad.people.sql import SqlStore

# Nearest voices by cosine whose normalised scores are computed: of a recording, of an impostor.
NEAREST, NEAREST_OF_IMPOSTORS = 100, 10
# Rates below this are extrapolated from the impostors that score highest.
TAIL = 0.1
# Of the number of voices in the store, before the threshold is computed anew.
GROWTH = 0.01


class Candidate(NamedTuple):
    """A person who might have spoken.

    Attributes:
        name: of the person.
        score: normalised: standard deviations above the scores of impostors.
        cosine: of the recording and the person's nearest voice.
        probability: that it is this person, where as likely as not nobody of the store speaks;
            None if the cohort is not calibrated.
    """

    name: str
    score: float
    cosine: float
    probability: float | None


class Identification(NamedTuple):
    """Whose voice a recording is.

    Attributes:
        name: of the person, or None for nobody who is enrolled.
        candidates: the best people, the first the best.
        threshold: of scores from which on the first one is believed.
        fpir: false-positive identification rate that the threshold is for.
        seconds: of audio, or of speech where only speech was heard.
    """

    name: str | None
    candidates: tuple[Candidate, ...]
    threshold: float
    fpir: float
    seconds: float


class Matcher:
    """A store and a cohort: scores, thresholds and decisions.

    Args:
        store: of people.
        cohort: of impostors, of the store's encoder.
    """

    def __init__(self, store: SqlStore, cohort: Cohort) -> None:
        self.store = store
        self.cohort = cohort
        self._revision = self._num_voices = -1
        self._maxima = np.empty(0)

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
        check_range("fpir", fpir, above=0, below=1)
        check_range("top", top, at_least=1)
        threshold = self.threshold(fpir)
        means, deviations = self.cohort.statistics(vectors)
        found = self.store.nearest(vectors, NEAREST)
        answers = []
        for matches, mean, deviation in zip(found, means, deviations, strict=True):
            people = self._people(matches, float(mean), float(deviation))[:top]
            name = people[0].name if people and people[0].score >= threshold else None
            answers.append(Identification(name, people, threshold, fpir, 0.0))
        return answers

    def threshold(self, fpir: float) -> float:
        """The normalised score that the best voice of this store reaches for a share of impostors.

        Rates below ``TAIL`` are read off an exponential tail through the highest maxima, because
        hundreds of impostors resolve no rate of one in a thousand.

        Raises:
            InputError: nobody is enrolled.
        """
        header = self.store.header()
        if not header.num_voices:
            raise InputError(
                f"{self.store.where}: nobody is enrolled. `speakervlad people add NAME FILE` does."
            )
        grown = abs(header.num_voices - self._num_voices) > GROWTH * self._num_voices
        if (header.revision != self._revision and grown) or self._num_voices < 0:
            self._maxima = self._impostor_maxima()
            self._num_voices = header.num_voices
        self._revision = header.revision
        return quantile_of_tail(self._maxima, fpir)

    def _impostor_maxima(self) -> np.ndarray:
        means, deviations = self.cohort.own_statistics()
        found = self.store.nearest(self.cohort.vectors, NEAREST_OF_IMPOSTORS)
        rows = zip(found, means, deviations, strict=True)
        return np.array([self._scores(*row).max(initial=-np.inf) for row in rows])

    def _scores(self, matches: list[Match], mean: float, deviation: float) -> np.ndarray:
        if not matches:
            return np.empty(0)
        cosines = np.array([match.cosine for match in matches])
        means, deviations = self.cohort.statistics(np.stack([match.vector for match in matches]))
        return ((cosines - mean) / deviation + (cosines - means) / deviations) / 2

    def _people(self, matches: list[Match], mean: float, deviation: float) -> tuple[Candidate, ...]:
        """Each person once, by the best of the voices."""
        best: dict[str, tuple[float, float]] = {}
        for match, score in zip(matches, self._scores(matches, mean, deviation), strict=True):
            if match.name not in best or score > best[match.name][0]:
                best[match.name] = float(score), match.cosine
        ranked = sorted(best.items(), key=lambda each: -each[1][0])
        chances = self._probabilities(np.array([score for _, (score, _) in ranked]))
        return tuple(
            Candidate(name, score, cosine, chance)
            for (name, (score, cosine)), chance in zip(ranked, chances, strict=True)
        )

    def _probabilities(self, scores: np.ndarray) -> list[float | None]:
        """Posteriors of the people, where half of the prior is that nobody of them speaks."""
        if self.cohort.calibration is None or not len(scores):
            return [None] * len(scores)
        slope, offset = self.cohort.calibration
        ratios = slope * scores + offset - np.log(max(len(scores), self._num_voices))
        total = np.logaddexp(0, np.logaddexp.reduce(ratios))
        return np.exp(ratios - total).tolist()


def quantile_of_tail(maxima: np.ndarray, rate: float) -> float:
    """The score that a share ``rate`` of the population behind some maxima reaches."""
    if rate >= TAIL:
        return float(np.quantile(maxima, 1 - rate))
    start = float(np.quantile(maxima, 1 - TAIL))
    scale = float((maxima[maxima >= start] - start).mean())
    return start + scale * float(np.log(TAIL / rate))
