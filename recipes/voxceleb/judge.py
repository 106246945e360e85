"""Judges encoders on VoxCeleb1-O, E and H as published: checks lists, embeds, scores, reports.

python recipes/voxceleb/judge.py VOXCELEB1 LISTS OUT [--encoder default --encoder small]
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from speakervlad.audio.reading import is_audio
from speakervlad.cli.console import console, notes
from speakervlad.cli.embed import tolerance, write_embeddings
from speakervlad.cli.options import DeviceOption, MaxBad, PrecisionOption, write_json
from speakervlad.cli.recipe import run_recipe
from speakervlad.corpus.inputs import Recordings
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.shares import share_from_environment
from speakervlad.errors import InputError, first_few
from speakervlad.files import check_writable
from speakervlad.progress import track
from speakervlad.scoring.judge import SystemResult, judge_systems
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.report import save_report
from speakervlad.scoring.scores import save_scores
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings

# Speakers of VoxCeleb1 are id10001 to id11251.
SPEAKER = "id1[01][0-9][0-9][0-9]"


class PublishedList(NamedTuple):
    """A trial list: what papers call it, its MD5 sum, and how many trials it holds."""

    title: str
    md5: str
    num_trials: int


LISTS = {
    "veri_test2.txt": PublishedList("Vox1-O", "b73110731c9223c1461fe49cb48dddfc", 37_611),
    "list_test_all2.txt": PublishedList("Vox1-E", "a53e059deb562ffcfc092bf5d90d9f3a", 579_818),
    "list_test_hard2.txt": PublishedList("Vox1-H", "857790e09d579a68eb2e339a090343c8", 550_894),
    "veri_test.txt": PublishedList("Vox1-O original", "29fc7cc1c5d59f0816dc15d6e8be60f7", 37_720),
    "list_test_all.txt": PublishedList(
        "Vox1-E original", "b9ecf7aa49d4b656aa927a8092844e4a", 581_480
    ),
    "list_test_hard.txt": PublishedList(
        "Vox1-H original", "21c341b6b2168eea2634df0fb4b8fff1", 552_536
    ),
}


def main(
    corpus: Annotated[Path, typer.Argument(help="VoxCeleb1, unpacked: wav or flac.")],
    lists: Annotated[Path, typer.Argument(help="Folder with veri_test2.txt and the others.")],
    out: Annotated[Path, typer.Argument(help="Folder for embeddings, scores and reports.")],
    encoder: Annotated[
        list[str] | None, typer.Option(help="As for `embed`; default and small by default.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Of the bootstrap; 0: none.")] = 1000,
    max_bad: MaxBad = "0%",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
) -> None:
    """Judge encoders on the lists of VoxCeleb1 that are there; run again, it goes on."""
    began = time.time()
    found = check_lists(lists)
    check_writable(out / "Vox1-O.html")
    recordings = find_recordings(corpus, found)
    share = share_from_environment()
    systems: dict[str, Embeddings] = {}
    for name in encoder or ("default", "small"):
        embedder = load_encoder(name, device=device, precision=precision)
        table = table_of(out, name, embedder, recordings, precision)
        if not table.exists():
            write_embeddings(
                table,
                embedder,
                recordings,
                share=share,
                since=began,
                precision=precision,
                tolerate=tolerance(max_bad, table.with_suffix(".bad.csv"), corpus),
            )
        if share.rank == 0:
            systems[name] = load_embeddings(table)
    if systems:
        judge_lists(found, systems, out, resamples)


def table_of(
    out: Path, name: str, embedder: Encoder, recordings: Recordings, precision: str
) -> Path:
    """The file of these recordings' embeddings by these weights."""
    weights = (embedder.fingerprint or "unknown")[:12]
    named = hashlib.sha256("\n".join(recordings.ids).encode()).hexdigest()[:8]
    return out / f"{label(name)}-{weights}-{precision}-{named}.npz"


