"""Open-set identification on development lists: the default encoder and Resemblyzer.

    python benchmarks/identification.py DEV.csv [--held HELD.csv] [--plot DET.svg]

Half of the speakers are enrolled with three utterances each; their other utterances and all of the
other half are asked about. FNIR: share of the enrolled that are not given their own name; FPIR:
share of the others that are given one. `error` needs Resemblyzer (``pip install resemblyzer``) for
its column; `time` fills a store with 100,000 people, which takes minutes.
"""

import argparse
import importlib.util
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speakervlad.audio.recording import Recording
from speakervlad.audio.spans import load_audio
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.models.sums import PoolingSums
from speakervlad.people.cohort import load_cohort
from speakervlad.people.gallery import Gallery
from speakervlad.people.hearing import Heard
from speakervlad.people.matching import Matcher
from speakervlad.people.people import PeopleStore
from speakervlad.people.records import Change, Header, Match, Person
from speakervlad.people.voices import group
from speakervlad.tables.manifest import Manifest, load_manifest

ENROLLED = 3
RATES = (0.01, 0.05)
SIZES = (10, 50, None)
# Of speakers, with replacement.
RESAMPLES = 1000
ROUNDS = 10


@dataclass(frozen=True)
class Material:
    """Recordings of one system: whose they are, unit vectors, and how several become one."""

    speakers: np.ndarray
    corpora: np.ndarray
    vectors: np.ndarray
    # Rows to the voices (voices, dim) of one person.
    enrol: Callable[[Sequence[int]], np.ndarray]

    def of(self, corpus: str) -> np.ndarray:
        """Rows of a corpus, or of all."""
        return np.flatnonzero((self.corpora == corpus) | (corpus == "all"))


@dataclass(frozen=True)
class Trial:
    """One draw: best cosines and owners of everybody's questions.

    Attributes:
        gallery: (voices, dim) vectors.
        owners: (voices,) whose they are.
        own: (questions of enrolled people,) the best cosine where it is their own, else -inf.
        own_speakers: who asks.
        other: (questions of others,) the best cosine.
        other_speakers: who asks.
    """

    gallery: np.ndarray
    owners: np.ndarray
    own: np.ndarray
    own_speakers: np.ndarray
    other: np.ndarray
    other_speakers: np.ndarray


class Strangers(NamedTuple):
    """What the toolkit takes thresholds from: a cohort, and what pairs of strangers reach."""

    vectors: np.ndarray
    same_voice: Callable[[float], float | None]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--held", type=Path, help="of corpora that took no part in any training")
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--parts", nargs="+", default=["error", "time"])
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--apart", type=float, default=-1.0, help="cosine below which voices part")
    parser.add_argument("--without-resemblyzer", action="store_true")
    arguments = parser.parse_args()
    embedder = load_encoder(arguments.encoder)
    if "error" in arguments.parts:
        measure_errors(embedder, arguments)
    if "time" in arguments.parts:
        measure_time(embedder, arguments.people)


def measure_errors(embedder: Encoder, arguments: argparse.Namespace) -> None:
    """Print a table for each system, and draw their DET curves."""
    paths = [path for path in (arguments.manifest, arguments.held) if path is not None]
    manifests = [load_manifest(path) for path in paths]
    assert embedder.folder is not None
    assert embedder.fingerprint is not None
    known = embedder.thresholds
    strangers = Strangers(
        load_cohort(embedder.folder, embedder.fingerprint).vectors,
        (lambda _: None) if known is None else known.near,
    )
    systems = {"speakervlad": [our_material(embedder, each, arguments.apart) for each in manifests]}
    if not arguments.without_resemblyzer and importlib.util.find_spec("resemblyzer"):
        systems["Resemblyzer"] = [resemblyzer_material(each) for each in manifests]
    else:
        print("Resemblyzer: left out")
    curves = {}
    for name, materials in systems.items():
        ours = strangers if name == "speakervlad" else None
        print(f"\n{name}\n{HEADER}")
        for size in SIZES:
            curves[name] = print_line(materials[0], "all", size, ours)
        for material in materials:
            for corpus in sorted(set(material.corpora.tolist())):
                if can_enrol(material, corpus):
                    print_line(material, corpus, None, ours)
    if arguments.plot is not None:
        draw(curves, arguments.plot)


def can_enrol(material: Material, corpus: str) -> bool:
    """Whether some of several speakers have utterances left once they are enrolled."""
    counts = np.unique(material.speakers[material.of(corpus)], return_counts=True)[1]
    return len(counts) > 1 and bool((counts > ENROLLED).any())


