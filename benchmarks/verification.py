"""The default encoder and Resemblyzer on the same recordings: EER side by side, list by list.

    python benchmarks/verification.py LIST.trials ... [--root FOLDER] [--encoder default]

Needs Resemblyzer (``pip install resemblyzer``); without it, only our own column is printed.
"""

import argparse
import importlib.util
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from speakervlad.audio.spans import load_audio
from speakervlad.corpus.inputs import from_names
from speakervlad.encoder.encoder import load_encoder
from speakervlad.scoring.judge import judge
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings

Embed = Callable[[list[Path]], np.ndarray]
logger = logging.getLogger(__name__)


def main() -> None:
    """Print one line per list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--root", type=Path, help="the lists' own folders by default")
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    systems = find_systems(arguments.encoder)
    print(f"{'list':32}" + "".join(f"{name:>26}" for name in systems))
    eers: dict[str, list[float]] = {name: [] for name in systems}
    for path in arguments.lists:
        trials = load_trials(path)
        files = from_names(trials.names.tolist(), arguments.root or path.parent)
        cells = []
        for name, embed in systems.items():
            eer, text = judge_system(embed, files.ids, files.paths, trials, arguments.resamples)
            eers[name].append(eer)
            cells.append(f"{text:>26}")
        print(f"{path.stem:32}" + "".join(cells), flush=True)
    means = (f"{np.mean(values):26.2f}" for values in eers.values())
    print(f"{'mean':32}" + "".join(means))


def find_systems(encoder: str) -> dict[str, Embed]:
    """What is installed here, by name."""
    ours = load_encoder(encoder)
    systems: dict[str, Embed] = {f"speakervlad {encoder}": ours.embed_files}
    if importlib.util.find_spec("resemblyzer"):
        systems["Resemblyzer"] = resemblyzer()
    else:
        print("Resemblyzer: not installed")
    return systems


def resemblyzer() -> Embed:
    """Resemblyzer as its own page uses it: normalised volume, silences trimmed, partials."""
    from resemblyzer import VoiceEncoder, preprocess_wav  # pyright: ignore

    network = VoiceEncoder("cpu", verbose=False)

    def embed(paths: list[Path]) -> np.ndarray:
        return np.stack(
            [network.embed_utterance(preprocess_wav(load_audio(path), 16000)) for path in paths]
        )

    return embed


def judge_system(
    embed: Embed, ids: list[str], paths: list[Path], trials: Trials, resamples: int
) -> tuple[float, str]:
    """EER in %, and a cell of the table: with its interval, and seconds."""
    began = time.perf_counter()
    table = Embeddings(np.asarray(ids), embed(paths))
    elapsed = time.perf_counter() - began
    scores = cosine_scores(table, trials)
    report = judge(trials, scores, num_resamples=resamples)
    interval = ""
    if "eer" in report.intervals:
        low, high = report.intervals["eer"]
        interval = f" [{100 * low:.1f}, {100 * high:.1f}]"
    return 100 * report.eer, f"{100 * report.eer:.2f}{interval} {elapsed:.0f} s"


if __name__ == "__main__":
    main()
