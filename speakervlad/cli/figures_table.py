"""Figures as lines on the console."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from speakervlad.cli.console import console

if TYPE_CHECKING:
    from speakervlad.scoring.bootstrap import Comparison
    from speakervlad.scoring.metrics import VerificationReport

# Figures that are shares of trials; their differences are percentage points.
RATES = ("eer", "frr")
COSTS = {"min_dcf": "minDCF", "act_dcf": "actual DCF"}
WORDS = {
    "eer": "EER",
    "eer_convex_hull": "EER, convex hull",
    "cllr": "Cllr (bits)",
    "min_cllr": "minimum Cllr (bits)",
}


def print_report(judged: "VerificationReport") -> None:
    """The figures, each with its interval where there is one."""
    print_figure("trials", f"{judged.num_target} target, {judged.num_nontarget} non-target")
    eer = f"{judged.eer:.3%}{interval(judged, 'eer', 100)} at threshold {judged.threshold:.4f}"
    print_figure("EER", eer)
    print_figure("EER, convex hull", f"{judged.eer_convex_hull:.3%}")
    for name, cost in judged.min_dcf.items():
        actual = f", actual {judged.act_dcf[name]:.4f}"
        print_figure(
            "minDCF", f"{cost:.4f}{interval(judged, f'min_dcf {name}')}{actual} (p_target {name})"
        )
    for rate, found in judged.frr_at_far.items():
        print_figure(
            f"FRR at FAR {float(rate):.2%}",
            f"{found['frr']:.3%}{interval(judged, f'frr at far {rate}', 100)}"
            f" at threshold {found['threshold']:.4f}",
        )
    if judged.at_threshold:
        rates = f"FAR {judged.at_threshold['far']:.3%}, FRR {judged.at_threshold['frr']:.3%}"
        print_figure(f"at {judged.at_threshold['threshold']:.4f}", rates)
    cllr = f"{judged.cllr:.4f}, minimum {judged.min_cllr:.4f}{interval(judged, 'min_cllr')}"
    print_figure("Cllr (bits)", cllr)
    for column, groups in judged.breakdown.items():
        print_groups(column, groups)


def interval(judged: "VerificationReport", name: str, scale: float = 1) -> str:
    """`` [low, high]`` of one figure, or nothing."""
    if name not in judged.intervals:
        return ""
    low, high = judged.intervals[name]
    return f" [{scale * low:.4g}, {scale * high:.4g}]"


def print_figure(name: str, text: str) -> None:
    """One line of the table of figures."""
    console.print(f"{name:20}{text}")


def print_groups(column: str, groups: "Mapping[str, VerificationReport | None]") -> None:
    """EER with its interval, and counts, of every group."""
    console.print(f"by {column}:")
    for name, part in groups.items():
        if part is None:
            print_figure(f"  {name}", "one class only")
            continue
        counts = f"{part.num_target} target, {part.num_nontarget} non-target"
        print_figure(f"  {name}", f"{part.eer:.3%}{interval(part, 'eer', 100)}  {counts}")


def print_comparison(found: "Mapping[str, Comparison]", names: "Sequence[str]") -> None:
    """Both systems, their difference, its interval and p-value, a figure a line."""
    for letter, name in zip("AB", names, strict=True):
        console.print(f"{letter}  {name}")
    console.print(f"{'':26}{'A':>10}{'B':>10}{'B - A':>10}  {'95 % interval':20}{'p':>6}")
    for figure, result in found.items():
        unit, scale, digits = ("%", 100, 2) if figure.startswith(RATES) else ("", 1, 4)
        values = [f"{scale * value:.{digits}f}{unit}" for value in (result.first, result.second)]
        moved, low, high = (
            f"{scale * value:+.{digits}f}" for value in (result.difference, *result.interval)
        )
        console.print(
            f"{in_words(figure):26}{values[0]:>10}{values[1]:>10}{moved:>10}"
            f"  {f'{low} to {high}':20}{result.p_value:6.3f}"
        )


def in_words(figure: str) -> str:
    """``minDCF (p_target 0.01)`` for ``min_dcf 0.01``, as in the table of ``metrics``."""
    kind, _, point = figure.rpartition(" ")
    if kind == "frr at far":
        return f"FRR at FAR {float(point):.2%}"
    return f"{COSTS[kind]} (p_target {point})" if kind in COSTS else WORDS.get(figure, figure)
