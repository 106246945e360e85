"""Manifests of LibriSpeech: one per split, with subset and sex of the reader from SPEAKERS.TXT.

python recipes/librispeech/prepare.py LibriSpeech OUT
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from speakervlad.cli.console import notes
from speakervlad.cli.data import Workers, work_of
from speakervlad.cli.options import BadListPath, MaxBad
from speakervlad.cli.recipe import run_recipe
from speakervlad.corpus.layouts import audio_below
from speakervlad.corpus.prepare import prepare
from speakervlad.corpus.work import BadList
from speakervlad.errors import InputError, first_few
from speakervlad.tables.manifest import Manifest, save_manifest

SPLITS = ("train", "dev", "test")


class Reader(NamedTuple):
    """A line of SPEAKERS.TXT: M or F, and the one subset with the reader's recordings."""

    sex: str
    subset: str


def main(
    source: Annotated[Path, typer.Argument(help="Unpacked LibriSpeech, with SPEAKERS.TXT.")],
    out: Annotated[Path, typer.Argument(help="Folder for train.csv, dev.csv, test.csv.")],
    max_bad: MaxBad = "1%",
    bad_list: BadListPath = None,
    workers: Workers = None,
) -> None:
    """Write a manifest per split from the subsets that are there: speaker, chapter, utterance."""
    work = work_of(max_bad, BadList(bad_list), workers)
    readers = read_speakers(source / "SPEAKERS.TXT")
    subsets = sorted(path.name for path in source.iterdir() if path.is_dir())
    subsets = [subset for subset in subsets if subset.split("-")[0] in SPLITS]
    check_readers(source, subsets, readers)
    for split in SPLITS:
        chosen = [subset for subset in subsets if subset.split("-")[0] == split]
        parts = [
            prepare(source / subset, layout="speaker-folders", work=work).manifest
            for subset in chosen
        ]
        if parts:
            manifest = join(source, chosen, parts, readers)
            save_manifest(out / f"{split}.csv", manifest)
            notes.print(
                f"{split}: {len(manifest)} utterances of {len(manifest.speaker_names)} speakers"
            )


def read_speakers(path: Path) -> dict[str, Reader]:
    """Reader by id.

    Raises:
        InputError: no such file, or a line without ``|``.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Unpack LibriSpeech's archives into one folder.")
    lines = path.read_text(encoding="utf-8").splitlines()
    fields = [line.split("|") for line in lines if line.strip() and not line.startswith(";")]
    if any(len(row) < 3 for row in fields):
        raise InputError(f"{path}: a line without `id | sex | subset`. Unpack it again.")
    return {row[0].strip(): Reader(row[1].strip(), row[2].strip()) for row in fields}


def check_readers(source: Path, subsets: list[str], readers: dict[str, Reader]) -> None:
    """Refuse a folder without subsets, and subsets that are not whole.

    Raises:
        InputError: readers whose audio is not there, or who are not listed.
    """
    if not subsets:
        raise InputError(
            f"{source}: no subset such as train-clean-100. Name its LibriSpeech folder."
        )
    for subset in subsets:
        found = {path.split("/")[0] for path in audio_below(source / subset)}
        listed = {name for name, reader in readers.items() if reader.subset == subset}
        missing = sorted(listed - found)
        if missing:
            raise InputError(
                f"{source / subset}: {len(missing)} of the {len(listed)} readers of SPEAKERS.TXT "
                f"are not there: {first_few(missing)}. Unpack the whole archive."
            )
        unknown = sorted(found - set(readers))
        if unknown:
            raise InputError(f"{source / 'SPEAKERS.TXT'}: reader {unknown[0]} is not listed there.")


def join(
    source: Path, subsets: list[str], parts: list[Manifest], readers: dict[str, Reader]
) -> Manifest:
    """One manifest of several subsets, rooted at the LibriSpeech folder."""
    speakers = [name for part in parts for name in part.speakers]
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
        extra={"subset": names, "sex": [readers[name].sex for name in speakers]},
    )


if __name__ == "__main__":
    run_recipe(main)
