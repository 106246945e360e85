"""How much code has somebody to read who follows one call? Package files entered, and their lines.

    python benchmarks/paths.py [--files] [PATH ...]

Each path runs in a process of its own under ``sys.setprofile``, threads too. A file counts, with
all its lines, when a function of it is entered: of a call in Python, in its second run, when all is
imported; of a command, in a new process, where the classes that an import defines count as well.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np

import speakervlad

ROOT = Path(speakervlad.__file__).parent
CLIPS = list(speakervlad.examples().values())
NUM_TRIALS = 3000
TINY = (
    *("train.steps=4", "train.save_every=2", "train.validate_every=2", "train.batch_size=8"),
    *("schedule.warmup_steps=1", "data.num_workers=0", "train.log_every=1", "resume=false"),
    *("data.valid_trials=[]", "data.valid_manifest=null"),
)


def write_scored(folder: Path) -> Path:
    """A score file with labels, whose names tell the speakers."""
    rng, path = np.random.default_rng(0), folder / "S.txt"
    rows = []
    for one, other in rng.integers(0, 20, (NUM_TRIALS, 2)).tolist():
        score = rng.normal() + 2 * (one == other)
        takes = rng.integers(0, 5, 2).tolist()
        names = (f"id{one}/a/{takes[0]}.wav", f"id{other}/b/{takes[1]}.wav")
        rows.append(f"{names[0]} {names[1]} {score:.5f} {int(one == other)}\n")
    path.write_text("".join(rows))
    return path


def embed(folder: Path, encoder: str) -> Callable[[], object]:
    """A recording to its embedding, by the encoder that ships."""
    return lambda: speakervlad.load_encoder(encoder).embed(CLIPS[0])


def judge(folder: Path, encoder: str) -> Callable[[], object]:
    """A score file to every figure, in Python."""
    from speakervlad.scoring.judge import judge
    from speakervlad.scoring.systems import load_scores

    path = write_scored(folder)
    return lambda: judge(*load_scores(path))


def metrics(folder: Path, encoder: str) -> Callable[[], object]:
    """A score file to every figure, by the command."""
    path = write_scored(folder)

    def run() -> None:
        from speakervlad.cli import main

        sys.argv = ["speakervlad", "metrics", str(path)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main()

    return run


def train(folder: Path, encoder: str) -> Callable[[], object]:
    """A run of some steps, which judges no list."""
    from speakervlad.config import load_config
    from speakervlad.corpus.voices import make_corpus
    from speakervlad.tables.manifest import save_manifest
    from speakervlad.training.run import train

    corpus = folder / "corpus" / "train"
    made = make_corpus(corpus, num_speakers=12, num_sessions=2, utterances_per_session=2)
    save_manifest(corpus.with_suffix(".csv"), made)
    manifest = f"data.train_manifest={corpus.with_suffix('.csv')}"
    yaml = ROOT / "training" / "quickstart.yaml"
    configs = iter([load_config(yaml, [*TINY, manifest, f"run_dir={folder / n}"]) for n in "ab"])
    return lambda: train(next(configs))


def identify(folder: Path, encoder: str) -> Callable[[], object]:
    """A recording to the name of an enrolled person, in Python."""
    with speakervlad.PeopleStore(folder / "people.db", encoder) as people:
        for number in range(2):
            people.add(f"person {number}", CLIPS[3 * number : 3 * number + 2])

    def run() -> None:
        with speakervlad.PeopleStore(folder / "people.db", encoder, create=False) as people:
            people.identify([CLIPS[2]])

    return run


def diarize(folder: Path, encoder: str) -> Callable[[], object]:
    """A conversation in memory to the turns of its speakers, in Python."""
    parts = [speakervlad.load_audio(CLIPS[number]) for number in (0, 4, 1, 8)]
    samples = np.concatenate(parts)
    return lambda: speakervlad.diarize(samples, encoder=speakervlad.load_encoder(encoder))


# Paths; whether only the second run counts.
PATHS = {
    "embed": (embed, True),
    "judge": (judge, True),
    "metrics": (metrics, False),
    "train": (train, True),
    "identify": (identify, True),
    "diarize": (diarize, True),
}


def entered_by(call: Callable[[], object]) -> list[Path]:
    """Files of the package of which ``call`` enters a function or a class."""
    found: set[str] = set()
    inside = f"{ROOT}{os.sep}"

    def watch(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(inside):
            found.add(code.co_filename)

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(map(Path, found))


def measure(name: str, encoder: str, show_files: bool) -> None:
    """Print a path's number of files and lines."""
    prepare, is_second = PATHS[name]
    with tempfile.TemporaryDirectory() as folder:
        call = prepare(Path(folder), encoder)
        if is_second:
            call()
        files = entered_by(call)
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    print(f"{name:10} {len(files):3} files  {sum(lines.values()):6,} lines", flush=True)
    for path in files if show_files else ():
        print(f"    {lines[path]:4}  {path.relative_to(ROOT)}")


def main() -> None:
    """Measure the paths that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH", help=", ".join(PATHS))
    parser.add_argument("--files", action="store_true", help="name them")
    parser.add_argument("--encoder", default="default", help="with an exported file")
    given = parser.parse_args()
    if len(given.paths) == 1:
        measure(given.paths[0], given.encoder, given.files)
        return
    for name in given.paths or PATHS:
        options = ["--encoder", given.encoder, *(["--files"] if given.files else [])]
        subprocess.run([sys.executable, __file__, name, *options], check=True)


if __name__ == "__main__":
    main()
