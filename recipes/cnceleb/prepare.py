"""Manifests of CN-Celeb: training speakers with genre, evaluation files by their list names.

python recipes/cnceleb/prepare.py CN-Celeb_flac OUT
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import typer

from speakervlad.cli.console import notes
from speakervlad.cli.data import Workers, work_of
from speakervlad.cli.options import BadListPath, MaxBad
from speakervlad.cli.recipe import run_recipe
from speakervlad.corpus.layouts import Rows, audio_below, read_speaker_folders
from speakervlad.corpus.prepare import Preparation, prepare_rows
from speakervlad.corpus.work import BadList
from speakervlad.errors import InputError, first_few
from speakervlad.tables.manifest import Manifest, save_manifest

DEV_LIST, TRIALS, ENROL_MAP = "dev/dev.lst", "eval/lists/trials.lst", "eval/lists/enroll.map"


def main(
    source: Annotated[Path, typer.Argument(help="Unpacked CN-Celeb: data/, dev/, eval/.")],
    out: Annotated[Path, typer.Argument(help="Folder for the three manifests.")],
    max_bad: MaxBad = "1%",
    bad_list: BadListPath = None,
    workers: Workers = None,
) -> None:
    """Write train.csv (speakers of dev/dev.lst), eval.csv (eval/), eval_single.csv (see README)."""
    work = work_of(max_bad, BadList(bad_list), workers)
    look_at: Callable[[Rows, str], Preparation] = partial(prepare_rows, work=work)
    for needed in ("data", "eval/enroll", "eval/test", DEV_LIST, TRIALS, ENROL_MAP):
        if not (source / needed).exists():
            raise InputError(f"{source / needed}: not there. Unpack the whole archive.")
    data_rows, eval_rows = read_speaker_folders(source / "data"), read_evaluation(source / "eval")
    dev_speakers = set((source / DEV_LIST).read_text(encoding="utf-8").split())
    check_complete(source, dev_speakers, data_rows, eval_rows)
    data = look_at(data_rows, str(source / "data")).manifest
    is_dev = np.array([name in dev_speakers for name in data.speakers])
    train, others = with_genre(data.select(is_dev)), data.select(~is_dev)
    save_manifest(out / "train.csv", train)
    evaluation = look_at(eval_rows, str(source / "eval")).manifest
    save_manifest(out / "eval.csv", evaluation)
    save_manifest(out / "eval_single.csv", single_enrolment(source, others, evaluation))
    notes.print(
        f"{len(train)} training utterances of {len(train.speaker_names)} speakers, "
        f"{len(evaluation)} evaluation files, {len(others)} single utterances to enrol with"
    )


def read_evaluation(folder: Path) -> Rows:
    """``enroll/id00800-enroll`` and ``test/id00800-singing-01-001`` belong to id00800."""
    rows = Rows(folder)
    for part in ("enroll", "test"):
        for path in audio_below(folder / part):
            name = without_suffix(path)
            rows.add(
                f"{part}/{name}",
                f"{part}/{path}",
                speaker=name.split("-")[0],
                session=f"{part}/{name.rsplit('-', 1)[0]}",
            )
    return rows


def check_complete(source: Path, dev_speakers: set[str], data: Rows, evaluation: Rows) -> None:
    """Compare the files on disk with what the lists name.

    Raises:
        InputError: speakers or files are not there.
    """
    refuse_missing(source / DEV_LIST, "speakers", dev_speakers, data.speakers)
    trials, enrol_map = source / TRIALS, source / ENROL_MAP
    named = {f"enroll/{without_suffix(name)}" for name in names_in(trials, slice(0, 1))}
    named |= set(map(without_suffix, names_in(trials, slice(1, 2))))
    refuse_missing(trials, "files", named, evaluation.utterance_ids)
    enrolled = set(map(without_suffix, names_in(enrol_map, slice(1, None))))
    refuse_missing(enrol_map, "files", enrolled, data.utterance_ids)


def names_in(path: Path, columns: slice) -> set[str]:
    """The distinct words in some columns of a list.

    Raises:
        InputError: a line of one word.
    """
    names: set[str] = set()
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if len(words) == 1:
                raise InputError(f"{path}, line {number}: cut short. Unpack the whole archive.")
            names.update(words[columns])
    return names


def refuse_missing(path: Path, what: str, named: set[str], found: Iterable[str]) -> None:
    """Name a few of a list that are not on disk.

    Raises:
        InputError: there are such.
    """
    missing = sorted(named - set(found))
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of its {len(named)} {what} have no audio here: "
            f"{first_few(missing)}. Unpack the whole archive."
        )


def without_suffix(path: str) -> str:
    """The lists say .wav where the archive holds .flac."""
    return str(PurePosixPath(path).with_suffix(""))


def with_genre(chosen: Manifest) -> Manifest:
    """Of ``genre-session-utterance`` the session is ``genre-session``."""
    names = list(chosen.utterance_ids)
    return Manifest.of(
        chosen.root,
        utterance_ids=names,
        paths=list(chosen.paths),
        speakers=list(chosen.speakers),
        sessions=[name.rsplit("-", 1)[0] for name in names],
        num_samples=chosen.num_samples,
        extra={"genre": [name.rsplit("/", 1)[-1].split("-")[0] for name in names]},
    )


def single_enrolment(source: Path, singles: Manifest, evaluation: Manifest) -> Manifest:
    """The test files, and what ``enroll.map`` names: single utterances as ``id00800/name``."""
    tests = evaluation.select([name.startswith("test/") for name in evaluation.utterance_ids])
    parts = {"data": singles, "eval": tests}
    return Manifest.of(
        source,
        utterance_ids=[name for part in parts.values() for name in part.utterance_ids],
        paths=[f"{folder}/{path}" for folder, part in parts.items() for path in part.paths],
        speakers=[name for part in parts.values() for name in part.speakers],
        sessions=[name for part in parts.values() for name in part.sessions],
        num_samples=np.concatenate([part.num_samples for part in parts.values()]),
    )


if __name__ == "__main__":
    run_recipe(main)
