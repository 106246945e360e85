"""Open-set identification: the best people for a recording, or nobody, at a rate one chooses.

The score of a person is the cosine of the recording and the nearest of the person's voices. S-norm
and AS-norm are left out because they make it worse here: benchmarks/RESULTS.md.
"""

import logging
from typing import NamedTuple

import numpy as np

from speakervlad.errors import InputError, check_range
from speakervlad.people.records import Match
from speakervlad.people.sql import SqlStore
from speakervlad.scoring.calibration import Calibration

logger = logging.getLogger(__name__)

# Rates below this are extrapolated from the impostors that score highest.
TAIL = 0.1
# Voices of the store that stand for strangers; as many people as count half, beside the cohort.
STRANGERS, HALF_TRUSTED = 300, 5
# Voices looked at until one of another person is found, or enough people.
NEAREST = 20
# Of the number of voices in the store, before the threshold is computed anew.
GROWTH = 0.01


class Candidate(NamedTuple):
    """A person who might have spoken.

    Attributes:
        name: of the person.
        score: cosine of the recording and the person's nearest voice.
        probability: that it is this person, where as likely as not nobody of the store speaks;
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
    """

    name: str | None
    candidates: tuple[Candidate, ...]
    threshold: float
    fpir: float
    seconds: float


class Matcher:
    """A store and impostors: scores, thresholds and decisions.

    Args:
        store: of people.
        cohort: (impostors, dim) unit vectors of people whom nobody enrolled.
        calibration: cosines to log-likelihood ratios, for probabilities.
    """

    def __init__(
        self, store: SqlStore, cohort: np.ndarray, calibration: Calibration | None = None
    ) -> None:
        self.store = store
        self.cohort = cohort
        self.calibration = calibration
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
        the more, the more people there are. The threshold is never below the cohort's.

        Raises:
            InputError: nobody is enrolled, or an impossible rate.
        """
        check_range("fpir", fpir, above=0, below=1)
        self._refresh()
        known, own = self._impostors, self._strangers
        threshold = quantile_of_tail(known, fpir)
        if len(own) < 2:
            return threshold
        trust = len(own) / (len(own) + HALF_TRUSTED)
        mean = known.mean() + trust * max(0.0, own.mean() - known.mean())
        spread = np.sqrt((1 - trust) * known.var() + trust * own.var()) / max(known.std(), 1e-6)
        if len(own) == 2:
            spread = 1.0
        return max(threshold, float(mean + spread * (threshold - known.mean())))

    def _refresh(self) -> None:
        """Score all strangers again when the store has grown or shrunk."""
        count = self.store.header().num_voices
        if not count:
            raise InputError(
                f"{self.store.where}: nobody is enrolled. `speakervlad people add NAME FILE` does."
            )
        if abs(count - self._num_voices) <= GROWTH * self._num_voices:
            return
        self._impostors = np.array(
            [matches[0].cosine for matches in self.store.nearest(self.cohort, 1)]
        )
        voices = self.store.voices(STRANGERS)
        found = self.store.nearest(np.stack([vector for _, vector in voices]), NEAREST)
        best = [
            next((match.cosine for match in matches if match.name != name), None)
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
