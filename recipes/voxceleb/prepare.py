"""From the archives of VoxCeleb to manifests: check, unpack, convert, count. Fetches nothing.

python recipes/voxceleb/prepare.py ARCHIVES OUT [--part vox1_dev ...]
"""

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from speakervlad.cli.console import notes
from speakervlad.cli.data import Workers, work_of
from speakervlad.cli.options import BadListPath, MaxBad
from speakervlad.cli.recipe import run_recipe
from speakervlad.corpus.work import BadList, Work
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.files import atomic_path, check_writable, naming_full_disk
from speakervlad.progress import track
from speakervlad.tables.manifest import save_manifest

CHUNK = 2**24


class Part(NamedTuple):
    """One part of the corpus: its archive in pieces with their MD5 sums, and what it holds."""

    pieces: dict[str, str]
    num_utterances: int
    num_speakers: int


PARTS = {
    "vox1_dev": Part(
        {
            "vox1_dev_wav_partaa": "e395d020928bc15670b570a21695ed96",
            "vox1_dev_wav_partab": "bbfaaccefab65d82b21903e81a8a8020",
            "vox1_dev_wav_partac": "017d579a2a96a077f40042ec33e51512",
            "vox1_dev_wav_partad": "7bb1e9f70fddc7a678fa998ea8b3ba19",
        },
        148_642,
        1_211,
    ),
    "vox1_test": Part({"vox1_test_wav.zip": "185fdc63c3c739954633d50379a3d102"}, 4_874, 40),
    "vox2_dev": Part(
        {
            "vox2_dev_aac_partaa": "da070494c573e5c0564b1d11c3b20577",
            "vox2_dev_aac_partab": "17fe6dab2b32b48abaf1676429cdd06f",
            "vox2_dev_aac_partac": "1de58e086c5edf63625af1cb6d831528",
            "vox2_dev_aac_partad": "5a043eb03e15c5a918ee6a52aad477f9",
            "vox2_dev_aac_partae": "cea401b624983e2d0b2a87fb5d59aa60",
            "vox2_dev_aac_partaf": "fc886d9ba90ab88e7880ee98effd6ae9",
            "vox2_dev_aac_partag": "d160ecc3f6ee3eed54d55349531cb42e",
            "vox2_dev_aac_partah": "6b84a81b9af72a9d9eecbb3b1f602e65",
        },
        1_092_009,
        5_994,
    ),
    "vox2_test": Part({"vox2_test_aac.zip": "0d2b3ea430a821c33263b5ea37ede312"}, 36_237, 118),
}


def main(
    archives: Annotated[Path, typer.Argument(help="Folder with the downloaded archives.")],
    out: Annotated[Path, typer.Argument(help="Folder for audio and manifests.")],
    part: Annotated[list[str] | None, typer.Option(help="vox1_dev, ...; all by default.")] = None,
    unpacked: Annotated[
        bool, typer.Option(help="ARCHIVES is the unpacked audio of the one --part.")
    ] = False,
    file_format: Annotated[str, typer.Option("--format", help="flac | wav")] = "flac",
    max_bad: MaxBad = "0.1%",
    bad_list: BadListPath = None,
    keep_archive: Annotated[bool, typer.Option(help="Keep the joined zip.")] = False,
    workers: Workers = None,
) -> None:
    """Check, unpack and convert the archives of VoxCeleb, and write a manifest per part."""
    from speakervlad.corpus.prepare import check_format, convert_folder

    check_format(file_format)
    names = check_parts(part, unpacked)
    work = work_of(max_bad, BadList(bad_list), workers)
    if unpacked:
        check_unpacked(archives, names[0], work.max_bad)
        convert_folder(archives, out / names[0], file_format=file_format, work=work)
        write_manifest(out, names[0], work)
        return
    check_archives(archives, out, names)
    for name in names:
        if not unpacked_mark(out, name).exists():
            unpack_part(archives, out, name, keep_archive=keep_archive)
        if (out / "archive" / name).exists():
            convert_folder(out / "archive" / name, out / name, file_format=file_format, work=work)
        write_manifest(out, name, work)


def check_parts(part: list[str] | None, unpacked: bool) -> list[str]:
    """The parts to prepare.

    Raises:
        InputError: an unknown one, or several where one is needed.
    """
    for name in part or ():
        if name not in PARTS:
            raise InputError(f"unknown part {name!r}. {did_you_mean(name, PARTS)}")
    if unpacked and len(part or ()) != 1:
        raise InputError("--unpacked: which part is it? Name one, such as --part vox1_dev.")
    return part or list(PARTS)


