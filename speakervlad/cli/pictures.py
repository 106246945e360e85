"""The pictures that ``metrics`` draws when asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speakervlad.files import check_writable

if TYPE_CHECKING:
    import numpy as np

    from speakervlad.evaluation.figures import OperatingPoint
    from speakervlad.evaluation.metrics import VerificationReport


@dataclass(frozen=True)
class Pictures:
    """Where the DET curve, the score histogram and the bars of a breakdown go, if anywhere."""

    det: Path | None = None
    histogram: Path | None = None
    bars: Path | None = None

    def check(self) -> None:
        """Refuse paths that cannot be written or are no pictures, before any work is done."""
        from speakervlad.evaluation.plots import check_picture

        for path in filter(None, (self.det, self.histogram, self.bars)):
            check_writable(path)
            check_picture(path)

    def draw(
        self,
        name: str,
        scores: "np.ndarray",
        is_target: "np.ndarray",
        point: "OperatingPoint",
        threshold: float,
        parts: "Mapping[str, Mapping[str, VerificationReport | None]]",
    ) -> None:
        """Draw one system's scores; the bars show the first breakdown of ``parts``."""
        from speakervlad.evaluation import plots
        from speakervlad.evaluation.curves import error_curve

        if self.det is not None:
            curves = {name: error_curve(scores, is_target)}
            plots.save_figure(plots.det_figure(curves, point), self.det)
        if self.histogram is not None:
            figure = plots.histogram_figure(scores, is_target, threshold, name)
            plots.save_figure(figure, self.histogram)
        if self.bars is not None:
            column, groups = next(iter(parts.items()))
            plots.save_figure(plots.breakdown_figure({name: groups}, column), self.bars)
