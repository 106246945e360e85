"""From a corpus on disk to a manifest: find the files, look at each, count what cannot be used."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speakervlad.data.audio import (
    SAMPLE_RATE,
    audio_info,
    check_speech,
    is_band_limited,
    read_audio,
)
from speakervlad.data.bad_files import BadFile, BadList
from speakervlad.data.layouts import LAYOUTS, Rows
from speakervlad.data.manifest import Manifest, check_rows
from speakervlad.data.parallel import map_parallel
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.progress import Track, silent

logger = logging.getLogger(__name__)

TAIL_SAMPLES = 2 * SAMPLE_RATE


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
    max_bad: float = 0.01,
    decode: bool = False,
    bad_list: BadList | None = None,
    num_workers: int | None = None,
    track: Track = silent,
) -> Preparation:
    """Make the manifest of a corpus.

    Args:
        source: Folder, or a CSV with the layout ``csv``.
        layout: A key of `LAYOUTS`.
        max_bad: Largest tolerated fraction of files that cannot be used.
        decode: Decode every file whole; otherwise its header and its last two seconds are read,
            which shows a truncated or silent file but no NaN in its middle.
        bad_list: Where the files that cannot be used are written down, whatever their number.
        num_workers: Processes; one per core when None.
        track: Reports progress.

    Raises:
        InputError: unknown layout, a source that does not have it, duplicate utterances, or more
            than ``max_bad`` of the files cannot be used.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}. {did_you_mean(layout, LAYOUTS)}")
    return prepare_rows(
        LAYOUTS[layout](Path(source)),
        str(source),
        max_bad=max_bad,
        decode=decode,
        bad_list=bad_list,
        num_workers=num_workers,
        track=track,
    )


def prepare_rows(
    rows: Rows,
    name: str,
    *,
    max_bad: float = 0.01,
    decode: bool = False,
    bad_list: BadList | None = None,
    num_workers: int | None = None,
    track: Track = silent,
) -> Preparation:
    """As `prepare`, of rows whose source, called ``name`` in messages, has no common layout.

    Raises:
        InputError: no rows, duplicate utterances, or too many files that cannot be used.
    """
    check_rows(rows.utterance_ids, rows.paths, name, rows.first_line)
    findings = map_parallel(
        partial(_examine, root=rows.root, decode=decode, min_samples=rows.min_samples),
        rows.paths,
        num_workers=num_workers,
        description="Reading audio files",
        track=track,
    )
    bad_files = [
        BadFile(utterance, finding.problem)
        for utterance, finding in zip(rows.utterance_ids, findings, strict=True)
        if finding.problem
    ]
    (bad_list or BadList()).add(bad_files, len(findings), max_bad, name)
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