HEADER = (
    "| of | people | FNIR % at FPIR 1 % | FNIR % at FPIR 5 % | FPIR % asked 1 %, FNIR % there | "
    "asked 5 % |\n|---|---|---|---|---|---|"
)


def print_line(
    material: Material, corpus: str, size: int | None, strangers: Strangers | None
) -> list[Trial]:
    """One line of the table, over ``ROUNDS`` draws; returns them."""
    trials = [draw_trial(material, material.of(corpus), size, seed) for seed in range(ROUNDS)]
    cells = [corpus, f"{np.mean([len(set(trial.owners)) for trial in trials]):.0f}"]
    for rate in RATES:
        values = [fnir_at(trial, rate) for trial in trials]
        low, high = interval(trials, rate)
        cells.append(f"{100 * np.mean(values):.1f} [{100 * low:.1f}, {100 * high:.1f}]")
    for rate in RATES:
        if strangers is None:
            continue
        pairs = [realised(trial, rate, strangers) for trial in trials]
        cells.append(", ".join(f"{100 * value:.1f}" for value in np.mean(pairs, axis=0)))
    print("| " + " | ".join(cells) + " |", flush=True)
    return trials


def draw_trial(material: Material, rows: np.ndarray, size: int | None, seed: int) -> Trial:
    """Enrol half of the speakers, or ``size`` of them, and ask about everything else."""
    rng = np.random.default_rng(seed)
    of_speaker = {
        name: rng.permutation(rows[material.speakers[rows] == name])
        for name in sorted(set(material.speakers[rows].tolist()))
    }
    able = [name for name, own in of_speaker.items() if len(own) > ENROLLED]
    half = len(of_speaker) // 2
    known = rng.permutation(able)[: half if size is None else min(size, half)].tolist()
    voices = [material.enrol(of_speaker[name][:ENROLLED].tolist()) for name in known]
    gallery, owners = np.concatenate(voices), np.repeat(known, list(map(len, voices)))
    asked = np.concatenate([of_speaker[name][ENROLLED:] for name in known])
    strangers = np.concatenate([own for name, own in of_speaker.items() if name not in known])
    cosines = material.vectors[asked] @ gallery.T
    right = owners[cosines.argmax(axis=1)] == material.speakers[asked]
    return Trial(
        gallery,
        owners,
        np.where(right, cosines.max(axis=1), -np.inf),
        material.speakers[asked],
        (material.vectors[strangers] @ gallery.T).max(axis=1),
        material.speakers[strangers],
    )


def fnir_at(trial: Trial, rate: float) -> float:
    """FNIR at the threshold that these strangers reach with a share ``rate``."""
    return float(np.mean(trial.own < np.quantile(trial.other, 1 - rate)))


