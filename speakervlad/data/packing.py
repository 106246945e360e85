"""A corpus as a few large files, for disks and networks that are slow to open a million small ones.

A shard is the utterances' samples one after another: mono, 16 kHz, 16 bit. In the manifest an
utterance is ``shard-00000.pcm16@first+length``, a path that `read_audio` understands, so whatever
takes a manifest takes a packed one; a crop stays one seek and needs no decoder.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

from speakervlad.data.audio import read_audio
from speakervlad.data.manifest import Manifest
from speakervlad.data.parallel import map_parallel
from speakervlad.data.strings import StringColumn
from speakervlad.errors import InputError
from speakervlad.files import atomic_path, check_writable
from speakervlad.progress import Track, silent

SHARD_SAMPLES = 2**29  # 1 GiB, 9.3 hours


def pack(
    manifest: Manifest,
    folder: str | Path,
    *,
    shard_samples: int = SHARD_SAMPLES,
    num_workers: int | None = None,
    track: Track = silent,
) -> Manifest:
    """Write the shards of a manifest and return the manifest of the shards, in the same order.

    Args:
        manifest: Utterances of any format and rate; channels are averaged.
        folder: Made when missing; the root of the new manifest.
        shard_samples: A shard is closed when the next utterance would exceed it.
        num_workers: Processes; one per core when None.
        track: Reports progress in shards.

    Raises:
        InputError: a file cannot be read, has another length than its row says, or ``folder``
            holds shards or cannot be written. No new shard is left behind.
    """
    folder = Path(folder)
    check_writable(folder / "shard.pcm16")
    if next(folder.glob("*.pcm16"), None) is not None:
        raise InputError(f"{folder}: holds packed shards already. Choose an empty folder.")
    bounds = _shard_bounds(manifest.num_samples, shard_samples)
    shards = [folder / f"shard-{number:05d}.pcm16" for number in range(len(bounds) - 1)]
    parts = [manifest.select(np.arange(*pair)) for pair in pairwise(bounds)]
    try:
        map_parallel(
            _write_shard,
            list(zip(parts, shards, strict=True)),
            num_workers=num_workers,
            min_items_per_worker=1,
            description="Packing shards",
            track=track,
        )
    except BaseException:
        for shard in shards:
            shard.unlink(missing_ok=True)
        raise
    return Manifest(
        folder,
        manifest.utterance_ids,
        StringColumn.of(_packed_paths(manifest.num_samples, bounds, shards)),
        manifest.speakers,
        manifest.sessions,
        manifest.num_samples,
        manifest.extra,
    )


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


def _write_shard(job: tuple[Manifest, Path]) -> None:
    manifest, shard = job
    with atomic_path(shard) as temporary, temporary.open("wb") as file:
        for row, length in enumerate(manifest.num_samples.tolist()):
            waveform = read_audio(manifest.path(row))
            if len(waveform) != length:
                raise InputError(
                    f"{manifest.path(row)}: has {len(waveform)} samples, its manifest says "
                    f"{length}. Prepare its manifest again."
                )
            samples = np.clip(np.rint(waveform * 32768), -32768, 32767)
            file.write(samples.astype("<i2").tobytes())
