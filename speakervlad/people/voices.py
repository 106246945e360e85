"""The voices of a person: recordings that sound alike are merged, others are kept apart."""

from collections.abc import Callable, Sequence

import numpy as np

from speakervlad.models.sums import PoolingSums

# Sums to a unit vector (dim,), as ``Encoder.finish`` does.
FinishSums = Callable[[PoolingSums], np.ndarray]


def group(
    sums: Sequence[PoolingSums], finish: FinishSums, apart: float
) -> tuple[list[list[int]], np.ndarray]:
    """Merge the two nearest voices until all are farther apart than a cosine.

    It begins with one voice a recording, in the order given, so that the same recordings in the
    same order give the same voices, however many calls brought them.

    Args:
        sums: of the recordings.
        finish: sums to a unit vector.
        apart: cosine below which two voices are not merged; -1 makes one voice of all.

    Returns:
        Rows of recordings by voice, those with the first recordings first; unit vectors (voices,
        dim), float32.
    """
    everything = [list(range(len(sums)))]
    groups = everything if apart <= -1 else _merge_near(list(sums), finish, apart)
    return groups, np.stack([finish(_total([sums[row] for row in rows])) for rows in groups])


def likeness(sums: Sequence[PoolingSums], finish: FinishSums) -> list[float | None]:
    """The cosine of each recording with the one of the others that is nearest; None of one alone.

    Args:
        sums: of the recordings.
        finish: sums to a unit vector.
    """
    if len(sums) < 2:
        return [None] * len(sums)
    vectors = np.stack([finish(each) for each in sums])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines.max(axis=1).tolist()


def _merge_near(totals: list[PoolingSums], finish: FinishSums, apart: float) -> list[list[int]]:
    groups = [[row] for row in range(len(totals))]
    vectors = np.stack([finish(each) for each in totals])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    while len(groups) > 1:
        one, other = sorted(divmod(int(cosines.argmax()), len(groups)))
        if cosines[one, other] < apart:
            break
        groups[one] = sorted(groups[one] + groups.pop(other))
        totals[one] = totals[one].merge(totals.pop(other))
        vectors = np.delete(vectors, other, axis=0)
        vectors[one] = finish(totals[one])
        cosines = np.delete(np.delete(cosines, other, axis=0), other, axis=1)
        cosines[one] = cosines[:, one] = vectors @ vectors[one]
        cosines[one, one] = -np.inf
    return sorted(groups)


def _total(sums: Sequence[PoolingSums]) -> PoolingSums:
    total, *others = sums
    for other in others:
        total = total.merge(other)
    return total
