"""Diarization error rate and Jaccard error rate, as ``pyannote.metrics`` counts them; no torch."""

import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import TypeVar

import numpy as np

from speakervlad.diarization.turns import TOUCHING, Turns, without_spaces
from speakervlad.errors import InputError, check_range, first_few
from speakervlad.extras import require

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
# A longer collar than any recording leaves nothing.
MAX_COLLAR = 86_400.0


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
    def is_defined(self) -> bool:
        """Whether there is speech in the reference that errors can be a fraction of."""
        return self.total > 0

    @property
    def rates(self) -> tuple[float, float, float]:
        """Missed speech, false alarms and confusion as fractions of the reference's speech."""
        return self._rate(self.missed), self._rate(self.false_alarm), self._rate(self.confusion)

    @property
    def der(self) -> float:
        """Diarization error rate, a fraction of the reference's speech (NIST RT-09).

        As ``pyannote.metrics`` has it, 1 or 0 for a reference without speech: ``is_defined``.
        """
        return self._rate(self.missed + self.false_alarm + self.confusion)

    @property
    def jer(self) -> float:
        """Jaccard error rate, the mean over the reference's speakers (DIHARD II, section 4.2)."""
        return self.speaker_error / self.num_speakers if self.num_speakers else 0.0

    @property
    def figures(self) -> dict[str, float | None]:
        """Everything by name: seconds, counts and rates; rates that are not defined are None."""
        der = self.der if self.is_defined else None
        jer = self.jer if self.num_speakers else None
        return {"der": der, "jer": jer} | asdict(self)

    def _rate(self, seconds: float) -> float:
        return seconds / self.total if self.total else float(seconds > 0)


def diarization_errors(
    reference: Turns,
    hypothesis: Turns,
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
    parts: np.ndarray | None = None,
) -> DiarizationErrors:
    """Compare the turns of one recording with those of its reference.

    Speakers are mapped one to one such that they share most seconds (scipy's
    ``linear_sum_assignment``). Where turns of one speaker overlap each other, the speaker counts
    for each, as in ``pyannote.metrics``; ``errors_by_recording`` merges them first.

    Args:
        reference: who spoke when.
        hypothesis: who is said to have spoken when, under any names.
        collar: seconds around every begin and end of the reference's turns that do not count, half
            of them before and half after: 0.5 is ``-c 0.25`` of NIST's md-eval.
        skip_overlap: whether only that counts where the reference has one speaker at most.
        parts: (parts, 2) seconds, sorted and apart, as ``load_uem`` reads them: nothing else
            counts. All counts if None.

    Raises:
        InputError: scipy is not installed, or the collar is negative or longer than a day.
    """
    require("scipy", "diarization", "the mapping of speakers")
    from scipy.optimize import linear_sum_assignment

    check_range("collar", collar, at_least=0, at_most=MAX_COLLAR)
    edges = np.array([time for turn in reference.turns for time in turn[:2]])
    ends = [time for turn in hypothesis.turns for time in turn[:2]]
    bounds = np.zeros((0, 2)) if parts is None else parts
    cuts = np.unique(
        np.concatenate([edges, ends, edges - collar / 2, edges + collar / 2, bounds.ravel()])
    )
    ours, theirs = _active(reference, cuts), _active(hypothesis, cuts)
    counted = np.ones(len(cuts) - 1 if len(cuts) else 0, bool)
    if parts is not None:
        counted &= _covered(cuts, *bounds.T) > 0
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
    uem: Mapping[str, np.ndarray] | None = None,
) -> dict[str, DiarizationErrors]:
    """``diarization_errors`` of every recording of the reference, or of the UEM.

    Recordings are compared by their names as RTTM holds them, in Unicode's composed form (NFC). A
    recording without hypothesis counts as missed, with a warning; one that the UEM alone names has
    a reference without speech, and so has every recording if the reference names none. One
    reference and one hypothesis are compared whatever they are called, with a warning. Turns of
    one speaker that overlap each other become one, with a warning.

    Args:
        references: turns by recording.
        hypotheses: turns by recording.
        collar: as for ``diarization_errors``.
        skip_overlap: as for ``diarization_errors``.
        uem: the parts that count, by recording, see ``load_uem``; recordings that it does not name
            are left out, with a warning.

    Returns:
        Errors by recording, as the reference calls it.

    Raises:
        InputError: as ``diarization_errors``; no recording has both; or two recordings of one side
            cannot be told apart by what RTTM holds of their names.
    """
    ours, theirs = _by_key(references, "reference"), _by_key(hypotheses, "hypothesis")
    if len(ours) == len(theirs) == 1 and ours.keys() != theirs.keys():
        logger.warning(
            "%s is judged by the reference of %s", *map(first_few, (hypotheses, references))
        )
        theirs = dict(zip(ours, theirs.values(), strict=True))
    parts = None if uem is None else _by_key(uem, "UEM")
    named = {recording_key(name): name for name in references or hypotheses}
    names = _judged(ours, theirs, named, parts)
    errors = {}
    for key, name in names.items():
        reference = _prepared(ours.get(key, Turns(name)), "reference")
        found = diarization_errors(
            reference,
            _prepared(theirs.get(key, Turns(name)), "hypothesis"),
            collar=collar,
            skip_overlap=skip_overlap,
            parts=None if parts is None else parts[key],
        )
        if reference.turns and not found.is_defined:
            logger.warning("%s: nothing of its reference is left to be judged", name)
        errors[name] = found
    return errors


