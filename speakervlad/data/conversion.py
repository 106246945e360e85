"""Decode a corpus once, so that training reads cheap files: m4a, mp3, opus to flac or wav."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from speakervlad.data.audio import read_audio
from speakervlad.data.bad_files import BadFile, BadList
from speakervlad.data.encoding import write_audio
from speakervlad.data.layouts import audio_below
from speakervlad.data.parallel import map_parallel
from speakervlad.errors import InputError, did_you_mean
from speakervlad.files import check_writable
from speakervlad.progress import Track, silent

FORMATS = ("flac", "wav")


class Conversion(NamedTuple):
    """Files written, files that were there from an earlier run, and those that cannot be read."""

    num_written: int
    num_skipped: int
    bad_files: list[BadFile]


def convert_folder(
    source: str | Path,
    out: str | Path,
    *,
    file_format: str = "flac",
    max_bad: float = 0.01,
    bad_list: BadList | None = None,
    num_workers: int | None = None,
    track: Track = silent,
) -> Conversion:
    """Convert every audio file below a folder to 16 kHz mono, 16 bit, under the same relative name.

    A file appears only when it is complete, so an interrupted run is continued by running it again.

    Args:
        source: Folder to read.
        out: Folder to write.
        file_format: ``flac`` or ``wav``.
        max_bad: Largest tolerated fraction of files that cannot be read.
        bad_list: Where the files that cannot be read are written down, whatever their number.
        num_workers: Processes; one per core when None.
        track: Reports progress.

    Raises:
        InputError: unknown format, no audio, two files with the same name but for the extension,
            too many bad files (the others are converted), ``out`` cannot be written, or the disk is
            full.
    """
    check_format(file_format)
    source, out = Path(source), Path(out)
    names = audio_below(source)
    targets = [str(PurePosixPath(name).with_suffix(f".{file_format}")) for name in names]
    if len(set(targets)) < len(targets):
        twin, _ = Counter(targets).most_common(1)[0]
        raise InputError(f"{source}: several files would become {twin}. Keep one of them.")
    check_writable(out / "file")
    jobs = [
        (name, source / name, out / target) for name, target in zip(names, targets, strict=True)
    ]
    waiting = [job for job in jobs if not job[2].exists()]
    problems = map_parallel(
        _convert,
        waiting,
        num_workers=num_workers,
        description="Converting",
        track=track,
    )
    bad_files = [
        BadFile(job[0], problem) for job, problem in zip(waiting, problems, strict=True) if problem
    ]
    (bad_list or BadList()).add(bad_files, len(jobs), max_bad, str(source))
    return Conversion(len(waiting) - len(bad_files), len(jobs) - len(waiting), bad_files)


def check_format(file_format: str) -> None:
    """Refuse a format that is not written.

    Raises:
        InputError: unknown format.
    """
    if file_format not in FORMATS:
        raise InputError(f"unknown format {file_format!r}. {did_you_mean(file_format, FORMATS)}")


def _convert(job: tuple[str, Path, Path]) -> str:
    """Convert one file; return what is wrong with it, or nothing."""
    _, source, target = job
    try:
        waveform = read_audio(source)
    except InputError as error:
        return str(error)
    samples = np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)
    write_audio(target, samples)
    return ""
