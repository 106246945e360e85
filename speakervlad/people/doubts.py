"""What speaks against an enrolment: another person's voice, a voice unlike the others, two voices.

Nothing here decides: whoever enrols is told, and asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speakervlad.errors import InputError
from speakervlad.people.mixture import Mixture
from speakervlad.people.records import Match


@dataclass(frozen=True)
class Doubt:
    """One reason to look again at a recording before it is enrolled.

    Attributes:
        recording: how it is called.
        reason: in words, without the recording.
        cosine: of the two voices that the reason is about.
        person: whose voice it sounds like, if that is the reason.
        mixture: both voices, if that is the reason.
    """

    recording: str
    reason: str
    cosine: float
    person: str | None = None
    mixture: Mixture | None = None

    def __str__(self) -> str:
        return f"{self.recording}: {self.reason}"


class DoubtfulError(InputError):
    """Recordings were not enrolled because of doubts that nobody has dispelled.

    Attributes:
        doubts: why.
    """

    def __init__(self, name: str, doubts: Sequence[Doubt], way_out: str) -> None:
        super().__init__(f"{name}: not enrolled: {'; '.join(map(str, doubts))}. {way_out}")
        self.doubts = tuple(doubts)


def of_mixture(recording: str, mixture: Mixture | None) -> list[Doubt]:
    """That two people speak in one recording."""
    if mixture is None:
        return []
    return [Doubt(recording, mixture.words, mixture.cosine, mixture=mixture)]


def of_others(
    recording: str, name: str, own: float, matches: Sequence[Match], threshold: float
) -> list[Doubt]:
    """That a recording would be given somebody else's name, and is not nearer to its own.

    Args:
        recording: how it is called.
        name: of the person whose recording it is to be.
        own: the highest cosine with that person's voices; -1 without any.
        matches: the nearest voices of the store.
        threshold: from which on somebody is named.
    """
    nearest = next((match for match in matches if match.name != name), None)
    if nearest is None or nearest.cosine < threshold or nearest.cosine <= own:
        return []
    reason = f"sounds like {nearest.name} ({nearest.cosine:.2f})"
    return [Doubt(recording, reason, nearest.cosine, person=nearest.name)]


def of_unlike(
    name: str,
    recordings: Sequence[str],
    vectors: np.ndarray,
    groups: Sequence[Sequence[int]],
    voices: np.ndarray,
    num_known: int,
) -> list[Doubt]:
    """That recordings of one person are farther apart than those of one voice.

    Where the person is new, most recordings are taken for the person's.

    Args:
        name: of the person.
        recordings: (new,) how the new ones are called.
        vectors: (new, dim) of the new recordings.
        groups: rows of recordings by voice; the known ones first, then the new.
        voices: (voices, dim).
        num_known: how many recordings the person has already.
    """
    fresh = [number for number, rows in enumerate(groups) if min(rows) >= num_known]
    if len(fresh) == len(groups):
        fresh.remove(max(fresh, key=lambda number: len(groups[number])))
    kept = [number for number in range(len(groups)) if number not in fresh]
    doubts = []
    for row in sorted(row - num_known for number in fresh for row in groups[number]):
        cosine = float((voices[kept] @ vectors[row]).max())
        reason = f"is unlike the other recordings of {name} (cosine {cosine:.2f})"
        doubts.append(Doubt(recordings[row], reason, cosine))
    return doubts