def check_lists(folder: Path) -> dict[str, Trials]:
    """The published lists that lie in a folder, by their names in papers.

    Raises:
        InputError: there is none, or one that is not as published.
    """
    paths = {name: folder / name for name in LISTS if (folder / name).is_file()}
    if not paths:
        raise InputError(f"{folder}: holds none of {first_few(list(LISTS), 9)}. README.md says "
                         "where they are from.")  # fmt: skip
    found = {}
    for name, path in paths.items():
        known = LISTS[name]
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        trials = load_trials(path)
        if digest != known.md5 or len(trials) != known.num_trials:
            raise InputError(
                f"{path}: {len(trials)} trials with the MD5 sum {digest}; published are "
                f"{known.num_trials} with {known.md5}. Download it again, or use `speakervlad "
                "score` for a list of your own."
            )
        found[known.title] = trials
    return found


def find_recordings(corpus: Path, lists: Mapping[str, Trials]) -> Recordings:
    """Every recording that the lists name, wherever below the folder its speaker's folder lies.

    Raises:
        InputError: recordings are missing.
    """
    names = sorted({name for trials in lists.values() for name in trials.names.tolist()})
    speakers = {folder.name: folder for folder in speaker_folders(corpus)}
    paths, missing = [], []
    for name in track(names, "looking for recordings", len(names)):
        speaker, _, rest = name.partition("/")
        path = recording_of(speakers.get(speaker, corpus / speaker) / rest)
        (missing if path is None else paths).append(path or name)
    if missing:
        raise InputError(
            f"{corpus}: {len(missing)} of {len(names)} recordings are missing: "
            f"{first_few(missing)}. E and H need both parts, dev and test."
        )
    return Recordings(names, paths)


def speaker_folders(corpus: Path) -> Iterator[Path]:
    """``id10001`` and so on at most four folders below: as published, or as `prepare.py` makes it.

    Raises:
        InputError: no such folder.
    """
    if not corpus.is_dir():
        raise InputError(f"{corpus}: no such folder. Name that of VoxCeleb1.")
    for depth in range(5):
        yield from corpus.glob("*/" * depth + SPEAKER)


def recording_of(path: Path) -> Path | None:
    """The file, or the same one in another container."""
    if path.is_file():
        return path
    return next(filter(is_audio, sorted(path.parent.glob(f"{path.stem}.*"))), None)


def judge_lists(
    lists: Mapping[str, Trials], systems: Mapping[str, Embeddings], out: Path, resamples: int
) -> None:
    """Scores, numbers and a report page for each list; a line of each on standard output."""
    for title, trials in lists.items():
        kept = common_trials(trials, list(systems.values()))
        scores = {name: cosine_scores(table, kept) for name, table in systems.items()}
        for name, values in scores.items():
            save_scores(out / f"{title}-{label(name)}.txt", kept, values)
        results = judge_systems(kept, scores, num_resamples=resamples)
        write_json({each.name: each.report.to_json() for each in results}, out / f"{title}.json",
                   printed=False, indent=1)  # fmt: skip
        left_out = len(trials) - len(kept)
        remarks = [f"{left_out} trials of bad recordings are left out."] if left_out else []
        save_report(out / f"{title}.html", kept, results, title=title, notes=remarks)
        for each in results:
            console.print(f"{title:18}{describe(each)}")
        notes.print(f"report: {out / f'{title}.html'}")


def common_trials(trials: Trials, tables: Sequence[Embeddings]) -> Trials:
    """The trials whose recordings all systems could embed."""
    known = np.ones(len(trials.names), bool)
    for table in tables:
        known &= np.isin(trials.names, table.ids)
    kept = trials.select(known[trials.enrol] & known[trials.test])
    return trials if known.all() else Trials.from_ids(kept.enrol_ids, kept.test_ids, kept.is_target)


def describe(result: SystemResult) -> str:
    """Name, EER and detection costs in a line."""
    costs = "  ".join(
        f"minDCF({prior}) {cost:.4f}" for prior, cost in result.report.min_dcf.items()
    )
    return f"{result.name:12}  EER {result.report.eer:7.3%}  {costs}"


def label(encoder: str) -> str:
    """An encoder's name as a part of file names."""
    return encoder.strip("/").replace(os.sep, "-")


if __name__ == "__main__":
    run_recipe(main)