def interval(trials: Sequence[Trial], rate: float) -> tuple[float, float]:
    """95 % of the mean FNIR of the draws, over resampled speakers."""
    values = []
    for seed in range(RESAMPLES // len(trials)):
        rng = np.random.default_rng((seed, 1))
        for trial in trials:
            own = again(trial.own, trial.own_speakers, rng)
            other = again(trial.other, trial.other_speakers, rng)
            values.append(fnir_at(replace(trial, own=own, other=other), rate))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def again(scores: np.ndarray, speakers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scores of speakers drawn with replacement."""
    names, codes = np.unique(speakers, return_inverse=True)
    drawn = rng.integers(len(names), size=len(names))
    return np.repeat(scores, np.bincount(drawn, minlength=len(names))[codes])


def realised(trial: Trial, rate: float, strangers: Strangers) -> tuple[float, float]:
    """FPIR and FNIR at the threshold that the toolkit takes for a rate in this gallery."""
    store: Any = Fixed(trial)
    matcher = Matcher(store, strangers.vectors, same_voice=strangers.same_voice)
    threshold = matcher.threshold(rate)
    return float(np.mean(trial.other >= threshold)), float(np.mean(trial.own < threshold))


class Fixed:
    """A gallery, asked as a store is."""

    where = "benchmark"

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.gallery = Gallery()
        self.gallery.replace(np.arange(len(trial.gallery)), trial.gallery)

    def header(self) -> Header:
        return Header(None, "", 0, 0, len(self.gallery))

    def voices(self, count: int) -> list[tuple[str, np.ndarray]]:
        return list(zip(self.trial.owners.tolist(), self.trial.gallery, strict=True))[:count]

    def nearest(self, vectors: np.ndarray, count: int) -> list[list[Match]]:
        found = self.gallery.nearest(vectors, count)
        owners = self.trial.owners
        return [[Match(owners[row], cosine, each) for row, cosine, each in one] for one in found]


def our_material(embedder: Encoder, manifest: Manifest, apart: float) -> Material:
    """Sums of every recording; people are enrolled as the store does it."""
    rows = range(len(manifest))
    sums = [embedder.frames.sums(Recording(manifest.path(row)).wave) for row in rows]

    def enrol(chosen: Sequence[int]) -> np.ndarray:
        return group([sums[row] for row in chosen], embedder.finish, apart)[1]

    return _material(manifest, np.stack([embedder.finish(each) for each in sums]), enrol)


def resemblyzer_material(manifest: Manifest) -> Material:
    """Resemblyzer as its own page uses it; a speaker is the mean, as ``embed_speaker`` makes it."""
    from resemblyzer import VoiceEncoder, preprocess_wav  # pyright: ignore

    network = VoiceEncoder("cpu", verbose=False)
    waves = (preprocess_wav(load_audio(manifest.path(row)), 16000) for row in range(len(manifest)))
    vectors = np.stack([network.embed_utterance(wave) for wave in waves])

    def enrol(chosen: Sequence[int]) -> np.ndarray:
        mean = vectors[list(chosen)].mean(axis=0)
        return (mean / np.linalg.norm(mean))[None]

    return _material(manifest, vectors, enrol)


def _material(
    manifest: Manifest, vectors: np.ndarray, enrol: Callable[[Sequence[int]], np.ndarray]
) -> Material:
    corpora, speakers = manifest.column("corpus"), np.array(manifest.speakers.tolist())
    return Material(speakers, corpora, vectors.astype(np.float32), enrol)


def draw(curves: dict[str, list[Trial]], path: Path) -> None:
    """FNIR over FPIR of all speakers, with 95 % over resampled speakers."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    rates = np.geomspace(0.003, 0.5, 25)
    for name, trials in curves.items():
        means = [np.mean([fnir_at(trial, rate) for trial in trials]) for rate in rates]
        bounds = np.array([interval(trials, rate) for rate in rates])
        (line,) = axes.loglog(100 * rates, 100 * np.array(means), label=name)
        axes.fill_between(100 * rates, *100 * bounds.T, color=line.get_color(), alpha=0.2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("false-positive identifications of strangers (FPIR), %")
    axes.set_ylabel("enrolled people missed (FNIR), %")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, bbox_inches="tight")


def measure_time(embedder: Encoder, num_people: int) -> None:
    """Fill a store, then time one question and one enrolment, and state memory."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.db"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with PeopleStore(path, embedder) as people:
            fill(people, embedder, num_people, rng)
            began = time.perf_counter()
            people.match(embedder.finish(random_heard(embedder, rng, "first").sums)[None])
            first = time.perf_counter() - began
            asked, added = [], []
            for turn in range(30):
                heard = random_heard(embedder, rng, f"new {turn}")
                added.append(timed(partial(people.enrol, f"new {turn}", [heard])))
                vector = embedder.finish(heard.sums)[None]
                asked.append(timed(partial(people.match, vector)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        for name, values in (("query", asked), ("add", added)):
            wall, processor = 1000 * np.median(values, axis=0)
            fastest = 1000 * np.min(values, axis=0)[0]
            print(
                f"{name}: median {wall:.1f} ms, fastest {fastest:.1f}; processor {processor:.1f} ms"
            )
        size = sum(each.stat().st_size for each in Path(folder).iterdir())
        print(f"first query, with voices and threshold: {first:.2f} s")
        print(f"{num_people} people: {size / 1e6:.0f} MB of file, {grown / 1e3:.0f} MB of memory")


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    began, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - processor


def fill(people: PeopleStore, embedder: Encoder, num_people: int, rng: np.random.Generator) -> None:
    """Random people, 1,000 in a transaction."""
    made = people.enrol("person", [random_heard(embedder, rng, "person")]).person.recordings[0]
    for start in range(0, num_people, 1000):
        vectors = rng.standard_normal((1000, embedder.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        several = tuple(
            Person(f"person {start + row}", (replace(made, row=None),), vectors[row][None])
            for row in range(1000)
        )
        people.store.change([], lambda _, __, several=several: Change(several))


def random_heard(embedder: Encoder, rng: np.random.Generator, name: str) -> Heard:
    """What a recording of nobody might add up to."""
    pooling = embedder.backend.ends.pooling
    dim = sum(part.dim for part in pooling.parts)
    if pooling.centers is not None:
        dim = pooling.centers.shape[1]
    frames = rng.standard_normal((dim, 100))
    weights = rng.random((pooling.num_rows(dim), 100))
    sums = PoolingSums.empty(pooling).add(frames, weights)
    return Heard(name, name, sums, 3.0)


if __name__ == "__main__":
    main()
