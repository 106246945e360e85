"""Figures as lines on the console."""

from typing import TYPE_CHECKING

from speakervlad.cli.console import console

if TYPE_CHECKING:
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


def interval(judged: "VerificationReport", name: str, scale: float = 1) -> str:
    """`` [low, high]`` of one figure, or nothing."""
    if name not in judged.intervals:
        return ""
    low, high = judged.intervals[name]
    return f" [{scale * low:.4g}, {scale * high:.4g}]"


def print_figure(name: str, text: str) -> None:
    """One line of the table of figures."""
    console.print(f"{name:20}{text}", markup=False)


def print_groups(column: str, groups: "dict[str, VerificationReport | None]") -> None:
    """EER and counts of every group."""
    console.print(f"by {column}:", markup=False)
    for name, part in groups.items():
        text = "one class only" if part is None else f"{part.eer:.3%}"
        counts = (
            "" if part is None else f"{part.num_target} target, {part.num_nontarget} non-target"
        )
        print_figure(f"  {name}", f"{text}  {counts}")


def groups_to_json(
    parts: "dict[str, dict[str, VerificationReport | None]]",
) -> dict[str, dict[str, object]]:
    """Breakdowns as plain dictionaries; null where a group has one class only."""
    return {
        column: {name: None if part is None else part.to_json() for name, part in groups.items()}
        for column, groups in parts.items()
    }
