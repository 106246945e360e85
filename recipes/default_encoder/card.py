"""The model card of an encoder that ships, from its evaluation and the texts of its recipe."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

RECIPES = Path(__file__).parents[1]
SHOWN_RATES = (0.01, 0.001, 0.0001)
WHOLE, HELD, QUIET = "whole", "held", "quiet"
LEFT_OUT_HEAD = """## Two corpora left out

EER in % of two short trainings from nothing, {crops} crops each, of a network half as wide as this
one. They differ in one thing: the second knew nothing of the corpora in bold, neither speech nor
noise. A ratio above those of the other lists, which tell how much is chance, is what a corpus is
spared by having taken part; the errors themselves are those of a short training.

"""
LEVEL_HEAD = """## Level

EER in % when the test side of every trial has its peak at -46 dB of full scale: the level alone,
and rounded to 16 bits, of which so quiet a recording uses eight; that adds noise.

"""
OPERATING_HEAD = """False acceptances / false rejections in % at these thresholds, list by list; in
brackets at the threshold that the other lists alone would have given.

"""


def render_card(folder: Path, name: str) -> str:
    """The text of ``MODEL_CARD.md``.

    Args:
        folder: of the encoder, with ``evaluation.json``, ``operating.json``, ``thresholds.json``.
        name: by which ``load_encoder`` knows it.
    """
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "operating.json").read_text(encoding="utf-8"))
    thresholds = json.loads((folder / "thresholds.json").read_text(encoding="utf-8"))
    texts = RECIPES / f"{name}_encoder"
    facts = json.loads((texts / "card.json").read_text(encoding="utf-8"))
    peers = facts["peers"]
    sections = (
        (texts / "card_head.md").read_text(encoding="utf-8").format(name=name),
        "## Training data\n\n" + table(("corpus", "speakers", "hours", "licence"), facts["data"]),
        facts["attribution"],
        "## Whole recordings\n\n" + accuracy_table(evaluation[WHOLE], peers, facts["languages"]),
        facts["held"] + "\n\n" + held_table(evaluation.pop(HELD), facts),
        left_out_section(texts / "left_out.json"),
        "## By duration\n\nEER in % with its interval, and minDCF(0.01); both recordings cut to so "
        "many seconds, trials with a shorter one left out.\n\n" + duration_table(evaluation),
        LEVEL_HEAD + level_table(found[QUIET], evaluation[WHOLE]),
        "## Thresholds\n\n" + threshold_table(thresholds),
        OPERATING_HEAD + operating_table(found["rates"]),
        (texts / "card_tail.md").read_text(encoding="utf-8"),
    )
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def held_table(reports: dict, facts: dict) -> str:
    """Corpora that took no part in the training, beside the peers that were measured on them."""
    peers = {
        system: values
        for system, values in facts["peers"].items()
        if reports.keys() <= values.keys()
    }
    return accuracy_table(reports, peers, facts["languages"])


def left_out_section(path: Path) -> str:
    """What two trainings tell that differ in the corpora they knew; nothing without them."""
    if not path.is_file():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    return LEFT_OUT_HEAD.format(crops=f"{found['crops']:,}") + left_out_table(found)


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
    means = (
        f"{sum(values[name] for name in reports) / len(reports):.2f}" for values in peers.values()
    )
    rows.append(("mean", "", f"**{mean:.2f}**", "", *means))
    return table(
        ("list", "language", "EER %", "minDCF(0.01)", *(f"{system} EER %" for system in peers)),
        rows,
    )


def left_out_table(found: dict) -> str:
    """EER of both runs by list, and what the second one's is of the first one's."""
    rows = []
    for name, known in found["with"].items():
        unknown, shown = found["without"][name], name
        if name in found["lists"]:
            shown = f"**{name}**"
        rows.append((shown, f"{100 * known:.2f}", f"{100 * unknown:.2f}", f"{unknown / known:.2f}"))
    return table(("list", "all corpora", "without the two", "ratio"), rows)


def level_table(levels: dict, whole: dict) -> str:
    """EER at full level and at quiet ones."""
    columns = [{name: report["eer"] for name, report in whole.items()}, *levels.values()]
    rows = [(name, *(f"{100 * column[name]:.2f}" for column in columns)) for name in whole]
    means = (f"{100 * sum(column.values()) / len(column):.2f}" for column in columns)
    return table(("list", "as it is", *levels), [*rows, ("mean", *means)])


def operating_table(rates: dict) -> str:
    """``FAR (without the list) / FRR (without the list)`` by list and rate."""
    rows = []
    for name in next(iter(rates.values())):
        cells = []
        for lists in rates.values():
            (far, frr), (far_others, frr_others) = lists[name]["shipped"], lists[name]["others"]
            accepted = f"{100 * far:.1f} ({100 * far_others:.1f})"
            cells.append(f"{accepted} / {100 * frr:.0f} ({100 * frr_others:.0f})")
        rows.append((name, *cells))
    heads = (f"FAR / FRR at FAR {100 * float(rate):g} %" for rate in rates)
    return table(("list", *heads), rows)


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
        for rate, value in reversed(thresholds["false_accept_rate"].items())
        if float(rate) in SHOWN_RATES
    ]
    return table(("at", "accept from a cosine of"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
