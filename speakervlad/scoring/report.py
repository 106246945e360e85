"""One HTML page about one or many systems on one list: self-contained, without scripts."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from speakervlad.files import atomic_path
from speakervlad.scoring.checks import check_trials
from speakervlad.scoring.judge import SystemResult
from speakervlad.scoring.metrics import VerificationReport, error_curve
from speakervlad.scoring.plots import (
    breakdown_figure,
    det_figure,
    histogram_figure,
    interval_figure,
    svg_text,
)
from speakervlad.scoring.trials import Trials


def save_report(
    path: str | Path,
    trials: Trials,
    systems: Sequence[SystemResult],
    *,
    title: str = "Speaker verification",
    notes: Sequence[str] = (),
) -> None:
    """Write ``report_page`` into a file, as the command ``report`` does."""
    page = report_page(trials, systems, title=title, notes=notes)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def report_page(
    trials: Trials,
    systems: Sequence[SystemResult],
    *,
    title: str = "Speaker verification",
    notes: Sequence[str] = (),
) -> str:
    """The page, in HTML.

    Args:
        trials: with labels.
        systems: at least one, judged on these trials; the page shows them by rising EER.
        title: heading.
        notes: what a reader should know besides what ``check_trials`` says, one sentence each.
    """
    checked, is_target = check_trials(trials), trials.labels()
    notes = [*checked.problems, *checked.notes, *notes]
    ordered = sorted(systems, key=lambda system: system.report.eer)
    sections = [
        _header(title, checked.known_as, ordered[0].report),
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        _section("Systems", _main_table(ordered)),
        _section("Detection error trade-off", _det(ordered, is_target)),
        _section("Confidence", _intervals(ordered)),
        _section("Which threshold?", _threshold_table(ordered)),
        _section("Are the scores log-likelihood ratios?", _calibration_table(ordered)),
        _section("Scores", _histograms(ordered, is_target)),
        *(
            _section(f"By {column}", _breakdown(ordered, column))
            for column in ordered[0].report.breakdown
        ),
        _section("How to read this page", GLOSSARY),
    ]
    return PAGE.format(title=escape(title), style=STYLE, body="\n".join(filter(None, sections)))


def _header(title: str, list_name: str | None, report: VerificationReport) -> str:
    total = report.num_target + report.num_nontarget
    listed = f"{escape(list_name)} · " if list_name else ""
    counts = f"{report.num_target:,} target, {report.num_nontarget:,} non-target"
    return f"<header><h1>{escape(title)}</h1><p>{listed}{total:,} trials: {counts}</p></header>"


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>\n{body}</section>" if body else ""


def _main_table(systems: Sequence[SystemResult]) -> str:
    first = systems[0].report
    columns: dict[str, Callable[[VerificationReport], str]] = {
        "EER %": lambda report: _with_interval(report, "eer", report.eer, 100, 2)
    }
    for name in first.min_dcf:
        columns[f"minDCF ({name})"] = lambda report, name=name: _with_interval(
            report, f"min_dcf {name}", report.min_dcf[name], 1, 3
        )
    for rate in first.frr_at_far:
        columns[f"FRR % at FAR {float(rate):.2%}"] = lambda report, rate=rate: _with_interval(
            report, f"frr at far {rate}", report.frr_at_far[rate]["frr"], 100, 2
        )
    columns["min Cllr"] = lambda report: _with_interval(report, "min_cllr", report.min_cllr, 1, 3)
    return _table(systems, columns)


def _threshold_table(systems: Sequence[SystemResult]) -> str:
    columns: dict[str, Callable[[VerificationReport], str]] = {
        "at the EER": lambda report: f"{report.threshold:.4f}"
    }
    for rate in systems[0].report.frr_at_far:
        columns[f"at FAR {float(rate):.2%}"] = lambda report, rate=rate: (
            f"{report.frr_at_far[rate]['threshold']:.4f}"
        )
    return "<p>Accept a trial whose score is at least:</p>" + _table(systems, columns)


def _calibration_table(systems: Sequence[SystemResult]) -> str:
    columns: dict[str, Callable[[VerificationReport], str]] = {
        "Cllr": lambda report: f"{report.cllr:.3f}",
        "min Cllr": lambda report: f"{report.min_cllr:.3f}",
    }
    for name in systems[0].report.min_dcf:
        columns[f"actDCF ({name})"] = lambda report, name=name: f"{report.act_dcf[name]:.3f}"
        columns[f"minDCF ({name})"] = lambda report, name=name: f"{report.min_dcf[name]:.3f}"
    return (
        "<p>Calibrated scores have a Cllr near min Cllr and an actual near the minimum cost. "
        "Raw cosines do not; <code>speakervlad calibrate</code> makes them so.</p>"
        + _table(systems, columns)
    )


def _table(
    systems: Sequence[SystemResult], columns: Mapping[str, Callable[[VerificationReport], str]]
) -> str:
    """A row for every system; the first of several, which has the lowest EER, is marked."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    rows = "\n".join(
        f"{start}{''.join(f'<td>{cell(system.report)}</td>' for cell in columns.values())}</tr>"
        for system, start in zip(systems, _row_starts(systems), strict=True)
    )
    return f'<div class="wide"><table><tr><th></th>{head}</tr>\n{rows}</table></div>'


def _row_starts(systems: Sequence[SystemResult]) -> list[str]:
    starts = [f"<tr><th>{escape(system.name)}</th>" for system in systems]
    if len(systems) > 1:
        mark = ' <span class="mark">lowest EER</span>'
        starts[0] = f'<tr class="best"><th>{escape(systems[0].name)}{mark}</th>'
    return starts


