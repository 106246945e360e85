"""Manifests of LibriSpeech: one per split, with subset and sex of the reader from SPEAKERS.TXT.

python recipes/librispeech/prepare.py LibriSpeech OUT
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

SPLITS = ("train", "dev", "test")


def main(
    source: Annotated[Path, typer.Argument(help="Unpacked LibriSpeech, with SPEAKERS.TXT.")],
    out: Annotated[Path, typer.Argument(help="Folder for train.csv, dev.csv, test.csv.")],
    workers: Annotated[int | None, typer.Option(help="Processes; one per core.")] = None,
) -> None:
    """Write a manifest per split from the subsets that are there: speaker, chapter, utterance."""
    readers = read_speakers(source / "SPEAKERS.TXT")
    subsets = sorted(path.name for path in source.iterdir() if path.is_dir())
    if not any(subset.split("-")[0] in SPLITS for subset in subsets):
        raise InputError(
            f"{source}: no subset such as train-clean-100. Name its LibriSpeech folder."
        )
    for split in SPLITS:
        chosen = [subset for subset in subsets if subset.split("-")[0] == split]
        parts = [
            prepare(
                source / subset, layout="speaker-folders", num_workers=workers, track=track
            ).manifest
            for subset in chosen
        ]
        if parts:
            manifest = join(source, chosen, parts, readers)
            manifest.save(out / f"{split}.csv")
            console.print(
                f"{split}: {len(manifest)} utterances of {len(manifest.speaker_names)} speakers"
            )


def read_speakers(path: Path) -> dict[str, str]:
    """Reader id -> M or F.

    Raises:
        InputError: no such file, or a line without ``|``.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Unpack LibriSpeech's archives into one folder.")
    lines = path.read_text(encoding="utf-8").splitlines()
    fields = [line.split("|") for line in lines if line.strip() and not line.startswith(";")]
    if any(len(row) < 3 for row in fields):
        raise InputError(f"{path}: a line without `id | sex | subset`. Unpack it again.")
    return {row[0].strip(): row[1].strip() for row in fields}


def join(
    source: Path, subsets: list[str], parts: list[Manifest], readers: dict[str, str]
) -> Manifest:
    """One manifest of several subsets, rooted at the LibriSpeech folder."""
    speakers = [name for part in parts for name in part.speakers]
    unknown = sorted(set(speakers) - set(readers))
    if unknown:
        raise InputError(f"{source / 'SPEAKERS.TXT'}: reader {unknown[0]} is not listed there.")
    names = [name for name, part in zip(subsets, parts, strict=True) for _ in range(len(part))]
    return Manifest.of(
        source,
        utterance_ids=[name.rsplit("/", 1)[1] for part in parts for name in part.utterance_ids],
        paths=[
            f"{subset}/{path}"
            for subset, part in zip(subsets, parts, strict=True)
            for path in part.paths
        ],
        speakers=speakers,
        sessions=[name for part in parts for name in part.sessions],
        num_samples=np.concatenate([part.num_samples for part in parts]),
        extra={"subset": names, "sex": [readers[name] for name in speakers]},
    )


if __name__ == "__main__":
    run_recipe(main)
