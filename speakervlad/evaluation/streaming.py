"""Lists too long for memory as text: a hundred million scores become two sorted float32 arrays.

Names are never kept, so there are no speakers and no intervals; all else is as usual.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.curves import ErrorCurve, check_scores
from speakervlad.evaluation.figures import REPORTED_POINTS, OperatingPoint, detection_cost
from speakervlad.evaluation.metrics import VerificationReport, report_of_curve

ROWS_PER_BLOCK = 4_000_000
BYTES_PER_BLOCK = 1 << 24

Block = tuple[np.ndarray, np.ndarray]


def streamed_report(
    blocks: Iterable[Block], points: tuple[OperatingPoint, ...] = REPORTED_POINTS
) -> VerificationReport:
    """Every figure of blocks of ``(scores, is_target)``; scores are rounded to float32.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    return report_of_sorted(*sorted_by_class(blocks), points)


def report_of_sorted(
    targets: np.ndarray, nontargets: np.ndarray, points: tuple[OperatingPoint, ...]
) -> VerificationReport:
    """Every figure of two ascending arrays.

    What only depends on the shape of the curve is read from its corners; what depends on the scores
    themselves (actual costs, Cllr, fixed false-acceptance rates) is read from the arrays.
    """
    curve = curve_of_sorted(targets, nontargets)
    report = report_of_curve(curve, len(targets), len(nontargets), points)
    fixed = {rate: _miss_at_rate(float(rate), targets, nontargets) for rate in report.frr_at_far}
    return replace(
        report,
        act_dcf={point.name: _actual_dcf(point, targets, nontargets) for point in points},
        cllr=(_mean_cost(-targets) + _mean_cost(nontargets)) / 2,
        frr_at_far={
            rate: {"frr": miss, "threshold": threshold} for rate, (miss, threshold) in fixed.items()
        },
    )


def _actual_dcf(point: OperatingPoint, targets: np.ndarray, nontargets: np.ndarray) -> float:
    missed = float(np.searchsorted(targets, point.bayes_threshold) / len(targets))
    rejected = float(np.searchsorted(nontargets, point.bayes_threshold) / len(nontargets))
    return detection_cost(missed, 1 - rejected, point)


def _miss_at_rate(rate: float, targets: np.ndarray, nontargets: np.ndarray) -> tuple[float, float]:
    """False-rejection rate and threshold just above the highest non-target to reject."""
    num_accepted = int(rate * len(nontargets) * (1 + 1e-12))
    rejected = nontargets[len(nontargets) - num_accepted - 1]
    miss = np.searchsorted(targets, rejected, "right") / len(targets)
    return float(miss), float(np.nextafter(rejected, np.float32(np.inf)))


def _mean_cost(ratios: np.ndarray) -> float:
    """Mean of log2(1 + exp(ratio)), block by block."""
    blocks = range(0, len(ratios), ROWS_PER_BLOCK)
    total = sum(
        float(np.logaddexp(0, ratios[start : start + ROWS_PER_BLOCK], dtype=np.float64).sum())
        for start in blocks
    )
    return total / len(ratios) / float(np.log(2))


def sorted_by_class(blocks: Iterable[Block]) -> tuple[np.ndarray, np.ndarray]:
    """Ascending float32 scores of the targets and of the non-targets.

    Raises:
        InputError: scores that are not finite, or one class only.
    """
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for scores, is_target in blocks:
        scores = np.asarray(scores, dtype=np.float32)
        if not np.isfinite(scores).all():
            check_scores(scores, is_target)
        parts[0].append(scores[is_target])
        parts[1].append(scores[~is_target])
    targets, nontargets = (_merge(part) for part in parts)
    if not len(targets) or not len(nontargets):
        raise InputError(
            f"{len(targets)} target and {len(nontargets)} non-target trials: "
            "an error rate needs both classes."
        )
    return targets, nontargets