def _with_interval(
    report: VerificationReport, name: str, value: float, scale: float, digits: int
) -> str:
    """``3.31`` and, in small, its confidence interval."""
    text = f"{scale * value:.{digits}f}"
    if name not in report.intervals:
        return text
    low, high = (f"{scale * bound:.{digits}f}" for bound in report.intervals[name])
    return f"{text}<small>{low} – {high}</small>"


def _det(systems: Sequence[SystemResult], is_target: np.ndarray) -> str:
    curves = {system.name: error_curve(system.scores, is_target) for system in systems}
    return (
        f'<figure class="det">{svg_text(det_figure(curves), ["DET curves", *curves])}<figcaption>'
        "Lower left is better. Circles: equal error rate. Triangles: minimum detection cost."
        "</figcaption></figure>"
    )


def _intervals(systems: Sequence[SystemResult]) -> str:
    """EERs with intervals, and the paired differences to the best system."""
    reports = {system.name: system.report for system in systems}
    if not systems[0].report.intervals:
        return ""
    level = f"{systems[0].report.confidence:.0%}"
    picture = svg_text(interval_figure(reports), ["EER with intervals", *reports])
    caption = f"<figcaption>{level} intervals, speakers resampled.</figcaption>"
    text = f"<figure>{picture}{caption}</figure>"
    compared = [system for system in systems if system.against_best]
    if not compared:
        return text
    rows = "\n".join(_difference_row(system) for system in compared)
    return (
        f"{text}<p>EER minus that of <b>{escape(systems[0].name)}</b>, in percentage points. Both "
        "systems see the same resampled speakers, so differences show that the intervals above "
        f'hide.</p><div class="wide"><table><tr><th></th><th>difference</th><th>{level} interval'
        f"</th><th>p</th></tr>\n{rows}</table></div>"
    )


def _difference_row(system: SystemResult) -> str:
    found = system.against_best["eer"]
    low, high = found.interval
    return (
        f"<tr><th>{escape(system.name)}</th><td>{100 * found.difference:+.2f}</td>"
        f"<td>{100 * low:+.2f} – {100 * high:+.2f}</td><td>{found.p_value:.3f}</td></tr>"
    )


def _histograms(systems: Sequence[SystemResult], is_target: np.ndarray) -> str:
    pictures = [
        f"<figure>{svg_text(figure, [f'scores of {system.name}'])}"
        f"<figcaption>{escape(system.name)}</figcaption></figure>"
        for system in systems
        for figure in [histogram_figure(system.scores, is_target, system.report.threshold)]
    ]
    return f'<div class="grid">{"".join(pictures)}</div>'


def _breakdown(systems: Sequence[SystemResult], column: str) -> str:
    parts = {system.name: system.report.breakdown[column] for system in systems}
    picture = svg_text(breakdown_figure(parts, column), [f"EER by {column}"])
    groups = next(iter(parts.values()))
    head = "".join(f"<th>{escape(system.name)}: EER %</th>" for system in systems)
    rows = "\n".join(
        f"<tr><th>{escape(group)}</th><td>{_counts(groups[group])}</td>"
        + "".join(f"<td>{_eer_cell(reports[group])}</td>" for reports in parts.values())
        + "</tr>"
        for group in groups
    )
    return (
        f'<figure>{picture}</figure><div class="wide"><table><tr><th></th><th>target / non-target'
        f"</th>{head}</tr>\n{rows}</table></div>"
    )


def _counts(report: VerificationReport | None) -> str:
    return "one class only" if report is None else f"{report.num_target} / {report.num_nontarget}"


def _eer_cell(report: VerificationReport | None) -> str:
    return "–" if report is None else _with_interval(report, "eer", report.eer, 100, 2)


GLOSSARY = """<dl>
<dt>EER</dt><dd>Equal error rate: where as many targets are rejected as non-targets accepted.</dd>
<dt>minDCF, actDCF (p)</dt><dd>Normalised detection cost when a share p of the trials are targets:
at the best threshold, and at the threshold that theory gives for log-likelihood ratios. 1 is what
answering without listening costs.</dd>
<dt>FRR at FAR</dt><dd>Share of targets rejected when at most that share of non-targets is
accepted.</dd>
<dt>Cllr, min Cllr</dt><dd>Cost of the scores as log-likelihood ratios over all priors, in bits, as
they are and after the best monotone recalibration.</dd>
<dt>Intervals</dt><dd>Bootstrap over speakers, not over trials: the trials of one speaker are not
independent, and intervals that take them as such are too narrow.</dd>
</dl>"""

STYLE = """
:root { color-scheme: light; font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
header { border-bottom: 3px solid #0072B2; margin-bottom: 1rem; }
h1 { margin: 0; font-size: 1.7rem; } header p { color: #555; margin: .3rem 0 .8rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .6rem; }
.note { background: #fff6e0; border-left: 4px solid #E69F00; padding: .5rem .8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
tr > th:first-child { text-align: left; white-space: nowrap; }
tr:first-child th { background: #f4f7fa; font-weight: 600; }
tr.best td, tr.best th { background: #eef6ee; } tr.best td { font-weight: 600; }
.mark { color: #00704f; font-size: .78rem; font-weight: 400; margin-left: .4rem; }
small { display: block; color: #777; white-space: nowrap; }
figure { margin: 0 0 .6rem; } figcaption { color: #555; font-size: .85rem; }
svg { max-width: 100%; height: auto; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1rem; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
