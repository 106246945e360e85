"""Turn a trained encoder into one that ships: half-size weights, ONNX, evaluation, model card.

package.py ENCODER LIST.trials ... --dev dev.csv --held LIST.trials --held-manifest held.csv
    --name default --out speakervlad/pretrained/default
"""

import argparse
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from card import render_card
from safetensors import safe_open
from safetensors.torch import save_file

from speakervlad.audio.spans import load_audio
from speakervlad.config import CALIBRATION_NAME, ENCODER_CONFIG_NAME, THRESHOLDS_NAME, WEIGHTS_NAME
from speakervlad.corpus.work import map_parallel
from speakervlad.encoder.backends import weights_digest
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.export import export_onnx
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.scoring.judge import judge
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.metrics import VerificationReport, verification_report
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.scoring.trials import Trials
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest, load_manifest
from speakervlad.tables.names import required_rows
from speakervlad.verification.listed import save_decisions
from speakervlad.verification.thresholds import learn_calibration, learn_thresholds

SECONDS = (1.0, 2.0, 3.0, 5.0)
WHOLE, HELD, QUIET = "whole", "held", "quiet"
# Peak of the test side of the level test, dB of full scale.
QUIET_DBFS = -46.0
RATES = (0.01, 0.001)
# The small encoder's graph has weights of its own and starts sooner; the default's shares a file.
GRAPHS = {"default": "graph.onnx", "small": "model.onnx"}
# The interval of a list needs some of both kinds.
FEWEST_TRIALS = 100
# A recording, its leading seconds or 0 for all, and a name out of LEVELS or nothing.
Job = tuple[Path, float, str]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--dev", type=Path, required=True, help="manifest of the recordings")
    parser.add_argument("--held", type=Path, nargs="+", default=[], help="of corpora kept back")
    parser.add_argument("--held-manifest", type=Path)
    parser.add_argument(
        "--not-learnt", nargs="+", default=[], help="names of lists that teach no threshold"
    )
    parser.add_argument("--name", choices=GRAPHS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--workers", type=int, help="processes; one per core by default")
    arguments = parser.parse_args()
    out, manifest = arguments.out, load_manifest(arguments.dev)
    halve(arguments.encoder, out)
    distance = export_onnx(out, out / GRAPHS[arguments.name])
    print(f"ONNX: at most {distance:.2g} from torch")
    workers = Workers(out, arguments.workers)
    lists = {path.stem: load_trials(path) for path in arguments.lists}
    whole = embed(workers, manifest, lists)
    cuts = {f"{seconds:g} s": embed(workers, manifest, lists, seconds) for seconds in SECONDS}
    levels = {kind: level_test(workers, manifest, lists, whole, kind) for kind in LEVELS}
    results = {
        kind: judge_lists(table, lists, manifest, arguments.resamples)
        for kind, table in {WHOLE: whole, **cuts}.items()
    }
    scores = {name: cosine_scores(whole, trials) for name, trials in lists.items()}
    if arguments.held:
        known = load_manifest(arguments.held_manifest)
        held = {path.stem: load_trials(path) for path in arguments.held}
        table = embed(workers, known, held)
        results[HELD] = judge_lists(table, held, known, arguments.resamples)
        scores |= {name: cosine_scores(table, trials) for name, trials in held.items()}
        lists |= held
    learnt = set(lists) - set(arguments.not_learnt)
    known = labelled({name: scores[name] for name in scores if name in learnt}, lists)
    weights = weights_digest(out)
    save_decisions(
        out,
        replace(learn_thresholds(known), encoder=weights),
        replace(learn_calibration(known), encoder=weights),
    )
    write_json(out / "evaluation.json", to_json(results))
    write_json(out / "operating.json", {"rates": operating(scores, lists, learnt), QUIET: levels})
    with atomic_path(out / "MODEL_CARD.md") as path:
        path.write_text(render_card(out, arguments.name), encoding="utf-8")


def halve(source: Path, out: Path) -> None:
    """Copy an encoder folder with its weights in float16; what others learnt there goes."""
    with safe_open(source / WEIGHTS_NAME, "pt") as file:
        notes = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = {n: v.half() if v.is_floating_point() else v for n, v in state.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name in (THRESHOLDS_NAME, CALIBRATION_NAME):
        (out / name).unlink(missing_ok=True)
    with atomic_path(out / WEIGHTS_NAME) as path:
        save_file(state, path, metadata=notes)
    with atomic_path(out / ENCODER_CONFIG_NAME) as path:
        path.write_bytes((source / ENCODER_CONFIG_NAME).read_bytes())


class Workers(NamedTuple):
    """An encoder folder, and how many processes embed with it."""

    folder: Path
    count: int | None

    def embed(self, jobs: list[Job]) -> np.ndarray:
        """The vector of each."""
        function = partial(embed_one, self.folder)
        return np.stack(
            map_parallel(function, jobs, num_workers=self.count, description="Embedding")
        )


def embed_one(folder: Path, job: Job) -> np.ndarray:
    """One vector, in a worker; NaN where a beginning holds no speech."""
    path, seconds, level = job
    waveform = load_audio(path)
    if seconds:
        waveform = waveform[: round(seconds * SAMPLE_RATE)]
    embedder = embedder_of(folder)
    try:
        return embedder.embed(LEVELS[level](waveform) if level else waveform)
    except InputError:
        if not seconds:
            raise
        return np.full(embedder.dim, np.nan, np.float32)


@cache
def embedder_of(folder: Path) -> Encoder:
    """The encoder, loaded once a process."""
    return load_encoder(folder, device="cpu", backend="onnxruntime")


def embed(
    workers: Workers, manifest: Manifest, lists: dict[str, Trials], seconds: float = 0.0
) -> Embeddings:
    """Embeddings of all recordings that the lists name, or of the beginning of the longer ones."""
    names, rows = recordings(manifest, lists)
    inside = manifest.num_samples[rows] >= round(seconds * SAMPLE_RATE)
    jobs = [(manifest.path(row), seconds, "") for row in rows[inside].tolist()]
    vectors = workers.embed(jobs)
    heard = np.isfinite(vectors).all(axis=1)
    return Embeddings(names[inside][heard], vectors[heard])


def level_test(
    workers: Workers, manifest: Manifest, lists: dict[str, Trials], whole: Embeddings, level: str
) -> dict[str, float]:
    """EER by list when the test side is at one of ``LEVELS``."""
    names, rows = recordings(manifest, lists)
    vectors = workers.embed([(manifest.path(row), 0.0, level) for row in rows.tolist()])
    places = {name: place for place, name in enumerate(names.tolist())}
    found = {}
    for name, trials in lists.items():
        at = np.array([places[each] for each in trials.names.tolist()])
        scores = (whole.vectors[at[trials.enrol]] * vectors[at[trials.test]]).sum(axis=1)
        found[name] = verification_report(scores, trials.labels()).eer
    return found


def quiet(waveform: np.ndarray) -> np.ndarray:
    """With its peak at ``QUIET_DBFS``."""
    return waveform / np.abs(waveform).max() * np.float32(10 ** (QUIET_DBFS / 20))


def rounded(waveform: np.ndarray) -> np.ndarray:
    """As a 16-bit file is."""
    return (np.rint(waveform * 32767) / 32768).astype(np.float32)


# What is done to the test side of the level test.
LEVELS = {
    "-46 dB": quiet,
    "-46 dB in 16 bits": lambda waveform: rounded(quiet(waveform)),
}


def recordings(manifest: Manifest, lists: dict[str, Trials]) -> tuple[np.ndarray, np.ndarray]:
    """Names that the lists mention, once each, and their rows in the manifest."""
    names = np.unique(np.concatenate([trials.names for trials in lists.values()]))
    return names, required_rows(manifest, names)


def judge_lists(
    table: Embeddings, lists: dict[str, Trials], manifest: Manifest, resamples: int
) -> dict[str, VerificationReport | None]:
    """Every list, reduced to the trials whose recordings are both in the table."""
    return {name: judge_known(table, trials, manifest, resamples) for name, trials in lists.items()}


def judge_known(
    table: Embeddings, trials: Trials, manifest: Manifest, resamples: int
) -> VerificationReport | None:
    """Report of the trials that the table has; None where too few are left to judge."""
    known = np.isin(trials.names, table.ids)
    inside = known[trials.enrol] & known[trials.test]
    labels = trials.labels()[inside]
    if min(labels.sum(), (~labels).sum()) < FEWEST_TRIALS:
        return None
    kept = Trials.from_ids(trials.enrol_ids[inside], trials.test_ids[inside], labels)
    scores = cosine_scores(table, kept)
    return judge(kept, scores, manifest=manifest, num_resamples=resamples)


def operating(
    scores: dict[str, np.ndarray], lists: dict[str, Trials], learnt: set[str]
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """By rate and list, (FAR, FRR) at the threshold of the learnt lists, and without that list."""
    table: dict[str, dict[str, dict[str, list[float]]]] = {}
    known = {name: values for name, values in scores.items() if name in learnt}
    for rate in RATES:
        shipped = threshold_at(known, lists, rate)
        rows = table[f"{rate:g}"] = {}
        for name in scores:
            rest = {other: values for other, values in known.items() if other != name}
            limits = {"shipped": shipped, "others": threshold_at(rest, lists, rate)}
            rows[name] = {
                kind: errors_at(scores[name], lists[name].labels(), limit)
                for kind, limit in limits.items()
            }
    return table


def threshold_at(scores: dict[str, np.ndarray], lists: dict[str, Trials], rate: float) -> float:
    """The cosine that this share of the lists' impostors reaches."""
    return learn_thresholds(labelled(scores, lists)).at(rate)


def labelled(
    scores: dict[str, np.ndarray], lists: dict[str, Trials]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores and labels by list."""
    return {name: (values, lists[name].labels()) for name, values in scores.items()}


def errors_at(scores: np.ndarray, labels: np.ndarray, threshold: float) -> list[float]:
    """False-acceptance and false-rejection rate."""
    accepted = scores >= threshold
    return [float(accepted[~labels].mean()), float((~accepted[labels]).mean())]


def to_json(results: dict[str, dict[str, VerificationReport | None]]) -> dict[str, object]:
    """Plain numbers by duration and list; null where too few trials were left."""
    return {
        kind: {name: report and report.to_json() for name, report in reports.items()}
        for kind, reports in results.items()
    }


def write_json(path: Path, values: object) -> None:
    """Write a file that is there only when complete."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
