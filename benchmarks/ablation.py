"""Ablations by short trainings of equal budget: pooling, objective, augmentation.

    python benchmarks/ablation.py conf/ablation.yaml --out runs/ablation
    python benchmarks/ablation.py conf/ablation.yaml --out runs/try --steps 20 --seeds 1

Only speakers with many recordings are trained on: fewer classes begin to be told apart sooner.
Every training is a process of its own, on one thread. One that has finished is not run again, so
an interrupted ablation goes on where it stopped. Prints the EER of the last step on every
validation list: mean over the seeds and standard deviation, in percent.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from speakervlad.config import load_config
from speakervlad.training.run_folder import read_metrics

QUIET = (
    "augment.noise_probability=0",
    "augment.rir_probability=0",
    "augment.telephone_probability=0",
    "augment.gain_db=0",
)
BASE = "GhostVLAD 8+2, AM-softmax, augmented"
VARIANTS = {
    BASE: (),
    "average pooling": ("encoder.pooling.kind=average",),
    "statistics pooling": ("encoder.pooling.kind=statistics",),
    "NetVLAD 8, no ghosts": ("encoder.pooling.num_ghosts=0",),
    "softmax": ("classifier.kind=softmax",),
    "AAM-softmax": ("classifier.kind=aam_softmax",),
    "no augmentation": QUIET,
}
Errors = dict[str, float]


class Training(NamedTuple):
    """One cell before it is averaged."""

    variant: str
    seed: int
    run_dir: Path
    steps: int

    def errors(self) -> Errors | None:
        """EER by list at the last step, in percent; None before it is reached."""
        path = self.run_dir / "metrics.jsonl"
        if not path.is_file():
            return None
        for record in read_metrics(path):
            if record["step"] == self.steps and "eer" in record:
                parts = {name.removeprefix("eer/"): value for name, value in record.items()}
                return {name: 100 * value for name, value in parts.items() if name != "step"}
        return None


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--fewest", type=int, default=10, help="recordings of a speaker")
    parser.add_argument("--set", nargs="*", default=[], help="overrides for all, key=value")
    arguments = parser.parse_args()
    source = Path(load_config(arguments.config, arguments.set).data.train_manifest)
    manifest = keep_frequent(source, arguments.fewest, arguments.out / "train.csv")
    data = (f"data.train_manifest={manifest}", f"data.train_root={source.parent}")
    overrides = [*arguments.set, *data]
    trainings = [
        Training(variant, seed, arguments.out / f"{number}-{seed}", arguments.steps)
        for seed in range(1, arguments.seeds + 1)
        for number, variant in enumerate(VARIANTS)
    ]
    missing = [training for training in trainings if training.errors() is None]
    with ThreadPoolExecutor(arguments.processes) as pool:
        for training in pool.map(lambda one: run(one, arguments.config, overrides), missing):
            print(f"{training.variant}, seed {training.seed}: {training.errors()}", flush=True)
    print(table(trainings))


def keep_frequent(source: Path, fewest: int, out: Path) -> Path:
    """Write the rows of a manifest whose speakers have at least so many."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = Counter(row["speaker"] for row in rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if counts[row["speaker"]] >= fewest)
    return out


def run(training: Training, config: Path, overrides: Iterable[str]) -> Training:
    """Train, or go on with a training that was interrupted."""
    command = [
        *(sys.executable, "-m", "speakervlad", "train", str(config), *overrides),
        *VARIANTS[training.variant],
        f"run_dir={training.run_dir}",
        f"train.seed={training.seed}",
        f"train.steps={training.steps}",
        f"train.validate_every={training.steps}",
        "resume=true",
    ]
    training.run_dir.mkdir(parents=True, exist_ok=True)
    with (training.run_dir / "output.log").open("ab") as log:
        threads = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=threads, stdout=log, stderr=log, check=True)
    return training


def table(trainings: list[Training]) -> str:
    """A row per variant, a column per list, the mean of all lists last."""
    found = {variant: errors_of(variant, trainings) for variant in VARIANTS}
    lists = [name for name in found[BASE][0] if name != "eer"]
    columns = [*lists, "eer"]
    head = ["variant", *lists, "mean of lists", "against the first row"]
    rows = [head, ["---"] * len(head)]
    for variant, results in found.items():
        cells = [spread([errors[name] for errors in results]) for name in columns]
        pairs = zip(results, found[BASE], strict=True)
        gap = "" if variant == BASE else spread([one["eer"] - base["eer"] for one, base in pairs])
        rows.append([variant, *cells, gap])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def errors_of(variant: str, trainings: list[Training]) -> list[Errors]:
    """Of the seeds that are done, in order."""
    results = [training.errors() for training in trainings if training.variant == variant]
    return [errors for errors in results if errors is not None]


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


if __name__ == "__main__":
    main()
