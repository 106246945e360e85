"""A corpus as a few large files, for disks and networks that are slow to open a million small ones.

A shard is the utterances' samples one after another: mono, 16 kHz, 16 bit. In the manifest an
utterance is ``shard-00000.pcm16@first+length``, a path that `load_audio` understands, so whatever
takes a manifest takes a packed one; a crop stays one seek and needs no decoder.

Which utterance lies where follows from the lengths alone: one that cannot be read leaves its place
empty and is left out of the manifest. ``shards.json`` says what the shards of a folder belong to,
``shard-00000.bad.json`` which places are empty, so that packing goes on where it was interrupted.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speakervlad.audio.reading import audio_blocks
from speakervlad.audio.writing import to_int16
from speakervlad.corpus.work import BadFile, Work
from speakervlad.errors import InputError
from speakervlad.files import alone_in, atomic_path, remove_stale
from speakervlad.tables.manifest import TEXT, Manifest
from speakervlad.texts import parse_json

SHARD_SAMPLES = 2**29  # 1 GiB, 9.3 hours
PLAN_NAME = "shards.json"


class _Job(NamedTuple):
    part: Manifest
    shard: Path

    @property
    def notes(self) -> Path:
        """Where the rows that could not be read are written down with the reasons."""
        return self.shard.with_suffix(".bad.json")

    def read_notes(self) -> list[tuple[int, str]]:
        """Those rows and reasons; none if the notes are damaged, so that all is tried again."""
        try:
            noted = parse_json(self.notes.read_text(encoding="utf-8"))
            return [(range(len(self.part))[row], str(reason)) for row, reason in noted]
        except (IndexError, TypeError, ValueError):
            return []

    def is_written(self) -> bool:
        size = 2 * int(self.part.num_samples.sum())
        return self.shard.is_file() and self.shard.stat().st_size == size

    def is_done(self) -> bool:
        """Whether it is written and has no empty place."""
        return self.is_written() and not self.notes.exists()


def pack(
    manifest: Manifest,
    folder: str | Path,
    *,
    shard_samples: int = SHARD_SAMPLES,
    work: Work | None = None,
) -> Manifest:
    """Write the shards of a manifest and return the manifest of the shards, in the same order.

    An interrupted run is continued by running it again: shards that are there are kept, and only
    what could not be read is tried once more.

    Args:
        manifest: Utterances of any format and rate; channels are averaged.
        folder: Made when missing; the root of the new manifest.
        shard_samples: A shard is closed when the next utterance would exceed it.
        work: Processes, progress in shards, and how many files may be bad: unreadable, or of
            another length than their row says.

    Raises:
        InputError: too many bad files (the others are packed), ``folder`` holds the shards of
            something else or cannot be written, or the disk is full.
    """
    folder = Path(folder)
    with alone_in(folder):
        return _pack(manifest, folder, shard_samples, work or Work())


def _pack(manifest: Manifest, folder: Path, shard_samples: int, work: Work) -> Manifest:
    _claim(folder, manifest, shard_samples)
    bounds = _shard_bounds(manifest.num_samples, shard_samples)
    shards = [folder / f"shard-{number:05d}.pcm16" for number in range(len(bounds) - 1)]
    jobs = [
        _Job(manifest.select(np.arange(*pair)), shard)
        for pair, shard in zip(pairwise(bounds), shards, strict=True)
    ]
    others = (folder / PLAN_NAME, folder / "manifest.csv")
    remove_stale(*others, *shards, *(job.notes for job in jobs))
    waiting = [job for job in jobs if not job.is_done()]
    bad_files = work.over(waiting, _write_shard, "Packing shards", min_items_per_worker=1)
    bad = [file for files in bad_files for file in files]
    work.judge(bad, len(manifest), str(folder))
    paths = np.array(_packed_paths(manifest.num_samples, bounds, shards), TEXT)
    packed = replace(manifest, root=folder, paths=paths)
    return _without(packed, {file.utterance_id for file in bad})


def _claim(folder: Path, manifest: Manifest, shard_samples: int) -> None:
    """Write down what the shards will hold, or compare it with what was written down before.

    Raises:
        InputError: the folder's shards are others.
    """
    digest = hashlib.sha256()
    for column in (manifest.utterance_ids, manifest.paths):
        digest.update("\n".join(column).encode())
    digest.update(manifest.num_samples.tobytes())
    plan = {"shard_samples": shard_samples, "rows_sha256": digest.hexdigest()}
    path = folder / PLAN_NAME
    text = json.dumps(plan, indent=2) + "\n"
    if path.exists() or next(folder.glob("*.pcm16"), None) is not None:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            raise InputError(
                f"{folder}: holds the shards of another manifest, or shards of another length. "
                "Choose an empty folder."
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _without(manifest: Manifest, names: set[str]) -> Manifest:
    if not names:
        return manifest
    return manifest.select([name not in names for name in manifest.utterance_ids])


def _shard_bounds(num_samples: np.ndarray, shard_samples: int) -> list[int]:
    """First row of every shard, and the number of rows."""
    ends = np.cumsum(num_samples)
    bounds, filled = [0], 0
    while bounds[-1] < len(ends):
        row = int(np.searchsorted(ends, filled + shard_samples, side="right"))
        bounds.append(max(row, bounds[-1] + 1))
        filled = int(ends[bounds[-1] - 1])
    return bounds


def _packed_paths(num_samples: np.ndarray, bounds: list[int], shards: list[Path]) -> list[str]:
    firsts = np.cumsum(num_samples) - num_samples
    paths = []
    for shard, (begin, end) in zip(shards, pairwise(bounds), strict=True):
        offsets = (firsts[begin:end] - firsts[begin]).tolist()
        lengths = num_samples[begin:end].tolist()
        paths += [
            f"{shard.name}@{offset}+{length}"
            for offset, length in zip(offsets, lengths, strict=True)
        ]
    return paths


def _write_shard(job: _Job) -> list[BadFile]:
    """Write a shard, unless the one there holds all that can be read; return what cannot."""
    noted = job.read_notes() if job.is_written() else []
    if not noted or any(_is_readable(job.part, row) for row, _ in noted):
        # In this order no shard is ever whole without the notes of its empty places.
        job.shard.unlink(missing_ok=True)
        job.notes.unlink(missing_ok=True)
        with atomic_path(job.shard) as temporary:
            noted = _write_rows(job.part, temporary)
            if noted:
                with atomic_path(job.notes) as notes:
                    notes.write_text(json.dumps(noted), encoding="utf-8")
    return [BadFile(job.part.utterance_ids[row], reason) for row, reason in noted]


def _write_rows(part: Manifest, shard: Path) -> list[tuple[int, str]]:
    """Write what can be read, each row in its place; return the other rows and the reasons."""
    unreadable = []
    with shard.open("wb") as file:
        for row, length in enumerate(part.num_samples.tolist()):
            begin = file.tell()
            try:
                for samples in _read_row(part, row):
                    file.write(samples.tobytes())
            except InputError as error:
                unreadable.append((row, str(error)))
                file.truncate(begin)
                file.seek(begin + 2 * length)
        file.truncate()
    return unreadable


def _is_readable(part: Manifest, row: int) -> bool:
    try:
        for _ in _read_row(part, row):
            pass
    except InputError:
        return False
    return True


def _read_row(part: Manifest, row: int) -> Iterator[np.ndarray]:
    """Blocks of an utterance in 16 bits, not more than belong to it.

    Raises:
        InputError: it cannot be read, or has another length than its row says.
    """
    path, length, found = part.path(row), int(part.num_samples[row]), 0
    for block in audio_blocks(path):
        found += len(block)
        if found <= length:
            yield to_int16(block)
    if found != length:
        raise InputError(
            f"{path}: has {found} samples, its manifest says {length}. Prepare its manifest again."
        )