def _merge(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenate and sort, freeing the parts on the way."""
    merged = np.empty(sum(map(len, parts)), dtype=np.float32)
    end = len(merged)
    while parts:
        part = parts.pop()
        merged[end - len(part) : end] = part
        end -= len(part)
    merged.sort()
    return merged


def curve_of_sorted(targets: np.ndarray, nontargets: np.ndarray) -> ErrorCurve:
    """The error curve of two ascending arrays, with its corners only.

    Between two scores of the rarer class only the other error rate moves, so the curve is straight
    there: the points just above and at every distinct score of the rarer class are all it needs,
    and of these only such where the commoner class moved.
    """
    rarer, other = sorted((targets, nontargets), key=len)
    values, first = np.unique(rarer, return_index=True)
    upto = np.append(first[1:], len(rarer))
    corners = [
        _corners(values[block], first[block], upto[block], other)
        for block in _descending_blocks(len(values))
    ]
    columns = zip(*corners, strict=True)
    thresholds, in_rarer, in_other = (np.concatenate(column) for column in columns)
    rejected_rarer, rejected_other = in_rarer / len(rarer), in_other / len(other)
    swapped = rarer is not targets
    miss, rejected = (
        (rejected_other, rejected_rarer) if swapped else (rejected_rarer, rejected_other)
    )
    lowest = min(float(targets[0]), float(nontargets[0]))
    return ErrorCurve(
        np.concatenate([[np.inf], thresholds, [lowest]]),
        np.concatenate([[0.0], 1 - rejected, [1.0]]),
        np.concatenate([[1.0], miss, [0.0]]),
    )


def _descending_blocks(length: int) -> Iterator[slice]:
    """Slices that run through an array from its end to its start, backwards inside too."""
    for end in range(length, 0, -ROWS_PER_BLOCK):
        start = max(0, end - ROWS_PER_BLOCK)
        yield slice(end - 1, start - 1 if start else None, -1)


def _corners(
    values: np.ndarray, first: np.ndarray, upto: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds and how many of either class they reject, above and at each descending value."""
    above, at = np.searchsorted(other, values, "right"), np.searchsorted(other, values, "left")
    moved_before = np.append(True, above[1:] != at[:-1])
    moved_after = np.append(at[:-1] != above[1:], True)
    tied = above != at
    keep = np.column_stack([moved_before | tied, moved_after | tied]).ravel()
    thresholds = np.column_stack([np.nextafter(values, np.float32(np.inf)), values]).ravel()
    in_rarer = np.column_stack([upto, first]).ravel()
    in_other = np.column_stack([above, at]).ravel()
    return thresholds[keep].astype(np.float64), in_rarer[keep], in_other[keep]


def stream_arrays(scores: str | Path, labels: str | Path) -> Iterator[Block]:
    """Blocks of two ``.npy`` files of equal length, mapped and never read as a whole.

    Raises:
        InputError: different lengths, or labels other than 0 and 1.
    """
    mapped = [np.load(path, mmap_mode="r", allow_pickle=False) for path in (scores, labels)]
    if mapped[0].shape != mapped[1].shape or mapped[0].ndim != 1:
        raise InputError(
            f"{scores} has shape {mapped[0].shape}, {labels} {mapped[1].shape}. "
            "Give one label per score."
        )
    for start in range(0, len(mapped[0]), ROWS_PER_BLOCK):
        values, classes = (array[start : start + ROWS_PER_BLOCK] for array in mapped)
        if classes.max() > 1 or classes.min() < 0:
            raise InputError(f"{labels}: labels are neither 0 nor 1. Write 1 for target.")
        yield np.asarray(values), np.asarray(classes, dtype=bool)


def stream_score_file(path: str | Path) -> Iterator[Block]:
    """Blocks of an ``enrol test score 1|0`` text file, parsed by pyarrow on all cores.

    Raises:
        InputError: pyarrow is not installed, or a line that does not fit.
    """
    try:
        import pyarrow
        from pyarrow import csv
    except ModuleNotFoundError as error:
        raise InputError(
            "score files of this size need pyarrow: pip install 'speakervlad[interchange]'."
        ) from error
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        delimiter = "\t" if "\t" in file.readline() else " "
    columns = ["enrol", "test", "score", "is_target"]
    try:
        reader = csv.open_csv(
            path,
            read_options=csv.ReadOptions(column_names=columns, block_size=BYTES_PER_BLOCK),
            parse_options=csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=csv.ConvertOptions(
                include_columns=columns[2:],
                column_types={"score": pyarrow.float32(), "is_target": pyarrow.bool_()},
                true_values=["1", "target"],
                false_values=["0", "nontarget"],
                null_values=[],
            ),
        )
        for batch in reader:
            yield (
                batch.column("score").to_numpy(),
                batch.column("is_target").to_numpy(zero_copy_only=False),
            )
    except pyarrow.ArrowInvalid as error:
        raise InputError(
            f"{path}: expected `enrol test score 1|0` in every line ({error}). Correct it."
        ) from error
