"""Pictures of error rates, drawn with matplotlib (extra ``plots``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.curves import ErrorCurve
from speakervlad.evaluation.figures import REPORTED_POINTS, OperatingPoint, eer_point, min_dcf_point
from speakervlad.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DET_TICKS = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window, sizes in inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(
            "pictures need matplotlib. Install it: pip install 'speakervlad[plots]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def det_figure(
    curves: Mapping[str, ErrorCurve], point: OperatingPoint = REPORTED_POINTS[0]
) -> Figure:
    """DET curves on normal-deviate axes, with EER (circle) and minDCF (triangle) points.

    Two Gaussian score distributions make a straight line there (Martin et al., 1997).
    """
    from scipy.special import ndtri

    figure = new_figure(6.0, 6.0)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        inside = (curve.false_accept > 0) & (curve.miss > 0)
        eer, _ = eer_point(curve)
        cost, best = min_dcf_point(curve, point)
        label = f"{name}: EER {eer:.2%}, minDCF({point.name}) {cost:.3f}"
        (line,) = axes.plot(
            ndtri(curve.false_accept[inside]), ndtri(curve.miss[inside]), label=label, lw=1.5
        )
        axes.plot(*_deviates(eer, eer), "o", color=line.get_color())
        axes.plot(
            *_deviates(curve.false_accept[best], curve.miss[best]), "^", color=line.get_color()
        )
    lowest = min(_smallest_rate(curve) for curve in curves.values())
    limits = ndtri(max(lowest / 2, DET_TICKS[0])), ndtri(_largest_shown(curves))
    ticks = [tick for tick in DET_TICKS if limits[0] <= ndtri(tick) <= limits[1]]
    axes.set(
        xlim=limits,
        ylim=limits,
        aspect="equal",
        xlabel="false acceptance rate (%)",
        ylabel="false rejection rate (%)",
    )
    names = [f"{100 * tick:g}" for tick in ticks]
    axes.set_xticks(ndtri(ticks), names)
    axes.set_yticks(ndtri(ticks), names)
    axes.plot(limits, limits, color="0.8", lw=0.8, zorder=0)
    axes.grid(color="0.92")
    axes.legend(loc="upper right", fontsize="small")
    return figure


def _deviates(false_accept: float, miss: float) -> tuple[np.ndarray, np.ndarray]:
    """A point in normal deviates, kept on the page when a rate is 0 or 1."""
    from scipy.special import ndtri

    rates = np.clip([false_accept, miss], DET_TICKS[0], 1 - DET_TICKS[0])
    x, y = ndtri(rates)
    return x, y


def _smallest_rate(curve: ErrorCurve) -> float:
    """The finest rate that this many trials can show."""
    return float(min(curve.false_accept[curve.false_accept > 0][0], curve.miss[curve.miss > 0][-1]))


def _largest_shown(curves: Mapping[str, ErrorCurve]) -> float:
    """Upper end of both axes: well above the worst EER."""
    worst = max(eer_point(curve)[0] for curve in curves.values())
    return float(np.clip(4 * worst, 0.2, 0.995))


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a picture; the suffix chooses PNG, SVG or PDF.

    Raises:
        InputError: another suffix, or a path that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"{path}: unknown picture type. Use {', '.join(PICTURE_SUFFIXES)}.")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
