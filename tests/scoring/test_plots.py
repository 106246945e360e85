import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import ndtri

from speakervlad.errors import InputError
from speakervlad.figures import save_figure
from speakervlad.scoring.metrics import error_curve, verification_report
from speakervlad.scoring.plots import (
    breakdown_figure,
    det_figure,
    histogram_figure,
    interval_figure,
    spread_ticks,
    svg_text,
    thinned_deviates,
)

pytest.importorskip("matplotlib")


@pytest.fixture
def systems(gaussian_scores):
    return {f"d={d}": error_curve(*gaussian_scores(d, 3000, 3000)) for d in (1.0, 2.5)}


def test_gaussians_make_a_straight_line_of_slope_minus_one(systems):
    for distance, curve in zip((1.0, 2.5), systems.values(), strict=True):
        x, y = thinned_deviates(curve)
        inside = (abs(x) < 2) & (abs(y) < 2)
        np.testing.assert_allclose(y[inside], -distance - x[inside], atol=0.02)


def test_thinning_moves_nothing_visible(systems):
    curve = systems["d=1.0"]
    x, y = thinned_deviates(curve)
    assert len(x) < len(curve.thresholds) / 2
    inside = (curve.false_accept > 0.02) & (curve.miss > 0.02)
    found = np.interp(ndtri(curve.false_accept[inside]), x, y)
    np.testing.assert_allclose(found, ndtri(curve.miss[inside]), atol=0.02)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_det_is_written_in_every_form(tmp_path, systems, suffix):
    save_figure(det_figure(systems), tmp_path / f"det{suffix}")
    assert (tmp_path / f"det{suffix}").stat().st_size > 1000


def test_unknown_picture_type(tmp_path, systems):
    with pytest.raises(InputError, match="unknown picture type"):
        save_figure(det_figure(systems), tmp_path / "det.bmp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scores", [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
def test_extreme_systems_can_be_drawn(scores):
    scores, is_target = np.array(scores), np.array([True, False, False])
    report = verification_report(scores, is_target)
    figures = [
        det_figure({"extreme": error_curve(scores, is_target)}),
        histogram_figure(scores, is_target, report.threshold),
        interval_figure({"extreme": report}),
        breakdown_figure({"extreme": {"f": report, "m": None}}, "gender"),
    ]
    for figure in figures:
        ET.fromstring(svg_text(figure, ["<a> & b"]))


def test_same_figure_same_svg(systems):
    first, second = (svg_text(det_figure(systems), ["x"]) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("module", ["matplotlib.figure", "scipy"])
def test_missing_modules_are_named(monkeypatch, systems, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"speakervlad\[plots\]"):
        det_figure(systems)


@pytest.mark.parametrize("limits", [(0.0001, 0.4), (0.001, 0.995), (0.2, 0.8)])
def test_tick_labels_do_not_collide(limits):
    ends = ndtri(np.array(limits))
    ticks = spread_ticks(ends)
    assert len(ticks) >= 3
    assert np.diff(ndtri(ticks)).min() > 0.06 * (ends[1] - ends[0])


def test_the_legend_hides_no_curve(systems):
    many = {f"system {n}": curve for n in range(6) for curve in systems.values()}
    figure = det_figure(many)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    legend = figure.legends[0].get_window_extent()
    assert not legend.overlaps(figure.axes[0].get_window_extent())
    texts = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert not any(one.overlaps(other) for one, other in pairwise(texts))


def test_groups_without_any_error_rate_are_left_out(gaussian_scores):
    report = verification_report(*gaussian_scores(2.0, 50, 50))
    parts = {"a": {"f": report, "f / m": None}, "b": {"f": None, "f / m": None}}
    axes = breakdown_figure(parts, "gender").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["f"]
    assert len(axes.patches) == 1
