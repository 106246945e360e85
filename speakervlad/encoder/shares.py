"""Recordings shared out over processes, and runs that go on where they were interrupted."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speakervlad.corpus.inputs import Recordings
from speakervlad.encoder.encoder import Embedded, Encoder
from speakervlad.encoder.streams import describe_failures
from speakervlad.encoder.windows import Windows
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path, exclusive
from speakervlad.progress import track
from speakervlad.tables.arrays import load_npz
from speakervlad.texts import parse_json

logger = logging.getLogger(__name__)

RUN_NAME = "run.json"
# Seconds between saves: a process that is killed loses at most so much work.
PART_SECONDS = 60.0
POLL_SECONDS = 0.5
NOTICE_SECONDS = 60.0


# Recordings that cannot be used, id and reason, and the number of all.
Tolerate = Callable[[Mapping[str, str], int], None]


class Share(NamedTuple):
    """This process among those that share the recordings."""

    rank: int = 0
    size: int = 1


def share_from_environment() -> Share:
    """``RANK`` and ``WORLD_SIZE``, as ``torchrun`` and job schedulers set them.

    Raises:
        InputError: they are no such pair of numbers.
    """
    rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise InputError(f"RANK={rank}, WORLD_SIZE={size}: expected 0 <= RANK < WORLD_SIZE.")
    return Share(int(rank), int(size))


def keys_of(recordings: Recordings) -> list[str]:
    """What identifies each recording: its id and its path as it was given."""
    pairs = zip(recordings.ids, recordings.paths, strict=True)
    return [_digest(f"{name}\0{path.as_posix()}") for name, path in pairs]


class FinishedParts:
    """Finished recordings of an unfinished run: small files in the folder ``E.npz.parts``.

    Args:
        out: the file that all become.
        settings: what decides the vectors: encoder, precision, windows ...; JSON values.

    Attributes:
        found: keys of the recordings that were finished when this was opened.

    Raises:
        InputError: the folder holds parts of a run with other settings.
    """

    def __init__(self, out: Path, settings: dict[str, object]) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}.parts")
        self.settings = settings
        self._keys: dict[Path, list[str]] = {}
        if (self.folder / RUN_NAME).is_file():
            self._refuse_other_run()
        self.found = frozenset(self.keys())

    def keys(self) -> set[str]:
        """The recordings that are finished by now, whichever process did them."""
        for path in self.folder.glob("[!.]*.npz"):
            if path not in self._keys:
                try:
                    self._keys[path] = list(_read_part(path))
                except InputError as error:
                    logger.warning("%s Its recordings are computed again.", error)
                    path.unlink(missing_ok=True)
        return {key for keys in self._keys.values() for key in keys}

    def add(self, keys: Sequence[str], items: Sequence[Embedded]) -> None:
        """Write one more part."""
        if not keys:
            return
        if not (self.folder / RUN_NAME).is_file():
            with atomic_path(self.folder / RUN_NAME) as temporary:
                temporary.write_text(json.dumps(self.settings))
        name = f"{_digest(''.join(keys))}.npz"
        with atomic_path(self.folder / name) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                keys=np.asarray(keys),
                counts=np.asarray([len(item.vectors) for item in items]),
                seconds=np.asarray([item.seconds for item in items]),
                vectors=np.concatenate([item.vectors for item in items]),
                spans=np.concatenate([item.spans for item in items]),
            )

    def load(self, keys: Sequence[str]) -> list[Embedded]:
        """Finished recordings, in the order of ``keys``."""
        finished: dict[str, Embedded] = {}
        for path in self._keys:
            finished |= _read_part(path)
        return [finished[key] for key in keys]

    def new(self, recordings: Recordings, items: Sequence[Embedded | None]) -> list[Embedded]:
        """Those of the items that were not finished when this was opened."""
        pairs = zip(keys_of(recordings), items, strict=True)
        return [item for key, item in pairs if item is not None and key not in self.found]

    def merged_since(self, moment: float) -> bool:
        """Whether another process has made one file of all parts after ``moment`` (Unix time)."""
        if self.folder.is_dir() or not self.out.is_file():
            return False
        return self.out.stat().st_mtime >= moment

    def remove(self) -> None:
        """Remove the parts, once all is in one file."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _refuse_other_run(self) -> None:
        way_out = "Delete that folder, or choose another --out."
        try:
            theirs = dict(parse_json((self.folder / RUN_NAME).read_text()))
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.folder}: damaged {RUN_NAME}. {way_out}") from error
        other = [name for name, value in self.settings.items() if theirs.get(name) != value]
        if other:
            raise InputError(
                f"{self.folder}: holds parts of an unfinished run with another "
                f"{', '.join(other)}. {way_out}"
            )


