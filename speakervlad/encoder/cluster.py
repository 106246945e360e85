"""Recordings by the million on a Ray cluster: fixed slices, each a Parquet shard when it is done.

The nodes share a file system for the shards; recordings may be URLs. A slice is computed by one
core, so that the vectors are those of one process, bit for bit on processors of one kind.
"""

import hashlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.corpus.inputs import Recordings
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.errors import InputError
from speakervlad.extras import require
from speakervlad.files import atomic_path
from speakervlad.progress import track
from speakervlad.remote import CONNECT_SECONDS, allow_private
from speakervlad.tables.parquet import read_errors, write_shard
from speakervlad.texts import parse_json

RUN_NAME = "run.json"
SLICE_ROWS = 1000

Item = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What every worker must know.

    Attributes:
        out: folder of the shards, on a file system that all nodes share.
        encoder: as ``load_encoder`` takes it, on every node.
        fingerprint: of the encoder.
        backend: as ``load_encoder`` takes it.
        channel: of all recordings.
        speech_only: of all recordings.
        private: whether URLs may lead to private networks.
    """

    out: str
    encoder: str
    fingerprint: str | None
    backend: str = "auto"
    channel: int | None = None
    speech_only: bool = False
    private: bool = False


def make_shards(batch: Mapping[str, Any], job: Job) -> Mapping[str, Any]:
    """Make the shards of some slices, given as JSON; returns their numbers.

    Raises:
        InputError: the encoder here has other weights, or a shard cannot be written.
    """
    encoder, numbers = encoder_here(job), []
    for text in batch["slice"]:
        item = json.loads(str(text))
        path = Path(job.out) / shard_name(item["number"])
        if not path.is_file():
            write_slice(encoder, job, item, path)
        numbers.append(item["number"])
    return {"number": np.array(numbers)}


@lru_cache(maxsize=1)
def encoder_here(job: Job) -> Encoder:
    """The encoder of a worker, which loads it once and keeps it for all of its slices.

    Raises:
        InputError: it has other weights here.
    """
    # One core: what is computed on several has other last bits.
    os.environ["LOCAL_WORLD_SIZE"] = str(os.cpu_count() or 1)
    allow_private(job.private)
    encoder = load_encoder(job.encoder, device="cpu", backend=job.backend)
    if encoder.fingerprint != job.fingerprint:
        raise InputError(
            f"{job.encoder}: has other weights on the node {os.uname().nodename} than where "
            "the command was given. Copy the encoder there."
        )
    return encoder


def write_slice(encoder: Encoder, job: Job, item: Item, path: Path) -> None:
    """Embed the recordings of a slice; those that cannot be embedded have a reason instead."""
    recordings = Recordings(
        item["ids"], [Path(each) for each in item["paths"]], job.channel, job.speech_only
    )
    audio = [recordings.audio(row) for row in range(len(recordings.ids))]
    found = list(encoder.embed_stream(audio, 1))
    write_shard(
        path,
        recordings.ids,
        [None if isinstance(each, InputError) else each.vectors[0] for each in found],
        [None if isinstance(each, InputError) else each.seconds for each in found],
        [str(each) if isinstance(each, InputError) else None for each in found],
        encoder.dim,
        encoder.fingerprint,
    )


def shard_name(number: int) -> str:
    """``00000012.parquet``."""
    return f"{number:08d}.parquet"


def slices_of(recordings: Recordings, rows: int) -> Iterator[Item]:
    """Yield slices of so many recordings, numbered from 0."""
    pairs = iter(zip(recordings.ids, recordings.paths, strict=True))
    number = 0
    while part := list(islice(pairs, rows)):
        ids, paths = zip(*part, strict=True)
        yield {"number": number, "ids": ids, "paths": [each.as_posix() for each in paths]}
        number += 1


def embed_on_ray(
    recordings: Recordings, job: Job, *, address: str | None = None, rows: int = SLICE_ROWS
) -> dict[str, str]:
    """Make the shards that are not there yet, on a cluster or on this machine.

    Args:
        recordings: all of them.
        job: what to do with them.
        address: of the cluster; None starts Ray here.
        rows: recordings of a slice.

    Returns:
        What could not be embedded, id and reason, in all shards.

    Raises:
        InputError: no Ray, no cluster at the address, or the folder is of another run.
    """
    require("ray", "ray", "--engine ray")
    out = Path(job.out)
    items = list(slices_of(recordings, rows))
    _check_run(out, job, items, rows)
    waiting = [each for each in items if not (out / shard_name(each["number"])).is_file()]
    if waiting:
        try:
            _run(waiting, job, address)
        except InputError:
            _leave_nothing(out)
            raise
    return {
        name: reason
        for item in items
        for name, reason in read_errors(out / shard_name(item["number"])).items()
    }


def _run(items: list[Item], job: Job, address: str | None) -> None:
    # Ray tells its maker of its use otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports]
    import ray.data  # pyright: ignore[reportMissingImports]

    started = not ray.is_initialized()
    if started:
        _check_address(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as error:  # connections, versions, time limits: many classes
            reason = str(error).strip().partition("\n")[0][:200]
            raise InputError(f"--address {address}: no Ray cluster there ({reason}).") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        texts = [{"slice": json.dumps(item)} for item in items]
        # A block for each slice, so that a node that is lost costs one slice a core. Tasks, not
        # actors: those of a lost node go to any free core, while what an actor had begun waits for
        # it to start again, for which it finds no core where other actors hold them all.
        data = ray.data.from_items(texts, override_num_blocks=len(texts)).map_batches(
            make_shards, fn_kwargs={"job": job}, batch_size=1, num_cpus=1
        )
        for _ in track(data.iter_rows(), "embedding", len(texts)):
            pass
    except InputError:
        raise
    except Exception as error:  # what a worker raises comes wrapped
        reason = str(error).strip().splitlines()[-1][:300]
        raise InputError(
            f"{job.out}: Ray stopped ({reason}). The shards that are there stay; give the same "
            "command again to go on."
        ) from error
    finally:
        if started:
            ray.shutdown()


def _check_address(address: str | None) -> None:
    """Whether anything answers there: Ray tries for many minutes otherwise.

    Raises:
        InputError: nothing does.
    """
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():  # `auto`, or none
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--address {address}: no Ray cluster there ({reason}).") from error


def _leave_nothing(out: Path) -> None:
    """Remove the folder of a run that has no shard yet."""
    if out.is_dir() and [path.name for path in out.iterdir()] == [RUN_NAME]:
        (out / RUN_NAME).unlink()
        out.rmdir()


def _check_run(out: Path, job: Job, items: list[Item], rows: int) -> None:
    """Remember what the shards are of; refuse a folder of other recordings or options.

    Raises:
        InputError: names what is different.
    """
    digest = hashlib.blake2b(json.dumps(items).encode(), digest_size=16).hexdigest()
    own = {
        "encoder": job.fingerprint,
        "backend": job.backend,
        "channel": job.channel,
        "speech_only": job.speech_only,
        "slice rows": rows,
        "recordings": digest,
    }
    path = out / RUN_NAME
    if path.is_file():
        try:
            theirs = dict(parse_json(path.read_text()))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: is damaged. Choose another --out.") from error
        other = [name for name, value in own.items() if theirs.get(name) != value]
        if other:
            raise InputError(
                f"{out}: holds shards of a run with another {', '.join(other)}. Choose another "
                "--out, or remove that folder."
            )
        return
    if out.is_file():
        raise InputError(f"{out}: is a file. --engine ray writes a folder of shards.")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: holds something else than shards. Choose another --out.")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(own))