def recording_key(name: str) -> str:
    """What recordings are compared by: the name as RTTM holds it, composed (Unicode's NFC)."""
    return without_spaces(unicodedata.normalize("NFC", name))


def _by_key(items: Mapping[str, Item], side: str) -> dict[str, Item]:
    names: dict[str, str] = {}
    for name in items:
        other = names.setdefault(recording_key(name), name)
        if other != name:
            raise InputError(
                f"the {side} has recordings {other!a} and {name!a}, which cannot be told apart: "
                "RTTM holds no white space, and Unicode writes one name in several ways. Rename "
                "one of them."
            )
    return {key: items[name] for key, name in names.items()}


def _judged(
    ours: Mapping[str, Turns],
    theirs: Mapping[str, Turns],
    named: Mapping[str, str],
    parts: Mapping[str, np.ndarray] | None,
) -> dict[str, str]:
    """Names of the recordings that are judged, by key.

    Raises:
        InputError: there are none, or both sides name recordings and none is the same.
    """
    if ours and theirs and not ours.keys() & theirs.keys():
        raise InputError(
            "no recording has a reference and a hypothesis. Recordings of the reference: "
            f"{first_few(ours)}; of the hypothesis: {first_few(theirs)}."
        )
    names = dict(named) if parts is None else {key: named.get(key, key) for key in parts}
    if not names:
        raise InputError(
            "neither the reference nor the hypothesis names a recording. A UEM can name those in "
            "which nobody speaks."
        )
    left_out = [key for key in {**ours, **theirs} if key not in names]
    if left_out:
        why = "reference" if parts is None else "part in the UEM"
        logger.warning("without %s, left out: %s", why, first_few(left_out))
    missing = [key for key in names if key not in theirs and key in ours]
    if missing:
        logger.warning("without hypothesis, which counts as missed: %s", first_few(missing))
    silent = [key for key in names if key not in ours]
    if silent:
        logger.warning("nobody speaks in the reference of: %s", first_few(silent))
    return names


def _prepared(turns: Turns, side: str) -> Turns:
    """Turns with composed names, where one speaker speaks once at a time."""
    composed = [
        turn._replace(speaker=unicodedata.normalize("NFC", turn.speaker)) for turn in turns.turns
    ]
    turns = replace(turns, turns=tuple(composed))
    merged = turns.joined(-TOUCHING)
    if len(merged) < len(turns):
        logger.warning(
            "%s: %d turns of the %s overlap others of the same speaker; they are merged",
            turns.recording,
            len(turns) - len(merged),
            side,
        )
    return merged


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
