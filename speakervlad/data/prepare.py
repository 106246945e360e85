"""From a corpus on disk to a manifest or to cheap files: look at each, count the bad ones."""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from speakervlad.data.audio import (
    SAMPLE_RATE,
    audio_info,
    check_speech,
    is_band_limited,
    read_audio,
    write_audio,
)
from speakervlad.data.layouts import LAYOUTS, Rows, audio_below
from speakervlad.data.manifest import Manifest, check_rows
from speakervlad.data.work import BadFile, Work
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.files import check_writable

logger = logging.getLogger(__name__)

TAIL_SAMPLES = 2 * SAMPLE_RATE
FORMATS = ("flac", "wav")


class Preparation(NamedTuple):
    """The manifest of the usable files, the others, and the ids of telephone-band files."""

    manifest: Manifest
    bad_files: list[BadFile]
    narrow_band: list[str]


class _Finding(NamedTuple):
    num_samples: int
    problem: str
    is_narrow: bool


def prepare(
    source: str | Path,
    *,
    layout: str,
    decode: bool = False,
    work: Work | None = None,
) -> Preparation:
    """Make the manifest of a corpus.

    Args:
        source: Folder, or a CSV with the layout ``csv``.
        layout: A key of `LAYOUTS`.
        decode: Decode every file whole; otherwise its header and its last two seconds are read,
            which shows a truncated or silent file but no NaN in its middle.
        work: Processes, progress, and how many files may be bad.

    Raises:
        InputError: unknown layout, a source that does not have it, duplicate utterances, or too
            many files that cannot be used.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}. {did_you_mean(layout, LAYOUTS)}")
    rows = LAYOUTS[layout](Path(source))
    return prepare_rows(rows, str(source), decode=decode, work=work)


def prepare_rows(
    rows: Rows, name: str, *, decode: bool = False, work: Work | None = None
) -> Preparation:
    """As `prepare`, of rows whose source, called ``name`` in messages, has no common layout.

    Raises:
        InputError: no rows, duplicate utterances, or too many files that cannot be used.
    """
    check_rows(rows.utterance_ids, rows.paths, name, rows.first_line)
    work = work or Work()
    examine = partial(_examine, root=rows.root, decode=decode, min_samples=rows.min_samples)
    findings = work.over(rows.paths, examine, "Reading audio files")
    bad_files = [
        BadFile(utterance, finding.problem)
        for utterance, finding in zip(rows.utterance_ids, findings, strict=True)
        if finding.problem
    ]
    work.judge(bad_files, len(findings), name)
    manifest = _manifest_of(rows, findings)
    narrow = [
        utterance
        for utterance, finding in zip(rows.utterance_ids, findings, strict=True)
        if finding.is_narrow and not finding.problem
    ]
    if narrow:
        logger.warning(
            "%d of %d files have nothing above 4 kHz (upsampled telephone audio?): %s",
            len(narrow),
            len(manifest),
            first_few(narrow),
        )
    return Preparation(manifest, bad_files, narrow)


def _examine(path: str, *, root: Path, decode: bool, min_samples: int) -> _Finding:
    """Length of a file, or what is wrong with it."""
    file = root / path
    try:
        num_samples = audio_info(file).num_samples
        if num_samples < min_samples:
            check_speech(np.ones(num_samples), str(file), min_samples=min_samples)
        start = 0 if decode else max(0, num_samples - TAIL_SAMPLES)
        waveform = read_audio(file, start=start, num_samples=num_samples - start)
        if start == 0 or not waveform.any():
            whole = waveform if start == 0 else read_audio(file)
            check_speech(whole, str(file), min_samples=min_samples)
    except InputError as error:
        return _Finding(0, str(error), is_narrow=False)
    except OSError as error:
        return _Finding(0, f"{file}: {error.strerror}. Check its permissions.", is_narrow=False)
    return _Finding(num_samples, "", is_band_limited(waveform))


def _manifest_of(rows: Rows, findings: Sequence[_Finding]) -> Manifest:
    """The manifest of the rows without a problem."""
    good = [row for row, finding in enumerate(findings) if not finding.problem]
    return Manifest.of(
        rows.root,
        utterance_ids=[rows.utterance_ids[row] for row in good],
        paths=[rows.paths[row] for row in good],
        speakers=[rows.speakers[row] for row in good],
        sessions=[rows.sessions[row] for row in good],
        num_samples=[findings[row].num_samples for row in good],
        extra={name: [values[row] for row in good] for name, values in rows.extra.items()},
    )


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
    work: Work | None = None,
) -> Conversion:
    """Convert every audio file below a folder to 16 kHz mono, 16 bit, under the same relative name.

    A file appears only when it is complete, so an interrupted run is continued by running it again.

    Args:
        source: Folder to read.
        out: Folder to write.
        file_format: ``flac`` or ``wav``.
        work: Processes, progress, and how many files may be bad.

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
    work = work or Work()
    problems = work.over(waiting, _convert, "Converting")
    bad_files = [
        BadFile(job[0], problem) for job, problem in zip(waiting, problems, strict=True) if problem
    ]
    work.judge(bad_files, len(jobs), str(source))
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
