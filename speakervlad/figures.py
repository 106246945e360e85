"""Pictures, drawn with matplotlib (extra ``plots``): what all of them share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speakervlad.errors import InputError
from speakervlad.extras import require
from speakervlad.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


def check_drawable() -> None:
    """Say which extra to install where pictures cannot be drawn.

    Raises:
        InputError: matplotlib or scipy is not installed.
    """
    for module in ("matplotlib", "matplotlib.figure", "scipy"):
        require(module, "plots", "a picture")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window, sizes in inches.

    Raises:
        InputError: matplotlib or scipy is not installed.
    """
    check_drawable()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one plain pair of axes, sizes in inches."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", zorder=0)
    axes.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a picture; the suffix chooses PNG, SVG or PDF.

    Raises:
        InputError: another suffix, or a path that cannot be written.
    """
    path = Path(path)
    check_picture(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def check_picture(path: Path) -> None:
    """Refuse a picture type that cannot be written, before the work."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"{path}: unknown picture type. Use {', '.join(PICTURE_SUFFIXES)}.")
