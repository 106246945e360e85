"""From a corpus on disk to a manifest or to cheap files: look at each, count the bad ones."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from speakervlad.audio.quality import QUIET, Level, is_band_limited
from speakervlad.audio.reading import audio_blocks, speech_blocks
from speakervlad.audio.spans import counted_length, load_audio
from speakervlad.audio.speech import SpeechFinder, check_spoken, speech_spans, spoken_blocks
from speakervlad.audio.writing import to_int16, write_audio
from speakervlad.corpus.layouts import LAYOUTS, Rows, audio_below
from speakervlad.corpus.work import BadFile, Work
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.files import alone_in, remove_stale
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest, check_rows

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
    is_narrow: bool = False
    is_quiet: bool = False
    num_spoken: int | None = None


def prepare(
    source: str | Path,
    *,
    layout: str,
    decode: bool = False,
    speech_only: bool = False,
    work: Work | None = None,
) -> Preparation:
    """Make the manifest of a corpus.

    Args:
        source: Folder, or a CSV with the layout ``csv``.
        layout: A key of `LAYOUTS`.
        decode: Decode every file whole; otherwise of PCM and FLAC only header and last two seconds
            are read, which shows a truncated or silent file but no NaN in its middle. Lengths that
            a header would only estimate are always counted.
        speech_only: Decode every file whole, leave out those in which hardly anybody speaks, and
            state how many samples are speech in a further column, ``speech_samples``.
        work: Processes, progress, and how many files may be bad.

    Raises:
        InputError: unknown layout, a source that does not have it, duplicate utterances, or too
            many files that cannot be used.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}. {did_you_mean(layout, LAYOUTS)}")
    rows = LAYOUTS[layout](Path(source))
    return prepare_rows(rows, str(source), decode=decode, speech_only=speech_only, work=work)


def prepare_rows(
    rows: Rows,
    name: str,
    *,
    decode: bool = False,
    speech_only: bool = False,
    work: Work | None = None,
) -> Preparation:
    """As `prepare`, of rows whose source, called ``name`` in messages, has no common layout.

    Raises:
        InputError: no rows, duplicate utterances, or too many files that cannot be used.
    """
    check_rows(rows.utterance_ids, rows.paths, name, rows.first_line)
    work = work or Work()
    examine = partial(
        _examine,
        root=rows.root,
        decode=decode,
        speech_only=speech_only,
        min_samples=rows.min_samples,
    )
    findings = work.over(rows.paths, examine, "Reading audio files")
    bad_files = [
        BadFile(utterance, finding.problem)
        for utterance, finding in zip(rows.utterance_ids, findings, strict=True)
        if finding.problem
    ]
    work.judge(bad_files, len(findings), name)
    manifest = _manifest_of(rows, findings)
    narrow = _named(rows, [finding.is_narrow for finding in findings])
    quiet = _named(rows, [finding.is_quiet for finding in findings])
    for names, what in (
        (narrow, "have nothing above 4 kHz (upsampled telephone audio?)"),
        (quiet, "are very quiet: little of the voice is left in them"),
    ):
        if names:
            count = len(names)
            logger.warning("%d of %d files %s: %s", count, len(manifest), what, first_few(names))
    return Preparation(manifest, bad_files, narrow)


def _named(rows: Rows, marks: list[bool]) -> list[str]:
    return [name for name, mark in zip(rows.utterance_ids, marks, strict=True) if mark]


def _examine(
    path: str, *, root: Path, decode: bool, speech_only: bool, min_samples: int
) -> _Finding:
    """Length of a file, or what is wrong with it."""
    file = root / path
    try:
        length = None if decode or speech_only else counted_length(file)
        if length is not None and length > TAIL_SAMPLES:
            tail = load_audio(file, start=length - TAIL_SAMPLES, num_samples=TAIL_SAMPLES)
            if Level(tail).rms >= QUIET:
                return _Finding(length, "", is_band_limited(tail))
        return _examine_whole(file, min_samples, SpeechFinder() if speech_only else None)
    except InputError as error:
        return _Finding(0, str(error))