def check_unpacked(source: Path, name: str, max_bad: float) -> None:
    """Before any work: as many files as published.

    Raises:
        InputError: no such folder, no VoxCeleb in it, or another part of it.
    """
    from speakervlad.corpus.layouts import read_voxceleb

    rows = read_voxceleb(source)
    check_counts(name, len(rows.paths), len(set(rows.speakers)), max_bad)


def unpacked_mark(out: Path, name: str) -> Path:
    """What says that a part is unpacked: its archives are not needed any more."""
    return out / f"{name}.unpacked"


def check_archives(archives: Path, out: Path, names: list[str]) -> None:
    """Before any work: nothing lacks and no sum is wrong in any part that is not yet unpacked.

    Raises:
        InputError: archives are missing or damaged.
    """
    waiting = [name for name in names if not unpacked_mark(out, name).exists()]
    for name in waiting:
        check_pieces(archives, name, PARTS[name].pieces)
    sums = {piece: md5 for name in waiting for piece, md5 in PARTS[name].pieces.items()}
    checked = out / "checked"
    check_writable(checked / "note")
    damaged = [
        f"{piece} ({found}, expected {sums[piece]})"
        for piece in track(list(sums), "Checking MD5 sums")
        if (found := md5_of(archives / piece, checked / piece)) != sums[piece]
    ]
    if damaged:
        raise InputError(
            f"{archives}: {len(damaged)} archive(s) have another MD5 sum than published: "
            f"{first_few(damaged, 8)}. Download them again."
        )


def md5_of(path: Path, note: Path) -> str:
    """The MD5 sum, from a note of it while size and time of the file are those of the note."""
    status = path.stat()
    state = f"{status.st_size} {status.st_mtime_ns}"
    if note.is_file():
        *noted, md5 = note.read_text(encoding="utf-8").split(" ")
        if " ".join(noted) == state:
            return md5
    checksum = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            checksum.update(chunk)
    with atomic_path(note) as temporary:
        temporary.write_text(f"{state} {checksum.hexdigest()}", encoding="utf-8")
    return checksum.hexdigest()


def unpack_part(archives: Path, out: Path, name: str, *, keep_archive: bool) -> None:
    """From the pieces to ``OUT/archive/PART``."""
    joined = join(archives, out / f"{name}.zip", PARTS[name].pieces)
    unpack(joined, out / "archive" / name)
    if not keep_archive:
        joined.unlink()
    unpacked_mark(out, name).touch()


def write_manifest(out: Path, name: str, work: Work) -> None:
    """``OUT/PART.csv``, if the part is as large as published."""
    from speakervlad.corpus.prepare import prepare

    manifest = prepare(out / name, layout="voxceleb", work=work).manifest
    check_counts(name, len(manifest), len(manifest.speaker_names), work.max_bad)
    save_manifest(out / f"{name}.csv", manifest)
    notes.print(f"{name}: {len(manifest)} utterances: {out / name}.csv")


def check_pieces(archives: Path, name: str, pieces: dict[str, str]) -> None:
    """Refuse to begin with an incomplete download."""
    missing = [piece for piece in pieces if not (archives / piece).is_file()]
    if missing:
        raise InputError(
            f"{archives}: {len(missing)} of {len(pieces)} archives of {name} are missing: "
            f"{first_few(missing, 8)}. Download them, or leave {name} out with --part."
        )


def join(archives: Path, out: Path, pieces: dict[str, str]) -> Path:
    """Join the pieces of a zip."""
    if out.exists():
        return out
    with atomic_path(out) as temporary, temporary.open("wb") as joined:
        for piece in track(list(pieces), f"Joining {out.stem}"):
            with (archives / piece).open("rb") as file:
                shutil.copyfileobj(file, joined, CHUNK)
    return out


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip; members that are there with their full size are skipped."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            for member in track(members, f"Unpacking {archive.stem}", len(members)):
                target = folder / member.filename
                if not target.is_file() or target.stat().st_size != member.file_size:
                    with naming_full_disk(target):
                        file.extract(member, folder)
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive}: not a whole zip ({error}). Join its pieces again.") from error


def check_counts(name: str, num_utterances: int, num_speakers: int, max_bad: float) -> None:
    """Compare with the published totals.

    Raises:
        InputError: speakers or too many utterances are missing.
    """
    known = PARTS[name]
    too_few = num_utterances < (1 - max_bad) * known.num_utterances
    if too_few or num_speakers != known.num_speakers:
        raise InputError(
            f"{name}: {num_utterances} utterances of {num_speakers} speakers, published are "
            f"{known.num_utterances} of {known.num_speakers}. Name the folder of this part alone, "
            "or unpack its archive again."
        )


if __name__ == "__main__":
    run_recipe(main)
