"""Diarization error rate and Jaccard error rate, as ``pyannote.metrics`` counts them; no torch."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass

import numpy as np

from speakervlad.diarization.turns import Turns
from speakervlad.errors import InputError, check_range, first_few
from speakervlad.extras import require

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiarizationErrors:
    """What a hypothesis gets wrong; those of several recordings add up.

    Attributes:
        total: seconds of speech in the reference; two speakers at once count twice.
        missed: seconds of it without a speaker in the hypothesis.
        false_alarm: seconds of speech in the hypothesis where the reference has none.
        confusion: seconds given to another speaker than the best mapping allows.
        speaker_error: sum over the reference's speakers of 1 - intersection / union with the
            hypothesis' speaker that is mapped to them, 1 where none is.
        num_speakers: of the reference.
        num_found: speakers of the hypothesis.
    """

    total: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0
    speaker_error: float = 0.0
    num_speakers: int = 0
    num_found: int = 0

    def __add__(self, other: "DiarizationErrors") -> "DiarizationErrors":
        return DiarizationErrors(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def rates(self) -> tuple[float, float, float]:
        """Missed speech, false alarms and confusion as fractions of the reference's speech."""
        return self._rate(self.missed), self._rate(self.false_alarm), self._rate(self.confusion)

    @property
    def der(self) -> float:
        """Diarization error rate, a fraction of the reference's speech (NIST RT-09)."""
        return self._rate(self.missed + self.false_alarm + self.confusion)

    @property
    def jer(self) -> float:
        """Jaccard error rate, the mean over the reference's speakers (DIHARD II, section 4.2)."""
        return self.speaker_error / self.num_speakers if self.num_speakers else 0.0

    @property
    def figures(self) -> dict[str, float]:
        """Everything by name: seconds, counts and rates."""
        return {"der": self.der, "jer": self.jer} | asdict(self)

    def _rate(self, seconds: float) -> float:
        return seconds / self.total if self.total else float(seconds > 0)


def diarization_errors(
    reference: Turns, hypothesis: Turns, *, collar: float = 0.0, skip_overlap: bool = False
) -> DiarizationErrors:
    """Compare the turns of one recording with those of its reference.

    Speakers are mapped one to one such that they share most seconds (scipy's
    ``linear_sum_assignment``). Where turns of one speaker overlap, the speaker counts for each.

    Args:
        reference: who spoke when.
        hypothesis: who is said to have spoken when, under any names.
        collar: seconds around every begin and end of the reference's turns that do not count, half
            of them before and half after: 0.5 is ``-c 0.25`` of NIST's md-eval.
        skip_overlap: whether only that counts where the reference has one speaker at most.

    Raises:
        InputError: scipy is not installed, or the collar is negative.
    """
    require("scipy", "diarization", "the mapping of speakers")
    from scipy.optimize import linear_sum_assignment

    check_range("collar", collar, at_least=0)
    edges = np.array([time for turn in reference.turns for time in turn[:2]])
    ends = [time for turn in hypothesis.turns for time in turn[:2]]
    cuts = np.unique(np.concatenate([edges, ends, edges - collar / 2, edges + collar / 2]))
    ours, theirs = _active(reference, cuts), _active(hypothesis, cuts)
    counted = np.ones(len(cuts) - 1 if len(cuts) else 0, bool)
    if collar:
        counted &= _covered(cuts, edges - collar / 2, edges + collar / 2) == 0
    if skip_overlap:
        counted &= ours.sum(axis=0) < 2
    seconds = np.diff(cuts)[counted]
    ours, theirs = _spoken(ours[:, counted]), _spoken(theirs[:, counted])
    shared = (ours * seconds) @ theirs.T
    rows, columns = linear_sum_assignment(-shared)
    mapped = shared[rows, columns] > 0
    return _count(ours, theirs, seconds, rows[mapped], columns[mapped])


def errors_by_recording(
    references: Mapping[str, Turns],
    hypotheses: Mapping[str, Turns],
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> dict[str, DiarizationErrors]:
    """``diarization_errors`` of every recording of the reference.

    A recording without hypothesis counts as missed, with a warning. One reference and one
    hypothesis are compared whatever they are called.

    Raises:
        InputError: as there, or no recording has both.
    """
    if len(references) == len(hypotheses) == 1:
        hypotheses = dict(zip(references, hypotheses.values(), strict=True))
    if not references.keys() & hypotheses.keys():
        raise InputError(
            "no recording has a reference and a hypothesis. Recordings of the reference: "
            f"{first_few(references) or 'none'}; of the hypothesis: "
            f"{first_few(hypotheses) or 'none'}."
        )
    missing = [name for name in references if name not in hypotheses]
    if missing:
        logger.warning("without hypothesis, which counts as missed: %s", first_few(missing))
    extra = [name for name in hypotheses if name not in references]
    if extra:
        logger.warning("without reference, left out: %s", first_few(extra))
    return {
        name: diarization_errors(
            reference,
            hypotheses.get(name, Turns(name)),
            collar=collar,
            skip_overlap=skip_overlap,
        )
        for name, reference in references.items()
    }


def _count(
    ours: np.ndarray,
    theirs: np.ndarray,
    seconds: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> DiarizationErrors:
    """Errors under a mapping of rows of ``ours`` to rows of ``theirs``, (speakers, stretches)."""
    num_ours, num_theirs = ours.sum(axis=0), theirs.sum(axis=0)
    correct = np.minimum(ours[rows], theirs[columns]).sum(axis=0)
    either = ((ours[rows] + theirs[columns]) > 0) @ seconds
    both = (np.minimum(ours[rows], theirs[columns]) > 0) @ seconds
    return DiarizationErrors(
        float(num_ours @ seconds),
        float(np.maximum(num_ours - num_theirs, 0) @ seconds),
        float(np.maximum(num_theirs - num_ours, 0) @ seconds),
        float((np.minimum(num_ours, num_theirs) - correct) @ seconds),
        float(len(ours) - (both / either).sum()),
        len(ours),
        len(theirs),
    )


def _active(turns: Turns, cuts: np.ndarray) -> np.ndarray:
    """How many turns of each speaker cover each stretch between cuts, (speakers, stretches)."""
    by_speaker: dict[str, list[tuple[float, float]]] = {name: [] for name in turns.speakers}
    for start, end, speaker in turns.turns:
        by_speaker[speaker].append((start, end))
    covered = [_covered(cuts, *np.array(spans).T) for spans in by_speaker.values()]
    return np.array(covered, int).reshape(len(covered), max(len(cuts) - 1, 0))


def _covered(cuts: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many of some spans, which begin and end at cuts, cover each stretch between cuts."""
    change = np.zeros(len(cuts), int)
    np.add.at(change, np.searchsorted(cuts, starts), 1)
    np.add.at(change, np.searchsorted(cuts, ends), -1)
    return change.cumsum()[:-1]


def _spoken(active: np.ndarray) -> np.ndarray:
    """Without the speakers who say nothing in what counts."""
    return active[active.any(axis=1)]
