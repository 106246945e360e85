"""Is PLDA better than the cosine of these embeddings? A table of EERs, list by list.

    python benchmarks/plda.py --train T.npz --train-manifest train.csv --embeddings E.npz F.npz \
        LIST.trials ...

PLDA and LDA are fitted to the first embeddings; the cohort of AS-norm is the mean of each of their
speakers. Each list is scored with the embeddings that have its recordings.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.metrics import verification_report
from speakervlad.scoring.plda import Plda, fit_plda
from speakervlad.scoring.scoring import adaptive_s_norm, cosine_scores, load_cohort
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings
from speakervlad.tables.manifest import load_manifest
from speakervlad.tables.names import required_rows

Score = Callable[[Embeddings, Trials], np.ndarray]


def main() -> None:
    """Fit, score every list in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--train-manifest", type=Path, required=True)
    parser.add_argument("--embeddings", nargs="+", type=Path, required=True)
    parser.add_argument("--lda", nargs="*", type=int, default=[150, 100])
    given = parser.parse_args()
    tables = [load_embeddings(path) for path in given.embeddings]
    ways = ways_of(given.train, given.train_manifest, given.lda)
    print(f"| EER in % | {' | '.join(ways)} |\n|---{'|---' * len(ways)}|")
    rows = []
    for path in given.lists:
        trials = load_trials(path)
        table = next(each for each in tables if each.index.find(trials.names[:1])[0] >= 0)
        rows.append([eer(way(table, trials), trials) for way in ways.values()])
        print(f"| {path.stem} | {' | '.join(f'{100 * each:.2f}' for each in rows[-1])} |")
    print(f"| mean | {' | '.join(f'{100 * each:.2f}' for each in np.mean(rows, axis=0))} |")


def ways_of(train: Path, manifest_path: Path, dimensions: list[int]) -> dict[str, Score]:
    """Ways to score, by name."""
    table, manifest = load_embeddings(train), load_manifest(manifest_path)
    speakers = manifest.speaker_indices[required_rows(manifest, table.ids)]
    cohort = load_cohort(train, manifest_path)
    top = min(300, len(cohort))
    ways: dict[str, Score] = {
        "cosine": cosine_scores,
        "cosine, mean subtracted": partial(centred, table.vectors.mean(0)),
        f"AS-norm, {top}": lambda each, trials: adaptive_s_norm(each, trials, cohort, top).scores,
        "PLDA": fit_plda(table.vectors, speakers).trial_scores,
    }
    for dim in dimensions:
        model = fit_plda(table.vectors, speakers, lda=dim)
        ways[f"LDA {dim}, cosine"] = partial(after_lda, model)
        ways[f"LDA {dim}, PLDA"] = model.trial_scores
    return ways


def centred(mean: np.ndarray, table: Embeddings, trials: Trials) -> np.ndarray:
    """Cosines after a mean was subtracted."""
    return cosine_scores(table.with_vectors(table.ids, table.vectors - mean), trials)


def after_lda(model: Plda, table: Embeddings, trials: Trials) -> np.ndarray:
    """Cosines of what LDA leaves."""
    reduced = (table.vectors - model.centre) @ model.reduce
    return cosine_scores(table.with_vectors(table.ids, reduced), trials)


def eer(scores: np.ndarray, trials: Trials) -> float:
    """Equal error rate."""
    return verification_report(scores, trials.labels()).eer


if __name__ == "__main__":
    main()
