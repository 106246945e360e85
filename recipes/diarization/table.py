"""The table of what ``run.py`` wrote, as Markdown.

python recipes/diarization/table.py CONVERSATIONS OUT
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from speakervlad.diarization.der import DiarizationErrors, errors_by_recording
from speakervlad.diarization.turns import Turns, load_turns


def main(
    conversations: Annotated[Path, typer.Argument(help="Folder with reference.rttm.")],
    out: Annotated[Path, typer.Argument(help="What run.py wrote.")],
) -> None:
    """Print a row for every system, and DER by the number of speakers and by corpus."""
    reference = load_turns(conversations / "reference.rttm")
    systems = sorted(path.parent.name for path in out.glob("*/times.json"))
    print(
        "| system | DER | missed | false alarm | confusion | DER, collar 0.5 s | JER "
        "| speakers exact | mean error of their number | seconds of one core an hour |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    by_system = {}
    for system in systems:
        times = json.loads((out / system / "times.json").read_text())
        found = {name: Turns(name) for name in times} | load_turns(out / system)
        judged = {name: reference[name] for name in times}
        by_system[system] = errors_by_recording(judged, found)
        with_collar = errors_by_recording(judged, found, collar=0.5)
        print(row(system, by_system[system], with_collar, times))
    for title, part in (("speakers", -1), ("corpus", 1)):
        groups = sorted({name.split("-")[part] for name in reference})
        print(f"\n| DER by {title} | {' | '.join(groups)} |\n|---|{'---|' * len(groups)}")
        for system, errors in by_system.items():
            cells = [total(errors, group, part) for group in groups]
            print(f"| {system} | {' | '.join(cells)} |")


def total(errors: dict[str, DiarizationErrors], group: str, part: int) -> str:
    """DER of the recordings whose name has ``group`` at ``part``."""
    of_it = [found for name, found in errors.items() if name.split("-")[part] == group]
    return f"{sum(of_it, DiarizationErrors()).der:.1%}" if of_it else "-"


def row(
    system: str,
    errors: dict[str, DiarizationErrors],
    with_collar: dict[str, DiarizationErrors],
    times: dict[str, dict[str, float]],
) -> str:
    """One line of the table."""
    whole = sum(errors.values(), DiarizationErrors())
    off = np.array([found.num_found - found.num_speakers for found in errors.values()])
    audio, processor = (
        sum(each[what] for each in times.values()) for what in ("audio", "processor")
    )
    cells = [
        f"{whole.der:.1%}",
        *(f"{rate:.1%}" for rate in whole.rates),
        f"{sum(with_collar.values(), DiarizationErrors()).der:.1%}",
        f"{whole.jer:.1%}",
        f"{(off == 0).sum()} of {len(off)}",
        f"{np.abs(off).mean():.2f}",
        f"{3600 * processor / audio:.0f}",
    ]
    return f"| {system} | {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
