"""What the page asks for, one library call each, as plain numbers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from speakervlad.data.audio import QUIET, SAMPLE_RATE, Level, is_band_limited
from speakervlad.errors import InputError
from speakervlad.evaluation.calibration import Calibration, load_calibration
from speakervlad.evaluation.checks import check_trials
from speakervlad.evaluation.judge import SystemResult, align, judge_systems, read_scored
from speakervlad.evaluation.lists import Trials, read_trials
from speakervlad.evaluation.metrics import error_curve
from speakervlad.evaluation.plots import det_limits, spread_ticks, thinned_deviates
from speakervlad.evaluation.report import write_report
from speakervlad.inference.card import Thresholds, companion, read_thresholds
from speakervlad.inference.engine import Embedder
from speakervlad.serve.pictures import picture
from speakervlad.serve.uploads import Form, Upload

# What the model card calls too short to be fit for.
SHORT_SECONDS = 2.0
NUM_BINS = 60
NUM_RESAMPLES = 400


@dataclass(frozen=True)
class Desk:
    """What all requests share.

    Attributes:
        embedder: the encoder.
        store: the file of enrolled people; None for the usual one.
    """

    embedder: Embedder
    store: Path | None = None

    @cached_property
    def _encoder(self) -> Path:
        assert self.embedder.folder is not None
        return self.embedder.folder

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """Where the encoder decides; None if it was never validated."""
        return read_thresholds(self._encoder, self.embedder.backend.notes)

    @cached_property
    def calibration(self) -> Calibration | None:
        """Beside the encoder; None without."""
        path = companion(self._encoder, "calibration.json")
        return load_calibration(path) if path.is_file() else None


def about(desk: Desk) -> dict:
    """The encoder, and the scale of its scores."""
    return {"encoder": desk._encoder.name, "dim": desk.embedder.dim, "scale": scale(desk)}


def scale(desk: Desk) -> dict:
    """Thresholds, and what a calibration makes of every cosine."""
    cosines = np.linspace(-0.2, 1, 121)
    known, calibration = desk.thresholds, desk.calibration
    found: dict = {"cosines": cosines.round(3).tolist(), "thresholds": []}
    if known is not None:
        found["thresholds"] = [{"rate": None, "value": known.eer}] + [
            {"rate": rate, "value": known.false_accept_rate[rate]}
            for rate in (0.01, 0.001, 0.0001)
            if rate in known.false_accept_rate
        ]
    if calibration is not None:
        ratios = calibration.log_likelihood_ratio(cosines)
        found["probability"] = calibration.probability(ratios, 0.5).round(4).tolist()
    return found


def verification(desk: Desk, form: Form) -> dict:
    """Two recordings: how alike their voices are, and what each of them looks like."""
    one, other = form.file("first"), form.file("second")
    first, second = one.samples(), other.samples()
    score = float(vector(desk, one, first) @ vector(desk, other, second))
    found = {
        "score": score,
        "recordings": [described(desk, one, first), described(desk, other, second)],
    }
    if desk.calibration is not None:
        ratio = float(desk.calibration.log_likelihood_ratio(score))
        probability = float(desk.calibration.probability(ratio, 0.5))
        found |= {"log_likelihood_ratio": ratio, "probability": probability}
    return found


def vector(desk: Desk, upload: Upload, samples: np.ndarray) -> np.ndarray:
    """The unit vector of a recording; errors name it."""
    try:
        return desk.embedder.embed(samples)
    except InputError as error:
        raise InputError(str(error).replace("waveform", upload.name, 1)) from error


def described(desk: Desk, upload: Upload, samples: np.ndarray) -> dict:
    """A recording for the eye, and what is poor about it."""
    found = picture(desk.embedder, samples)
    return found | {"name": upload.name, "notes": notes(samples)}


def notes(samples: np.ndarray) -> list[str]:
    """What makes an answer about a recording less certain than it looks."""
    found = []
    if len(samples) < SHORT_SECONDS * SAMPLE_RATE:
        found.append(f"shorter than {SHORT_SECONDS:g} s: errors are far more frequent")
    if is_band_limited(samples):
        found.append("nothing above 4 kHz: telephone audio?")
    if Level(samples).rms < QUIET:
        found.append("very quiet: little of the voice is left")
    return found


def judged(form: Form) -> tuple[Trials, list[SystemResult]]:
    """The score files of a form, judged, with the labels of its trial list if it has one."""
    uploads = form.all("scores")
    key = read_key(form)
    scored = []
    for upload in uploads:
        with upload.named():
            scored.append(read_scored(upload.path, key))
    trials, columns = align(scored)
    names = unique([Path(upload.name).stem for upload in uploads])
    systems = dict(zip(names, columns.T, strict=True))
    return trials, judge_systems(trials, systems, num_resamples=NUM_RESAMPLES)


def read_key(form: Form) -> Trials | None:
    """The trial list of a form."""
    if "trials" not in form.files:
        return None
    upload = form.file("trials")
    with upload.named():
        return read_trials(upload.path)


def unique(names: list[str]) -> list[str]:
    """The names, numbered where they repeat."""
    return [
        f"{name} ({number})" if names.count(name) > 1 else name
        for number, name in enumerate(names, 1)
    ]


def report(form: Form) -> dict:
    """Figures, DET curves and histograms of score files."""
    trials, results = judged(form)
    labels = trials.labels()
    checked = check_trials(trials)
    curves = {result.name: error_curve(result.scores, labels) for result in results}
    limits = det_limits(curves)
    systems = []
    for result in results:
        x, y = thinned_deviates(curves[result.name])
        systems.append(
            {
                "name": result.name,
                "figures": result.report.to_json(),
                "det": {"x": x.round(4).tolist(), "y": y.round(4).tolist()},
                "histogram": histogram(result.scores, labels),
            }
        )
    return {
        "list": checked.known_as,
        "notes": [*checked.problems, *checked.notes],
        "axis": axis(limits),
        "systems": systems,
    }


def axis(limits: tuple[float, float]) -> dict:
    """Both axes of a DET plot, in normal deviates."""
    from scipy.special import ndtri

    ends = ndtri(limits)
    ticks = spread_ticks(ends)
    return {
        "limits": ends.tolist(),
        "ticks": [{"at": float(ndtri(tick)), "name": f"{100 * tick:g}"} for tick in ticks],
    }


def histogram(scores: np.ndarray, is_target: np.ndarray) -> dict:
    """Densities of both classes over the same bins."""
    low, high = np.quantile(scores, [0.0005, 0.9995])
    margin = 0.0 if low < high else 0.5
    edges = np.linspace(low - margin, high + margin, NUM_BINS + 1)
    inside = np.clip(scores, edges[0], edges[-1])
    heights = {
        name: np.histogram(inside[chosen], edges, density=True)[0].round(5).tolist()
        for name, chosen in (("target", is_target), ("nontarget", ~is_target))
    }
    return {"edges": edges.round(5).tolist()} | heights


def report_page(form: Form) -> str:
    """The page that the command ``report`` writes.

    Raises:
        InputError: as ``report``, or matplotlib is not installed.
    """
    trials, results = judged(form)
    path = form.folder / "report.html"
    write_report(path, trials, results, title=", ".join(result.name for result in results))
    return path.read_text(encoding="utf-8")
