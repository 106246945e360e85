"""Sums of a recording as bytes, and back."""

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.models.sums import Finish, FinishPart, PoolingSums
from speakervlad.people.records import pack_sums, unpack_sums

CENTERS = np.ones((3, 4), np.float32)
GHOSTS = Finish("statistics", "clusters", log_weights=True, num_ghosts=2, correction=1)
VLAD = Finish("residuals", "clusters", num_clusters=3, num_ghosts=1, centers=CENTERS)
SECOND = Finish("residuals", "clusters", num_clusters=3, second_order=True, centers=CENTERS)
POOLINGS = {
    "mean": Finish("mean"),
    "ghost statistics": GHOSTS,
    "VLAD": VLAD,
    "second order": SECOND,
    "side by side": Finish(
        "side_by_side", parts=(FinishPart(GHOSTS, 6, 12), FinishPart(SECOND, 4, 24))
    ),
}


def heard(pooling, rng):
    dim = sum(part.dim for part in pooling.parts) or 4
    weights = rng.random((pooling.num_rows(dim), 9)) if pooling.num_rows(dim) else None
    return PoolingSums.empty(pooling).add(rng.standard_normal((dim, 9)), weights)


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_sums_come_back_as_they_were(pooling, rng):
    sums = heard(pooling, rng)
    again = unpack_sums(pack_sums(sums), pooling)
    np.testing.assert_array_equal(again.finish(), sums.finish())
    more = heard(pooling, rng)
    np.testing.assert_array_equal(again.merge(more).finish(), sums.merge(more).finish())
    assert again.merge(more).num_frames == 18


@pytest.mark.parametrize("name", POOLINGS)
def test_sums_of_another_pooling_are_refused(name, rng):
    data = pack_sums(heard(POOLINGS[name], rng))
    for other, pooling in POOLINGS.items():
        if other != name and {other, name} != {"mean", "VLAD"}:
            with pytest.raises(InputError, match="sums of a recording are damaged"):
                unpack_sums(data, pooling)


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_rows_add_up_as_the_sums_do(pooling, rng):
    one, other = heard(pooling, rng), heard(pooling, rng)
    rows = np.stack([one.row(), other.row(), one.row() + other.row()])
    expected = np.stack([sums.finish() for sums in (one, other, one.merge(other))])
    np.testing.assert_allclose(one.of_rows(rows).finish(), expected, rtol=1e-5, atol=1e-6)
