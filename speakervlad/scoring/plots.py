"""Pictures of error rates, drawn with matplotlib (extra ``plots``)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.figures import (
    COLOURS,
    check_drawable,
    check_picture,
    new_axes,
    save_figure,
)
from speakervlad.files import check_writable
from speakervlad.scoring.metrics import (
    ErrorCurve,
    VerificationReport,
    eer_point,
    error_curve,
    min_dcf_point,
)
from speakervlad.scoring.points import REPORTED_POINTS, OperatingPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DET_TICKS = (
    *(0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99),
)
# Okabe and Ito's colours: told apart by colour-blind readers too.
TARGET_COLOUR, NONTARGET_COLOUR = "#009E73", "#D55E00"
DEVIATE_RESOLUTION = 1 / 200
# Of the length of an axis; a label of four digits needs as much.
TICK_DISTANCE = 0.065


def det_figure(
    curves: Mapping[str, ErrorCurve], point: OperatingPoint = REPORTED_POINTS[0]
) -> Figure:
    """DET curves on normal-deviate axes, with EER (circle) and minDCF (triangle) points.

    Two Gaussian score distributions make a straight line there (Martin et al., 1997).
    """
    from scipy.special import ndtri

    figure, axes = new_axes(6.2, 6.3 + 0.19 * len(curves))
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        eer, _ = eer_point(curve)
        cost, best = min_dcf_point(curve, point)
        label = f"{name}: EER {eer:.2%}, minDCF({point.name}) {cost:.3f}"
        axes.plot(*thinned_deviates(curve), color=colour, lw=1.5, label=label)
        axes.plot(*clipped_deviates(eer, eer), "o", color=colour, ms=5)
        cheapest = clipped_deviates(curve.false_accept[best], curve.miss[best])
        axes.plot(*cheapest, "^", color=colour, ms=6)
    limits = ndtri(det_limits(curves))
    ticks = spread_ticks(limits)
    axes.plot(limits, limits, color="0.8", lw=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel="false acceptance rate (%)", ylabel="false rejection rate (%)")
    names = [f"{100 * tick:g}" for tick in ticks]
    axes.set_xticks(ndtri(ticks), names)
    axes.set_yticks(ndtri(ticks), names)
    # Below the axes it hides no curve, however many there are.
    figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    return figure


def spread_ticks(limits: np.ndarray) -> list[float]:
    """The ticks between two normal deviates whose labels do not collide."""
    from scipy.special import ndtri

    kept: list[float] = []
    for tick in DET_TICKS:
        place = ndtri(tick)
        apart = not kept or place - ndtri(kept[-1]) > TICK_DISTANCE * (limits[1] - limits[0])
        if limits[0] <= place <= limits[1] and apart:
            kept.append(tick)
    return kept


def thinned_deviates(curve: ErrorCurve) -> tuple[np.ndarray, np.ndarray]:
    """The curve in normal deviates, without points that no reader could tell apart."""
    from scipy.special import ndtri

    rates = np.stack([curve.false_accept, curve.miss])
    inside = ((rates > 0) & (rates < 1)).all(axis=0)
    x, y = ndtri(curve.false_accept[inside]), ndtri(curve.miss[inside])
    cells = np.round(np.stack([x, y]) / DEVIATE_RESOLUTION)
    keep = np.append(True, (np.diff(cells, axis=1) != 0).any(axis=0)) if len(x) else []
    return x[keep], y[keep]


def clipped_deviates(false_accept: float, miss: float) -> tuple[float, float]:
    """A point in normal deviates, kept on the page when a rate is 0 or 1."""
    from scipy.special import ndtri

    rates = np.clip([false_accept, miss], DET_TICKS[0], 1 - DET_TICKS[0])
    x, y = ndtri(rates)
    return float(x), float(y)


def det_limits(curves: Mapping[str, ErrorCurve]) -> tuple[float, float]:
    """Lowest and highest rate of both axes: what the trials resolve, and well above the EER."""
    finest = min(
        min(curve.false_accept[curve.false_accept > 0][0], curve.miss[curve.miss > 0][-1])
        for curve in curves.values()
    )
    worst = max(eer_point(curve)[0] for curve in curves.values())
    return max(float(finest) / 2, DET_TICKS[0]), float(np.clip(5 * worst, 0.4, 0.995))


def score_bins(scores: np.ndarray, count: int) -> np.ndarray:
    """(count + 1,) edges of equal bins that hold all but a thousandth of the scores."""
    low, high = np.quantile(scores, [0.0005, 0.9995]).tolist()
    # Scores whose differences no picture shows, at whatever scale, have a bin in the middle.
    largest = max(abs(low), abs(high))
    is_one = high - low <= max(1e-9 * largest, 1e-100)
    margin = max(0.5, 1e-6 * largest) if is_one else 0.0
    return np.linspace(low - margin, high + margin, count + 1)


def histogram_figure(
    scores: np.ndarray, is_target: np.ndarray, threshold: float, name: str = "score"
) -> Figure:
    """Densities of target and non-target scores, and the threshold at the EER."""
    figure, axes = new_axes(4.6, 2.8)
    edges = score_bins(scores, 80)
    for chosen, label, colour in (
        (~is_target, "non-target", NONTARGET_COLOUR),
        (is_target, "target", TARGET_COLOUR),
    ):
        heights, _ = np.histogram(np.clip(scores[chosen], edges[0], edges[-1]), edges, density=True)
        axes.stairs(heights, edges, fill=True, alpha=0.45, color=colour, label=label)
        axes.stairs(heights, edges, color=colour, lw=1)
    axes.axvline(threshold, color="0.25", lw=1, ls="--", label=f"EER threshold {threshold:.3f}")
    axes.set(xlabel=name, ylabel="density", ylim=(0, None))
    axes.legend(fontsize=7)
    return figure


def interval_figure(reports: Mapping[str, VerificationReport]) -> Figure:
    """EER of every system with its confidence interval, the best at the top."""
    names = sorted(reports, key=lambda name: reports[name].eer, reverse=True)
    figure, axes = new_axes(6.2, 0.9 + 0.36 * len(names))
    for row, name in enumerate(names):
        report = reports[name]
        if "eer" in report.intervals:
            low, high = report.intervals["eer"]
            axes.plot([100 * low, 100 * high], [row, row], color=COLOURS[0], lw=2, alpha=0.5)
        axes.plot(100 * report.eer, row, "o", color=COLOURS[0])
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(-0.7, len(names) - 0.3), xlabel="EER (%)", xlim=(0, None))
    return figure


def breakdown_figure(
    parts: Mapping[str, Mapping[str, VerificationReport | None]], title: str
) -> Figure:
    """EER by group, a bar for each system with its interval; groups without any EER are left out.

    Args:
        parts: reports by system, then by group.
        title: what the groups are.
    """
    systems = list(parts)
    groups = [
        group
        for group in next(iter(parts.values()))
        if any(reports.get(group) is not None for reports in parts.values())
    ]
    figure, axes = new_axes(max(4.6, 1.2 + 0.22 * len(groups) * (len(systems) + 1)), 3.4)
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        shown = [
            (place + (number - (len(systems) - 1) / 2) * width, report)
            for place, report in enumerate(parts[system][group] for group in groups)
            if report is not None
        ]
        colour = COLOURS[number % len(COLOURS)]
        heights = [100 * report.eer for _, report in shown]
        axes.bar([place for place, _ in shown], heights, width, color=colour, label=system)
        for place, report in shown:
            if "eer" in report.intervals:
                low, high = report.intervals["eer"]
                axes.plot([place, place], [100 * low, 100 * high], color="0.2", lw=1)
    axes.set_xticks(range(len(groups)), groups, rotation=0 if len(groups) < 7 else 45, fontsize=8)
    axes.set(ylabel="EER (%)", xlabel=title, ylim=(0, None))
    if len(systems) > 1:
        figure.legend(loc="outside upper center", fontsize=7, frameon=False, ncols=4)
    return figure


def svg_text(figure: Figure, names: Sequence[str]) -> str:
    """The figure as an ``<svg>`` element for a page, with a text for those who do not see it."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "speakervlad"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    label = ", ".join(names).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


@dataclass(frozen=True)
class Pictures:
    """Where the DET curve, the score histogram and the bars of a breakdown go, if anywhere."""

    det: Path | None = None
    histogram: Path | None = None
    bars: Path | None = None

    def check(self) -> None:
        """Refuse, before any work is done, what cannot be written, drawn or is no picture."""
        for path in filter(None, (self.det, self.histogram, self.bars)):
            check_drawable()
            check_writable(path)
            check_picture(path)

    def draw(
        self,
        name: str,
        scores: np.ndarray,
        is_target: np.ndarray,
        report: VerificationReport,
        point: OperatingPoint = REPORTED_POINTS[0],
    ) -> None:
        """Draw one system's scores; the bars show the first breakdown of its report."""
        if self.det is not None:
            save_figure(det_figure({name: error_curve(scores, is_target)}, point), self.det)
        if self.histogram is not None:
            figure = histogram_figure(scores, is_target, report.threshold, name)
            save_figure(figure, self.histogram)
        if self.bars is not None:
            column, groups = next(iter(report.breakdown.items()))
            save_figure(breakdown_figure({name: groups}, column), self.bars)
