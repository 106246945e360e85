"""The model card of an encoder that ships, from its evaluation and the facts in ``card.json``."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
WHOLE = "whole"


def render_card(folder: Path, name: str) -> str:
    """The text of ``MODEL_CARD.md``.

    Args:
        folder: of the encoder, with ``evaluation.json`` and ``thresholds.json``.
        name: by which ``load_encoder`` knows it.
    """
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    thresholds = json.loads((folder / "thresholds.json").read_text(encoding="utf-8"))
    facts = json.loads((HERE / "card.json").read_text(encoding="utf-8"))
    peers = facts["peers"]
    sections = (
        (HERE / "card_head.md").read_text(encoding="utf-8").format(name=name),
        "## Training data\n\n" + table(("corpus", "speakers", "hours", "licence"), facts["data"]),
        facts["attribution"],
        "## Whole recordings\n\n" + accuracy_table(evaluation[WHOLE], peers, facts["languages"]),
        "## By duration\n\nEER in % with its interval, and minDCF(0.01); both recordings cut to so "
        "many seconds, trials with a shorter one left out.\n\n" + duration_table(evaluation),
        "## Thresholds\n\n" + threshold_table(thresholds),
        (HERE / "card_tail.md").read_text(encoding="utf-8"),
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def accuracy_table(reports: dict, peers: dict, languages: dict) -> str:
    """EER and minDCF with intervals, beside the EER of public systems."""
    rows = []
    for name, report in reports.items():
        low, high = (100 * bound for bound in report["intervals"]["eer"])
        cost_low, cost_high = report["intervals"]["min_dcf 0.01"]
        rows.append(
            (
                name,
                languages[name],
                f"**{100 * report['eer']:.2f}** [{low:.1f}, {high:.1f}]",
                f"{report['min_dcf']['0.01']:.3f} [{cost_low:.2f}, {cost_high:.2f}]",
                *(f"{peers[system][name]:.2f}" for system in peers),
            )
        )
    mean = 100 * sum(report["eer"] for report in reports.values()) / len(reports)
    means = (f"{sum(values.values()) / len(values):.2f}" for values in peers.values())
    rows.append(("mean", "", f"**{mean:.2f}**", "", *means))
    return table(
        ("list", "language", "EER %", "minDCF(0.01)", *(f"{system} EER %" for system in peers)),
        rows,
    )


def duration_table(evaluation: dict) -> str:
    """EER and minDCF by list and duration."""
    kinds = list(evaluation)
    rows = [
        (name, *(accuracy(evaluation[kind][name]) for kind in kinds)) for name in evaluation[WHOLE]
    ]
    return table(("list", *kinds), rows)


def accuracy(report: dict | None) -> str:
    """``6.1 [4, 8] 0.45``: EER in %, its interval, minDCF; empty where too few trials were left."""
    if report is None:
        return ""
    low, high = (100 * bound for bound in report["intervals"]["eer"])
    return f"{100 * report['eer']:.1f} [{low:.0f}, {high:.0f}] {report['min_dcf']['0.01']:.2f}"


def threshold_table(thresholds: dict) -> str:
    """Cosines at which to accept, for the lists together and each alone."""
    rows = [("equal error rate", f"{thresholds['eer']:.3f}")]
    rows += [
        (f"equal error rate of {name} alone", f"{value:.3f}")
        for name, value in thresholds["eer_by_list"].items()
    ]
    rows += [
        (f"false acceptance {100 * float(rate):g} %", f"{value:.3f}")
        for rate, value in thresholds["false_accept_rate"].items()
    ]
    return table(("at", "accept from a cosine of"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
