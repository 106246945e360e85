"""Figures as lines on the console."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from speakervlad.cli.console import console

if TYPE_CHECKING:
    from speakervlad.evaluation.bootstrap import Comparison
    from speakervlad.evaluation.metrics import VerificationReport


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
    console.print(f"{name:20}{text}", markup=False)


def print_groups(column: str, groups: "Mapping[str, VerificationReport | None]") -> None:
    """EER and counts of every group."""
    console.print(f"by {column}:", markup=False)
    for name, part in groups.items():
        text = "one class only" if part is None else f"{part.eer:.3%}"
        counts = (
            "" if part is None else f"{part.num_target} target, {part.num_nontarget} non-target"
        )
        print_figure(f"  {name}", f"{text}  {counts}")


def print_comparison(found: "Mapping[str, Comparison]") -> None:
    """Both systems, their difference, its interval and p-value, a figure a line."""
    console.print(f"{'':22}{'A':>9}{'B':>9}{'B - A':>10}  95% interval          p")
    for name, result in found.items():
        low, high = result.interval
        console.print(
            f"{name:22}{result.first:9.4f}{result.second:9.4f}{result.difference:+10.4f}"
            f"  {low:+.4f} to {high:+.4f}  {result.p_value:.3f}"
        )
