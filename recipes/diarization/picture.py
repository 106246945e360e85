"""Draw who speaks when in one recording: its waveform, the reference and what a system found.

python recipes/diarization/picture.py talk.wav reference.rttm found.rttm docs/turns.svg
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from speakervlad.audio.spans import load_audio
from speakervlad.diarization.turns import Turns, load_turns
from speakervlad.files import atomic_path
from speakervlad.sound import SAMPLE_RATE

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000"]


def main(
    recording: Annotated[Path, typer.Argument(help="What both are of.")],
    reference: Annotated[Path, typer.Argument(help="Turns of who spoke.")],
    found: Annotated[Path, typer.Argument(help="Turns that were found.")],
    out: Annotated[Path, typer.Argument(help="The picture, .svg or .png.")],
    seconds: Annotated[float, typer.Option(help="From the beginning on.")] = 90.0,
) -> None:
    """Draw three lanes over time."""
    spoken = load_turns(reference)[recording.stem]
    said = matched(spoken, load_turns(found)[recording.stem])
    samples = load_audio(recording)[: round(seconds * SAMPLE_RATE)]
    figure = Figure(figsize=(10, 4), layout="constrained")
    wave, lanes, ours = figure.subplots(3, 1, sharex=True, height_ratios=(1, 2, 2))
    peaks = np.abs(samples[: len(samples) // 800 * 800]).reshape(-1, 800).max(axis=1)
    times = np.arange(len(peaks)) * 800 / SAMPLE_RATE
    wave.fill_between(times, -peaks, peaks, color="#888888", linewidth=0)
    wave.set_yticks([])
    names = list(spoken.speakers)
    names += [name for name in said.speakers if name not in names]
    draw(lanes, spoken, names[: len(spoken.speakers)], "reference")
    draw(ours, said, names, "found")
    ours.set_xlim(0, len(samples) / SAMPLE_RATE)
    ours.set_xlabel("seconds")
    with atomic_path(out) as path:
        figure.savefig(path, dpi=110)


def matched(reference: Turns, found: Turns) -> Turns:
    """Found turns under the names of the speakers with whom they share most seconds."""
    shared = np.array(
        [
            [
                sum(
                    max(0.0, min(one.end, other.end) - max(one.start, other.start))
                    for one in reference.turns
                    if one.speaker == name
                    for other in found.turns
                    if other.speaker == label
                )
                for label in found.speakers
            ]
            for name in reference.speakers
        ]
    )
    names, labels = list(reference.speakers), list(found.speakers)
    rows, columns = linear_sum_assignment(-shared)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return found.rename({labels[column]: names[row] for row, column in pairs})


def draw(axes: Axes, turns: Turns, names: list[str], title: str) -> None:
    """A lane for every speaker."""
    for lane, name in enumerate(names):
        spans = [(turn.start, turn.seconds) for turn in turns.turns if turn.speaker == name]
        axes.broken_barh(spans, (lane - 0.4, 0.8), color=COLOURS[lane % len(COLOURS)])
    axes.set_yticks(range(len(names)), [name.rpartition("/")[2] for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(title, loc="left", fontsize=10)


if __name__ == "__main__":
    typer.run(main)