def _examine_whole(file: Path, min_samples: int, finder: SpeechFinder | None) -> _Finding:
    """As `_examine`, of a file that is decoded to its end, and listened to by a finder.

    Raises:
        InputError: it cannot be used.
    """
    level, begin, spans = Level(), np.zeros(0, np.float32), []
    for block in audio_blocks(file, level=level):
        spans += [] if finder is None else finder.add(block)
        if len(begin) < 10 * SAMPLE_RATE:
            begin = np.concatenate([begin, block])
    level.check(str(file), min_samples=min_samples)
    found = _Finding(level.num_samples, "", is_band_limited(begin), level.rms < QUIET)
    if finder is None:
        return found
    num_spoken = sum(stop - start for start, stop in [*spans, *finder.finish()])
    check_spoken(num_spoken, level.num_samples, str(file), level.num_channels)
    return found._replace(num_spoken=num_spoken)


def _manifest_of(rows: Rows, findings: Sequence[_Finding]) -> Manifest:
    """The manifest of the rows without a problem."""
    good = [row for row, finding in enumerate(findings) if not finding.problem]
    extra = {name: [values[row] for row in good] for name, values in rows.extra.items()}
    spoken = [findings[row].num_spoken for row in good]
    if None not in spoken:
        extra["speech_samples"] = list(map(str, spoken))
    return Manifest.of(
        rows.root,
        utterance_ids=[rows.utterance_ids[row] for row in good],
        paths=[rows.paths[row] for row in good],
        speakers=[rows.speakers[row] for row in good],
        sessions=[rows.sessions[row] for row in good],
        num_samples=[findings[row].num_samples for row in good],
        extra=extra,
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
    speech_only: bool = False,
    work: Work | None = None,
) -> Conversion:
    """Convert every audio file below a folder to 16 kHz mono, 16 bit, under the same relative name.

    A file appears only when it is complete, so an interrupted run is continued by running it again.

    Args:
        source: Folder to read.
        out: Folder to write.
        file_format: ``flac`` or ``wav``.
        speech_only: Cut out where nobody speaks; files in which hardly anybody does are bad.
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
    jobs = [
        (name, source / name, out / target) for name, target in zip(names, targets, strict=True)
    ]
    work = work or Work()
    with alone_in(out):
        remove_stale(*(job[2] for job in jobs))
        # A power cut may leave an empty file.
        waiting = [job for job in jobs if not job[2].exists() or not job[2].stat().st_size]
        problems = work.over(waiting, partial(_convert, speech_only=speech_only), "Converting")
    bad_files = [
        BadFile(job[0], problem) for job, problem in zip(waiting, problems, strict=True) if problem
    ]
    work.judge(bad_files, len(jobs), str(source))
    return Conversion(len(waiting) - len(bad_files), len(jobs) - len(waiting), bad_files)


def _only_speech(source: Path, whole: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The speech of a file, which is read once more to find it, of its blocks.

    Raises:
        InputError: it cannot be read, or hardly anybody speaks in it.
    """
    finder, level = SpeechFinder(), Level()
    spans = list(speech_spans(audio_blocks(source, level=level), finder))
    num_spoken = sum(stop - start for start, stop in spans)
    check_spoken(num_spoken, finder.num_samples, str(source), level.num_channels)
    return spoken_blocks(whole, spans)


def check_format(file_format: str) -> None:
    """Refuse a format that is not written.

    Raises:
        InputError: unknown format.
    """
    if file_format not in FORMATS:
        raise InputError(f"unknown format {file_format!r}. {did_you_mean(file_format, FORMATS)}")


def _convert(job: tuple[str, Path, Path], *, speech_only: bool) -> str:
    """Convert one file; return what is wrong with it, or nothing.

    Raises:
        InputError: the target cannot be written.
    """
    _, source, target = job
    problems = []

    def blocks() -> Iterator[np.ndarray]:
        try:
            whole = speech_blocks(source, min_samples=1)
            yield from map(to_int16, _only_speech(source, whole) if speech_only else whole)
        except InputError as error:
            problems.append(str(error))
            raise

    try:
        write_audio(target, blocks())
    except InputError:
        if not problems:
            raise
    return "".join(problems)
