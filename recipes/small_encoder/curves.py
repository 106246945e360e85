"""Draw the curves of runs that followed each other, over the hours of audio that they have seen.

curves.py runs/small_encoder runs/small_encoder_final --out curves.svg

Above: the loss with its margin, and the share of the training crops that is classified right.
Below: EER of every validation list. Needs the extra ``plots``.
"""

import argparse
from pathlib import Path

from speakervlad.config import load_config
from speakervlad.figures import COLOURS, new_figure
from speakervlad.files import atomic_path
from speakervlad.training.run_folder import CONFIG_NAME, read_metrics

Curve = list[tuple[float, float]]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    curves, ends = read_curves(arguments.runs)
    with atomic_path(arguments.out) as path:
        draw(curves, ends).savefig(path, format=arguments.out.suffix[1:])


def read_curves(runs: list[Path]) -> tuple[dict[str, list[Curve]], list[float]]:
    """For every figure a curve per run, over hours; and the hours at which the runs end."""
    curves: dict[str, list[Curve]] = {}
    ends, start = [], 0.0
    for run in runs:
        config = load_config(run / CONFIG_NAME)
        hours_a_step = config.train.batch_size * config.data.crop_seconds / 3600
        records = read_metrics(run / "metrics.jsonl")
        for name in sorted({name for record in records for name in record}):
            points = [(start + r["step"] * hours_a_step, r[name]) for r in records if name in r]
            curves.setdefault(name, []).append(points)
        start += records[-1]["step"] * hours_a_step
        ends.append(start)
    return curves, ends


def draw(curves: dict[str, list[Curve]], ends: list[float]):  # noqa: ANN201 - matplotlib is optional
    """Two panels over one axis of hours."""
    figure = new_figure(8, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    share = above.twinx()
    for axes, name, colour in ((above, "loss", COLOURS[0]), (share, "accuracy", COLOURS[1])):
        for points in curves[name]:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.8)
        axes.set_ylabel(name, color=colour)
    lists = sorted(name for name in curves if name.startswith("eer/"))
    for name, colour in zip(["eer", *lists], ("#000000", *COLOURS), strict=False):
        points = [(hours, 100 * eer) for run in curves[name] for hours, eer in run]
        label = name.removeprefix("eer/") if name != "eer" else "mean"
        below.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, label=label)
    for axes in (above, below):
        for end in ends[:-1]:
            axes.axvline(end, color="0.7", linestyle=":")
    below.set_ylabel("EER in %")
    below.set_ylim(bottom=0)
    below.set_xlabel("hours of audio seen (dotted: the next part begins)")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
