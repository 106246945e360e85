"""What the page asks for, one library call each, as plain numbers."""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from speakervlad.audio.quality import QUIET, Level, is_band_limited
from speakervlad.audio.recording import Recording
from speakervlad.encoder.encoder import Encoder
from speakervlad.page.guard import MAX_BODY_BYTES
from speakervlad.page.pictures import picture
from speakervlad.page.uploads import Form
from speakervlad.people.people import PeopleStore
from speakervlad.scoring.align import align
from speakervlad.scoring.checks import check_trials
from speakervlad.scoring.judge import SystemResult, judge_systems
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.metrics import error_curve, hint_at_reversed
from speakervlad.scoring.plots import det_limits, score_bins, spread_ticks, thinned_deviates
from speakervlad.scoring.report import report_page
from speakervlad.scoring.systems import load_scores
from speakervlad.scoring.trials import Trials
from speakervlad.verification.rules import Rule
from speakervlad.verification.verifier import SHORT_SECONDS

# False-acceptance rates that the page offers, as far as the encoder has thresholds for them.
RATES = (0.1, 0.01, 0.001, 0.0001)
# Of speech; with less of it a score says little.
LITTLE_SPEECH = 1.0
NUM_BINS = 60
NUM_RESAMPLES = 400
# Bytes of a request that are not its recordings.
SLACK = 100_000


@dataclass(frozen=True)
class Desk:
    """What all requests share.

    Attributes:
        embedder: the encoder.
        where: the file of enrolled people; None for the usual one.
    """

    embedder: Encoder
    where: str | None = None

    @cached_property
    def people(self) -> PeopleStore:
        """The store, made where none is."""
        return PeopleStore(self.where, self.embedder, create=True)


def about(desk: Desk) -> dict:
    """The encoder, the scale of its scores, and how much a request may send."""
    folder = desk.embedder.folder
    name = "in memory" if folder is None else folder.name
    return {
        "encoder": name,
        "scale": scale(desk.embedder),
        "most_bytes": MAX_BODY_BYTES - SLACK,
        "live": hears_live(),
    }


def hears_live() -> bool:
    """Whether what WebSockets need is installed; the rest of the page does without."""
    return importlib.util.find_spec("wsproto") is not None


def scale(embedder: Encoder) -> dict:
    """The rules that may decide, and the probability of the same speaker at every cosine."""
    cosines = np.linspace(-0.2, 1, 121)
    found: dict = {"cosines": cosines.round(3).tolist(), "rules": rules(embedder)}
    if embedder.calibration is not None:
        ratios = embedder.calibration.log_likelihood_ratio(cosines)
        found["probability"] = embedder.calibration.probability(ratios, 0.5).round(4).tolist()
    return found


def rules(embedder: Encoder) -> list[dict]:
    """What ``verify`` decides by, first by default and then at false-acceptance rates."""
    known = embedder.thresholds
    rates = sorted(known.false_accept_rate) if known is not None else []
    found: list[tuple[float | None, Rule]] = []
    if known is not None or embedder.calibration is not None:
        found.append((None, embedder.rule()))
    found += [
        (rate, embedder.rule(far=rate)) for rate in RATES if rates and rates[0] <= rate <= rates[-1]
    ]
    return [
        {"rate": rate, "threshold": rule.threshold, "words": rule.words} for rate, rule in found
    ]


def verification(desk: Desk, form: Form) -> dict:
    """Two recordings: how alike their voices are, and what each of them looks like."""
    uploads = [form.file("first"), form.file("second")]
    vectors, described = [], []
    recordings = [upload.recording() for upload in uploads]
    for upload, recording in zip(uploads, recordings, strict=True):
        vector, shares = desk.embedder.embed_and_assign(recording)
        vectors.append(vector)
        described.append(picture(desk.embedder, recording, shares) | heard(recording, upload.notes))
    score = float(vectors[0] @ vectors[1])
    found: dict = {"score": score, "recordings": described}
    if desk.embedder.calibration is not None:
        answer = desk.embedder.rule().judge(score)
        found |= {
            "log_likelihood_ratio": answer.log_likelihood_ratio,
            "probability": answer.probability,
        }
    return found


def heard(recording: Recording, remarks: list[str]) -> dict:
    """Name, speech and what makes an answer about a recording less certain than it looks.

    Args:
        recording: what was sent.
        remarks: what was noticed while it was decoded.
    """
    samples = recording.whole.read(0, recording.whole.num_samples)
    found = recording.find_speech()
    segments, spoken = found.segments, found.spoken_seconds
    notes = list(dict.fromkeys(remarks))
    if not len(segments):
        notes.append("no speech was found: the answer says nothing about a voice")
    elif recording.seconds < SHORT_SECONDS or spoken < LITTLE_SPEECH:
        notes.append(f"{spoken:.1f} s of speech are little: errors are far more frequent")
    if is_band_limited(samples):
        notes.append("nothing above 4 kHz: telephone audio?")
    if Level(samples).rms < QUIET:
        notes.append("very quiet: little of the voice is left")
    return {"name": recording.name, "speech": segments.round(3).tolist(), "notes": notes}


def judged(form: Form) -> tuple[Trials, list[SystemResult]]:
    """The score files of a form, judged, with the labels of its trial list if it has one."""
    uploads = form.all("scores")
    key = read_key(form)
    scored = []
    for upload in uploads:
        with upload.named():
            scored.append(load_scores(upload.path, key))
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
        return load_trials(upload.path)


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
        "notes": [*checked.problems, *checked.notes, *hints_at_reversed(results)],
        "axis": axis(limits),
        "systems": systems,
    }


def hints_at_reversed(results: list[SystemResult]) -> list[str]:
    """Sentences on systems whose scores are higher for different speakers."""
    hints = {result.name: hint_at_reversed(result.report) for result in results}
    return [f"{name}: {hint}" for name, hint in hints.items() if hint is not None]


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
    edges = score_bins(scores, NUM_BINS)
    inside = np.clip(scores, edges[0], edges[-1])
    heights = {
        name: _short(np.histogram(inside[chosen], edges, density=True)[0])
        for name, chosen in (("target", is_target), ("nontarget", ~is_target))
    }
    return {"edges": _short(edges)} | heights


def _short(values: np.ndarray) -> list[float]:
    """Numbers to six digits, whatever their scale."""
    return [float(f"{value:.6g}") for value in values]


def kept_report(form: Form) -> str:
    """The page that the command ``report`` writes.

    Raises:
        InputError: as ``report``, or matplotlib is not installed.
    """
    trials, results = judged(form)
    return report_page(trials, results, title=", ".join(result.name for result in results))