def _read_part(path: Path) -> dict[str, Embedded]:
    """The recordings of a part, by key.

    Raises:
        InputError: it is damaged.
    """
    arrays = load_npz(path, ("keys", "counts", "seconds", "vectors", "spans"))
    try:
        cuts = np.cumsum(arrays["counts"])[:-1]
        vectors, spans = (np.split(arrays[name], cuts) for name in ("vectors", "spans"))
        rows = map(Embedded, vectors, spans, arrays["seconds"].tolist())
        return dict(zip(arrays["keys"].tolist(), rows, strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no part of a run of `embed`.") from error


def hold_output(out: Path, share: Share) -> AbstractContextManager[None]:
    """Keep other runs from writing the same file; each process of a run holds a lock of its own.

    Raises:
        InputError: another run holds it, or its folder cannot be written.
    """
    lock = out.with_name(f".{out.name}.{share.rank}.lock")
    busy = f"{out}: another process is writing it. Wait for its end, or choose another --out."
    return exclusive(lock, busy, stays=False)


def open_parts(
    out: Path,
    encoder: Encoder,
    recordings: Recordings,
    *,
    precision: str = "float32",
    windows: Windows | None = None,
) -> FinishedParts:
    """The parts of a run with this encoder and these options.

    Raises:
        InputError: as ``FinishedParts``.
    """
    settings: dict[str, object] = {
        "encoder": encoder.fingerprint,
        "backend": type(encoder.backend).__name__,
        "precision": precision,
        "windows": None if windows is None else list(windows),
        "speech_only": recordings.speech_only,
        "channel": recordings.channel,
    }
    return FinishedParts(out, settings)


def embed_in_parts(
    encoder: Encoder,
    recordings: Recordings,
    parts: FinishedParts,
    *,
    share: Share,
    since: float,
    windows: Windows | None = None,
    tolerate: Tolerate | None = None,
) -> list[Embedded | None] | None:
    """Embed this process's share of what is not finished yet; the first process gets it all.

    The bits do not depend on how the recordings are shared out if there are at least as many as
    cores. Parts are left to the caller, who removes them when the result is stored.

    Args:
        encoder: what embeds.
        recordings: those of all processes.
        parts: where to keep what is finished.
        share: this process.
        since: when the run began, Unix time: what is merged after it needs no more work.
        windows: sliding windows instead of whole recordings.
        tolerate: is given the recordings that cannot be embedded, by id, and the number of all,
            and raises if they are too many; None tolerates none. For one process alone.

    Returns:
        All recordings in order, in the first process, which waits for the others; None in place of
        a tolerated one. Elsewhere None.

    Raises:
        InputError: some files cannot be embedded; the others are kept as parts.
    """
    if tolerate is not None and share.size > 1:
        raise InputError("--max-bad and --bad-list go with one process. Leave them out.")
    if share.rank and parts.merged_since(since):
        return None
    keys = keys_of(recordings)
    if parts.found and not share.rank:
        logger.info("%s: %d recordings are finished already", parts.folder, len(parts.found))
    mine = [r for r in range(share.rank, len(keys), share.size) if keys[r] not in parts.found]
    audio = [recordings.audio(row) for row in mine]
    stream = encoder.embed_stream(audio, encoder.streams_for(len(keys)), windows=windows)
    tracked = stream if share.rank else track(stream, "embedding", len(mine))
    done, failures = _save_now_and_then([keys[row] for row in mine], tracked, parts)
    in_parts = share.size > 1 or parts.folder.is_dir() or (bool(failures) and bool(tolerate))
    if in_parts:
        parts.add(list(done), list(done.values()))
    if failures:
        _judge(failures, dict(zip(keys, recordings.ids, strict=True)), len(mine), tolerate)
    if not in_parts:
        return list(done.values())
    if share.rank:
        return None
    good = [key for key in keys if key not in failures]
    found = dict(zip(good, _wait_for_all(parts, good, share), strict=True))
    return [found.get(key) for key in keys]


def _judge(
    failures: Mapping[str, InputError],
    names: Mapping[str, str],
    num_files: int,
    tolerate: Tolerate | None,
) -> None:
    if tolerate is None:
        raise InputError(describe_failures(list(failures.values()), num_files))
    tolerate({names[key]: str(error) for key, error in failures.items()}, len(names))


def _save_now_and_then(
    keys: Sequence[str], items: Iterable[Embedded | InputError], parts: FinishedParts
) -> tuple[dict[str, Embedded], dict[str, InputError]]:
    """Move results to parts every ``PART_SECONDS``; return the latest ones, and what failed."""
    done: dict[str, Embedded] = {}
    failures: dict[str, InputError] = {}
    saved = time.monotonic()
    for key, item in zip(keys, items, strict=True):
        if isinstance(item, InputError):
            failures[key] = item
            continue
        done[key] = item
        if time.monotonic() - saved >= PART_SECONDS:
            parts.add(list(done), list(done.values()))
            done, saved = {}, time.monotonic()
    return done, failures


def _wait_for_all(parts: FinishedParts, keys: Sequence[str], share: Share) -> list[Embedded]:
    """All recordings, once the other processes have theirs; says at once whom it waits for."""
    noticed = float("-inf")
    while missing := set(keys) - parts.keys():
        if time.monotonic() - noticed >= NOTICE_SECONDS:
            logger.info("%s", _waiting(keys, missing, share))
            noticed = time.monotonic()
        time.sleep(POLL_SECONDS)
    return parts.load(keys)


def _waiting(keys: Sequence[str], missing: Collection[str], share: Share) -> str:
    """What the first process waits for, and what to do where that never comes."""
    ranks = sorted({row % share.size for row, key in enumerate(keys) if key in missing})
    return (
        f"rank {share.rank} of {share.size}: its share is done; waiting for {len(missing)} "
        f"recordings of rank {first_few(map(str, ranks), 8)}. Start those (RANK=... WORLD_SIZE="
        f"{share.size}), or stop all and give the command to one process, which goes on from here."
    )


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()
