"""Turn a trained encoder into one that ships: half-size weights, ONNX, evaluation, model card.

package.py ENCODER LIST.trials ... --dev dev.csv --name small --out speakervlad/pretrained/small
"""

import argparse
import json
from pathlib import Path

import numpy as np
from card import render_card
from safetensors import safe_open
from safetensors.torch import save_file

from speakervlad.config import ENCODER_CONFIG_NAME
from speakervlad.data.audio import SAMPLE_RATE, read_audio
from speakervlad.data.manifest import Manifest
from speakervlad.evaluation.calibration import fit_calibration
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.judge import judge
from speakervlad.evaluation.lists import Trials, read_trials
from speakervlad.evaluation.metrics import VerificationReport, verification_report
from speakervlad.evaluation.names import required_rows
from speakervlad.evaluation.scoring import cosine_scores
from speakervlad.files import atomic_path
from speakervlad.inference.engine import Embedder, load_encoder
from speakervlad.inference.export import export_onnx
from speakervlad.models.folder import WEIGHTS_NAME

SECONDS = (1.0, 2.0, 3.0, 5.0, 10.0)
WHOLE = "whole"
# The interval of a list needs some of both kinds.
FEWEST_TRIALS = 100


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--dev", type=Path, required=True, help="manifest of the recordings")
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    out, manifest = arguments.out, Manifest.load(arguments.dev)
    halve(arguments.encoder, out)
    embedder = load_encoder(out, device="cpu", backend="torch")
    lists = {path.stem: read_trials(path) for path in arguments.lists}
    whole = embed_all(embedder, manifest, lists)
    cuts = {f"{seconds:g} s": embed_cut(embedder, manifest, lists, seconds) for seconds in SECONDS}
    results = {
        kind: judge_lists(table, lists, manifest, arguments.resamples)
        for kind, table in {WHOLE: whole, **cuts}.items()
        if table is not None
    }
    write_thresholds(out, whole, lists)
    write_json(out / "evaluation.json", to_json(results))
    distance = export_onnx(out, out / "model.onnx")
    print(f"ONNX: at most {distance:.2g} from torch")
    with atomic_path(out / "MODEL_CARD.md") as path:
        path.write_text(render_card(out, arguments.name), encoding="utf-8")


def halve(source: Path, out: Path) -> None:
    """Copy an encoder folder with its weights in float16."""
    with safe_open(source / WEIGHTS_NAME, "pt") as file:
        notes = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = {n: v.half() if v.is_floating_point() else v for n, v in state.items()}
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / WEIGHTS_NAME) as path:
        save_file(state, path, metadata=notes)
    with atomic_path(out / ENCODER_CONFIG_NAME) as path:
        path.write_bytes((source / ENCODER_CONFIG_NAME).read_bytes())


def embed_all(embedder: Embedder, manifest: Manifest, lists: dict[str, Trials]) -> Embeddings:
    """Embeddings of all recordings that the lists name."""
    names, rows = recordings(manifest, lists)
    vectors = embedder.embed_files([manifest.path(row) for row in rows.tolist()])
    return Embeddings(names, vectors)


def embed_cut(
    embedder: Embedder, manifest: Manifest, lists: dict[str, Trials], seconds: float
) -> Embeddings | None:
    """The same of their first ``seconds``, if they last so long; None if none does."""
    names, rows = recordings(manifest, lists)
    samples = round(seconds * SAMPLE_RATE)
    long_enough = manifest.num_samples[rows] >= samples
    if not long_enough.any():
        return None
    cut = (read_audio(manifest.path(row))[:samples] for row in rows[long_enough].tolist())
    vectors = np.stack([embedder.embed(waveform) for waveform in cut])
    return Embeddings(names[long_enough], vectors)


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


def write_thresholds(out: Path, table: Embeddings, lists: dict[str, Trials]) -> None:
    """Thresholds and calibration of all lists together, each with the same weight."""
    scores = {name: cosine_scores(table, trials) for name, trials in lists.items()}
    size = min(len(values) for values in scores.values())
    rng = np.random.default_rng(0)
    picks = {name: rng.choice(len(values), size, replace=False) for name, values in scores.items()}
    pooled = np.concatenate([scores[name][picks[name]] for name in lists])
    labels = np.concatenate([lists[name].labels()[picks[name]] for name in lists])
    report = verification_report(pooled, labels)
    single = {
        name: verification_report(scores[name], trials.labels()).threshold
        for name, trials in lists.items()
    }
    far = {rate: found["threshold"] for rate, found in report.frr_at_far.items()}
    write_json(
        out / "thresholds.json",
        {"eer": report.threshold, "false_accept_rate": far, "eer_by_list": single},
    )
    fit_calibration(pooled, labels).save(out / "calibration.json")


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
