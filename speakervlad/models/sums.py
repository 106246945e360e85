"""Pooling as sums over frames, in numpy: what every runtime's descriptors become; no torch.

Every pooling layer is a function of moments ``sum_t w_t``, ``sum_t w_t x_t``, ``sum_t w_t x_t^2``
with weights w of its own, so moments of chunks, of recordings and of sessions add up. Of layers
side by side each has its moments.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np

# tf.nn.l2_normalize: x * rsqrt(max(sum x^2, 1e-12))
L2_EPSILON = 1e-6
# Added to variances, so that the square root has a gradient everywhere.
VARIANCE_FLOOR = 1e-7
# The least weight that a second-order residual is divided by: a cluster that no frame is near.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Finish:
    """What a pooling layer does with its moments: all that inference must know of the layer.

    Attributes:
        kind: row of ``FINISHES``: the mean; mean and standard deviation; residuals to centres; the
            vectors of several layers.
        weighting: no weights; ``clusters``: weights (clusters, frames), each for all dimensions;
            ``channels``: weights (dim, frames), one for each dimension.
        log_weights: the weights come as logarithms.
        num_clusters: the first of the weighted clusters, which are kept; the others are ghosts.
        num_ghosts: how many others there are.
        correction: subtracted from the number of frames by which squared deviations are divided.
        floor: added to the variance; the least norm that is divided by.
        intra_norm: whether every cluster's residual is divided by its norm.
        vector_norm: whether the whole vector is.
        second_order: after its residual, every cluster has the standard deviation of its frames.
        centers: (clusters, dim) of residuals; None for no centres, which are zeros.
        parts: the layers, if there are several.
    """

    kind: Literal["mean", "statistics", "residuals", "side_by_side"]
    weighting: Literal["none", "clusters", "channels"] = "none"
    log_weights: bool = False
    num_clusters: int = 1
    num_ghosts: int = 0
    correction: int = 0
    floor: float = 0.0
    intra_norm: bool = False
    vector_norm: bool = False
    second_order: bool = False
    centers: np.ndarray | None = None
    parts: tuple["FinishPart", ...] = ()

    @property
    def has_second(self) -> bool:
        """Whether sums of squares are needed."""
        return self.kind == "statistics" or self.second_order

    @property
    def clusters(self) -> "Clusters | None":
        """Clusters that can be told apart or have ghosts beside them; of several layers, VLAD's."""
        if self.kind == "residuals" or (self.weighting == "clusters" and self.num_ghosts):
            rows = slice(0, self.num_clusters + self.num_ghosts)
            return Clusters(self.num_clusters, rows, slice(None), log_weights=self.log_weights)
        ordered = sorted(self._clusters_of_parts(), key=lambda one: one[0] != "residuals")
        return ordered[0][1] if ordered else None

    def _clusters_of_parts(self) -> Iterator[tuple[str, "Clusters"]]:
        """Kind and clusters of every layer that has some, in the rows and columns of all."""
        row = column = 0
        for finish, dim, out_dim in self.parts:
            own = finish.clusters
            if own is not None:
                rows = slice(row + own.rows.start, row + own.rows.stop)
                columns = slice(column, column + out_dim)
                yield finish.kind, own._replace(rows=rows, columns=columns)
            row, column = row + finish.num_rows(dim), column + out_dim

    def num_rows(self, dim: int) -> int:
        """Rows of the weights that frames (dim, frames) need."""
        if self.parts:
            return sum(part.finish.num_rows(part.dim) for part in self.parts)
        counts = {"none": 0, "clusters": self.num_clusters + self.num_ghosts, "channels": dim}
        return counts[self.weighting]

    def to_notes(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON takes it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        parts = [(part.finish.to_notes(), part.dim, part.out_dim) for part in self.parts]
        return {name: value for name, value in values.items() if name != "centers"} | {
            "parts": parts
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, by the names under which ``from_notes`` takes them."""
        own = {} if self.centers is None else {"centers": self.centers}
        for number, part in enumerate(self.parts):
            own |= {f"{name}_{number}": array for name, array in part.finish.arrays().items()}
        return own

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Finish":
        """The inverse of ``to_notes`` and ``arrays``."""
        parts = tuple(
            FinishPart(cls.from_notes(own, _numbered(arrays, number)), int(dim), int(out_dim))
            for number, (own, dim, out_dim) in enumerate(notes.get("parts", ()))
        )
        values = {name: value for name, value in notes.items() if name != "parts"}
        return cls(**values, centers=arrays.get("centers"), parts=parts)


class FinishPart(NamedTuple):
    """One of several layers side by side.

    Attributes:
        finish: what it does with its moments.
        dim: how many of the frames' numbers are its own; those of the layers follow each other.
        out_dim: size of its vector.
    """

    finish: Finish
    dim: int
    out_dim: int


class Clusters(NamedTuple):
    """Where a pooling layer's clusters are.

    Attributes:
        count: clusters that reach the output.
        rows: of the weights that are theirs, the ghosts' last.
        columns: of the pooled vector that are theirs, cluster by cluster.
        log_weights: the weights are logarithms of shares.
    """

    count: int
    rows: slice
    columns: slice
    log_weights: bool

    def shares(self, weights: np.ndarray) -> np.ndarray:
        """The weight (clusters + ghosts, frames) of each in every frame."""
        own = weights[self.rows]
        return np.exp(own) if self.log_weights else own


def _numbered(arrays: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """The arrays of a part, by the names that it knows."""
    suffix = f"_{number}"
    return {
        name.removesuffix(suffix): array for name, array in arrays.items() if name.endswith(suffix)
    }


@dataclass(frozen=True)
class PoolingSums:
    """Moments of frames in float64, so that hours add up as exactly as seconds.

    ``empty`` ones take ``add(frames)`` as frames arrive and ``merge(other)`` for what was summed
    elsewhere; ``finish()`` is the pooled vector at any time. They never change; every step returns
    a new object.

    Attributes:
        pooling: what to do with the moments.
        weight: sum of the weights, (clusters, 1) or (1, dim); None before the first frames.
        first: weighted sum of the frames, (clusters, dim).
        second: that of their squares, if the pooling needs it.
        num_frames: how many frames are in it; of moments with an axis in front, (sums,).
        parts: of several layers side by side, the moments of each, and none here.
    """

    pooling: Finish
    weight: np.ndarray | None = None
    first: np.ndarray | None = None
    second: np.ndarray | None = None
    num_frames: Any = 0
    parts: tuple["PoolingSums", ...] = ()

    @classmethod
    def empty(cls, pooling: Finish) -> "PoolingSums":
        """No frames yet."""
        return cls(pooling, parts=tuple(cls.empty(part.finish) for part in pooling.parts))

    def add(self, frames: np.ndarray, weights: np.ndarray | None = None) -> "PoolingSums":
        """Add descriptors (dim, frames) and their weights, if the pooling has weights."""
        count = frames.shape[1]
        if self.parts:
            parts = tuple(
                sums.add(own, own_weights)
                for sums, own, own_weights in zip(
                    self.parts, *_shared_out(self.pooling, frames, weights), strict=True
                )
            )
            return replace(self, parts=parts, num_frames=self.num_frames + count)
        exact = frames.astype(np.float64)
        weight, first = self._weighted(exact, weights)
        squared = self.pooling.has_second
        second = self._weighted(np.square(exact), weights)[1] if squared else None
        return self.merge(
            replace(self, weight=weight, first=first, second=second, num_frames=count)
        )

    def merge(self, other: "PoolingSums") -> "PoolingSums":
        """The moments of both sets of frames together.

        Raises:
            ValueError: they are of poolings or dimensions that do not fit each other.
        """
        if not self.num_frames or not other.num_frames:
            return self if self.num_frames else other
        if not self._fits(other):
            raise ValueError("sums of different encoders cannot be merged.")
        return replace(
            self,
            weight=_plus(self.weight, other.weight),
            first=_plus(self.first, other.first),
            second=_plus(self.second, other.second),
            num_frames=self.num_frames + other.num_frames,
            parts=tuple(one.merge(two) for one, two in zip(self.parts, other.parts, strict=True)),
        )

    def finish(self) -> np.ndarray:
        """The pooled vector (out,) of all frames so far, float32.

        Moments with an axis in front of them, (sums, clusters, dim), give a vector each.

        Raises:
            ValueError: there is no frame yet.
        """
        if not np.any(self.num_frames):
            raise ValueError("the pooling state holds no frames yet.")
        return FINISHES[self.pooling.kind](self).astype(np.float32)

    def row(self) -> np.ndarray:
        """All numbers one behind the other, float64, the number of frames first; they add up."""
        own = (self.weight, self.first, self.second)
        known = [moments.ravel() for moments in own if moments is not None]
        return np.concatenate(
            [[float(self.num_frames)], *known, *(part.row() for part in self.parts)]
        )

    def of_rows(self, rows: np.ndarray) -> "PoolingSums":
        """Sums of this kind, with an axis in front, of which each has a row (rows, numbers)."""
        return self._read(rows)[0]

    def of_row(self, row: np.ndarray) -> "PoolingSums":
        """Sums of this kind that have one row (numbers,); a share of a frame is rounded."""
        return _first(self._read(row[None])[0])

    def _read(self, rows: np.ndarray) -> tuple["PoolingSums", np.ndarray]:
        """The sums at the begin of rows, and what follows."""
        counts, rows = rows[:, 0], rows[:, 1:]
        read: dict[str, Any] = {}
        for name in ("weight", "first", "second"):
            moments = getattr(self, name)
            if moments is not None:
                read[name] = rows[:, : moments.size].reshape(len(rows), *moments.shape)
                rows = rows[:, moments.size :]
        parts = []
        for part in self.parts:
            sums, rows = part._read(rows)
            parts.append(sums)
        return replace(self, **read, num_frames=counts, parts=tuple(parts)), rows

    def _fits(self, other: "PoolingSums") -> bool:
        shapes = [None if sums.first is None else sums.first.shape for sums in (self, other)]
        kinds = [(sums.pooling.kind, len(sums.parts)) for sums in (self, other)]
        return shapes[0] == shapes[1] and kinds[0] == kinds[1]

    def _weighted(
        self, frames: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        kind = self.pooling.weighting
        if kind == "none" or weights is None:
            return np.full((1, 1), float(frames.shape[1])), frames.sum(axis=1)[None]
        exact = weights.astype(np.float64)
        if self.pooling.log_weights:
            exact = np.exp(exact)
        if kind == "channels":
            return exact.sum(axis=1)[None], (exact * frames).sum(axis=1)[None]
        exact = exact[: self.pooling.num_clusters]
        return exact.sum(axis=1)[:, None], exact @ frames.T


def _first(sums: PoolingSums) -> PoolingSums:
    """The first of sums with an axis in front."""
    known = {
        name: moments[0]
        for name in ("weight", "first", "second")
        if (moments := getattr(sums, name)) is not None
    }
    parts = tuple(map(_first, sums.parts))
    return replace(sums, **known, num_frames=max(1, round(float(sums.num_frames[0]))), parts=parts)


def _flat(moments: np.ndarray) -> np.ndarray:
    """(..., clusters, dim) as (..., clusters x dim)."""
    return moments.reshape(*moments.shape[:-2], -1)


def _plus(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return None if one is None or other is None else one + other


def _shared_out(
    pooling: Finish, frames: np.ndarray, weights: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """What every layer has of frames (dim, frames) and weights (rows, frames)."""
    rows = [part.finish.num_rows(part.dim) for part in pooling.parts]
    own = np.split(frames, np.cumsum([part.dim for part in pooling.parts])[:-1])
    if weights is None:
        return own, [None] * len(own)
    parts = np.split(weights, np.cumsum(rows)[:-1])
    return own, [part if len(part) else None for part in parts]


def _mean(sums: PoolingSums) -> np.ndarray:
    return _flat(sums.first / sums.weight)  # pyright: ignore[reportOptionalOperand]


def _statistics(sums: PoolingSums) -> np.ndarray:
    mean = _mean(sums)
    square = _flat(sums.second / sums.weight)  # pyright: ignore[reportOptionalOperand]
    variance = np.maximum(square - np.square(mean), 0)
    if sums.pooling.correction:
        variance = variance * np.expand_dims(sample_factor(sums.num_frames), -1)
    return np.concatenate([mean, np.sqrt(variance + sums.pooling.floor)], axis=-1)


def sample_factor(count: Any) -> Any:  # noqa: ANN401 - a number or an array of them
    """What a variance of so many values is multiplied with to be that of a sample."""
    return count / np.maximum(count - 1, 1)


def _residuals(sums: PoolingSums) -> np.ndarray:
    pooling, residuals = sums.pooling, sums.first
    assert residuals is not None
    if pooling.centers is not None:
        residuals = residuals - sums.weight * pooling.centers
    blocks = [residuals, *([_deviations(sums)] if pooling.second_order else [])]
    if pooling.intra_norm:
        blocks = [unit(block, pooling.floor) for block in blocks]
    vector = _flat(np.concatenate(blocks, axis=-1))
    return unit(vector, pooling.floor) if pooling.vector_norm else vector


def _deviations(sums: PoolingSums) -> np.ndarray:
    """(clusters, dim): the standard deviation of every cluster's frames, times its weight."""
    assert sums.weight is not None
    weight = np.maximum(sums.weight, LEAST_WEIGHT)
    mean, square = sums.first / weight, sums.second / weight  # pyright: ignore[reportOptionalOperand]
    return weight * np.sqrt(np.maximum(square - np.square(mean), 0) + VARIANCE_FLOOR)


def _side_by_side(sums: PoolingSums) -> np.ndarray:
    return np.concatenate([FINISHES[part.pooling.kind](part) for part in sums.parts], axis=-1)


def unit(vectors: np.ndarray, floor: float) -> np.ndarray:
    """Vectors (..., dim) divided by their norms, which count as ``floor`` at least."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), floor)


FINISHES: dict[str, Callable[[PoolingSums], np.ndarray]] = {
    "mean": _mean,
    "statistics": _statistics,
    "residuals": _residuals,
    "side_by_side": _side_by_side,
}
