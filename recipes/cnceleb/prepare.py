"""Manifests of CN-Celeb: training speakers with genre, evaluation files by their list names.

python recipes/cnceleb/prepare.py CN-Celeb_flac OUT
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from speakervlad.cli.console import console, track
from speakervlad.cli.recipe import run_recipe
from speakervlad.data.manifest import Manifest
from speakervlad.data.prepare import prepare
from speakervlad.errors import InputError


def main(
    source: Annotated[Path, typer.Argument(help="Unpacked CN-Celeb: data/, dev/, eval/.")],
    out: Annotated[Path, typer.Argument(help="Folder for the three manifests.")],
    workers: Annotated[int | None, typer.Option(help="Processes; one per core.")] = None,
) -> None:
    """Write train.csv (speakers of dev/dev.lst), eval.csv (eval/), eval_single.csv (see README)."""
    for needed in ("data", "eval/enroll", "eval/test", "dev/dev.lst"):
        if not (source / needed).exists():
            raise InputError(f"{source / needed}: not there. Unpack the whole archive.")
    data = prepare(
        source / "data", layout="speaker-folders", num_workers=workers, track=track
    ).manifest
    train = training_part(data, source / "dev" / "dev.lst")
    others = data.select(~np.isin(data.speakers, train.speaker_names))
    train.save(out / "train.csv")
    evaluation = prepare(
        source / "eval", layout="speaker-folders", num_workers=workers, track=track
    ).manifest
    by_speaker(evaluation).save(out / "eval.csv")
    single_enrolment(source, others, evaluation).save(out / "eval_single.csv")
    console.print(
        f"{len(train)} training utterances of {len(train.speaker_names)} speakers, "
        f"{len(evaluation)} evaluation files, {len(others)} single utterances to enrol with"
    )


def training_part(data: Manifest, dev_list: Path) -> Manifest:
    """The listed speakers; of ``genre-session-utterance`` the session is ``genre-session``."""
    listed = set(dev_list.read_text(encoding="utf-8").split())
    missing = sorted(listed - set(data.speaker_names))
    if missing:
        raise InputError(
            f"{dev_list}: {len(missing)} speaker(s) without audio, such as {missing[0]}. "
            "Unpack the whole archive."
        )
    chosen = data.select([name in listed for name in data.speakers])
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


def by_speaker(evaluation: Manifest) -> Manifest:
    """``enroll/id00800-enroll`` and ``test/id00800-singing-01-001`` belong to id00800."""
    names = list(evaluation.utterance_ids)
    return Manifest.of(
        evaluation.root,
        utterance_ids=names,
        paths=list(evaluation.paths),
        speakers=[name.rsplit("/", 1)[-1].split("-")[0] for name in names],
        sessions=[name.rsplit("-", 1)[0] for name in names],
        num_samples=evaluation.num_samples,
    )


def single_enrolment(source: Path, singles: Manifest, evaluation: Manifest) -> Manifest:
    """The test files, and what ``enroll.map`` names: single utterances as ``id00800/name``."""
    tests = evaluation.select([name.startswith("test/") for name in evaluation.utterance_ids])
    parts = {"data": singles, "eval": by_speaker(tests)}
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
