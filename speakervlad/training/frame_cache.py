"""A frame cache as training uses it: opened, completed, and what its encoder says of each voice."""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speakervlad.config import Config
from speakervlad.encoder.backends import weights_digest
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path, check_writable, exclusive
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folder import assemble_encoder, load_encoder_folder
from speakervlad.progress import track
from speakervlad.schema import to_dict
from speakervlad.tables.manifest import Manifest, load_manifest
from speakervlad.training.copies import Copies, TrunkFrames
from speakervlad.training.distributed import World
from speakervlad.training.frame_maker import (
    Job,
    choose_runtime,
    embed_frames,
    make_frames,
    plan_parts,
)
from speakervlad.training.frame_store import (
    BAD,
    COPIES,
    FILES_NAME,
    KEPT,
    MISSING,
    AudioFiles,
    FrameFile,
    RowFile,
    check_about,
    read_about,
)
from speakervlad.training.state import DataIdentity

logger = logging.getLogger(__name__)

# Of a trunk whose frames see only their surroundings: what a frame at a cut lacks is little.
LONG_PIECE_SECONDS = 60.0


@dataclass(frozen=True)
class FrameCache:
    """Frames of all utterances and copies, complete.

    Attributes:
        manifest: the utterances.
        frames: what the trunk makes of a recording.
        files: of every copy, the first without effects.
        kept: bool (copies, utterances), where there are frames.
        speeds: int (copies, utterances), number of the speed of each.
        bad: utterances whose audio cannot be used.
    """

    manifest: Manifest
    frames: TrunkFrames
    files: tuple[FrameFile, ...]
    kept: np.ndarray
    speeds: np.ndarray
    bad: list[str]

    def of(self, rows: np.ndarray) -> "FrameCache":
        """The frames of some utterances, by their numbers."""
        files = tuple(
            file._replace(starts=file.starts[rows], counts=file.counts[rows]) for file in self.files
        )
        manifest = self.manifest.select(rows)
        kept, speeds = self.kept[:, rows], self.speeds[:, rows]
        return FrameCache(manifest, self.frames, files, kept, speeds, self.bad)

    def frames_of(self, row: int, number: int = 0) -> np.ndarray:
        """The frames (count, dim) of one copy of an utterance, float16."""
        file = self.files[number]
        start = int(file.starts[row])
        return self.mapped[number][start : start + int(file.counts[row])]

    @cached_property
    def mapped(self) -> list[np.ndarray]:
        """All frames of every copy, read from the disk as they are needed."""
        return [file.mapped() for file in self.files]

    def __getstate__(self) -> dict[str, object]:
        """What another process is sent: it maps the files itself."""
        return {name: value for name, value in self.__dict__.items() if name != "mapped"}


def check_cache(config: Config) -> None:
    """Refuse settings of a frame cache that do not go together.

    Raises:
        InputError: as said.
    """
    cache = config.data.frame_cache
    for key in ("short_seconds", "crop_seconds"):
        values = getattr(cache, key)
        if len(values) != 2 or not 0.1 <= values[0] <= values[1]:
            raise InputError(
                f"data.frame_cache.{key}={list(values)}: must be [shortest, longest], 0.1 at least."
            )
    if cache.folder is not None:
        _check_company(config)
    elif config.teacher.start:
        raise InputError("teacher.start needs data.frame_cache.folder. Name a folder for it.")


def _check_company(config: Config) -> None:
    """What a frame cache needs, and what is for crops of sound alone."""
    data, augment = config.data, config.augment
    needed = {"init_from": config.init_from, "train.frozen_trunk": config.train.frozen_trunk}
    for name, value in needed.items():
        if not value:
            raise InputError(f"data.frame_cache.folder needs {name}: it holds frames of a trunk.")
    others = {
        "data.speakers_per_batch": data.speakers_per_batch,
        "data.seconds_per_visit": data.seconds_per_visit,
        "data.reverse_probability": data.reverse_probability,
        "augment.time_masks": augment.time_masks,
        "augment.freq_masks": augment.freq_masks,
    }
    for name, value in others.items():
        if value:
            raise InputError(
                f"{name}={value}: is for crops of sound. Leave it out with data.frame_cache."
            )


def open_cache(config: Config, manifest: Manifest, world: World) -> FrameCache:
    """The cache that a config names, completed by the first process; the others wait.

    Raises:
        InputError: it holds other frames, recordings have changed, the disk has no room, or too
            many recordings cannot be used.
    """
    assert config.data.frame_cache.folder is not None
    assert config.init_from is not None
    folder = Path(config.data.frame_cache.folder)
    encoder, _ = load_encoder_folder(config.init_from)
    frames = trunk_frames(_as_trained(config))
    copies = Copies(manifest, config.augment, config.data.frame_cache)
    counts, speeds = _survey(copies, frames)
    files = tuple(FrameFile.of(folder, n, own, frames.dim) for n, own in enumerate(counts))
    busy = f"{folder}: another process computes frames here. Wait for it, or name another folder."
    check_writable(folder / FILES_NAME)
    with exclusive(folder / ".lock", busy) if world.is_main else nullcontext():
        if world.is_main:
            _complete(config, _job(config, encoder, frames, copies, files))
    world.wait()
    done = np.stack([file.done() for file in files])
    bad = manifest.utterance_ids[np.flatnonzero(done[0] == BAD)].tolist()
    _judge(bad, config.data.max_bad_fraction, len(manifest))
    return FrameCache(manifest, frames, files, (done == KEPT) & (counts > 0), speeds, bad)


def _as_trained(config: Config) -> SpeakerEncoder:
    """The encoder of the config, without memory: its front end is what its trunk hears through."""
    with torch.device("meta"):
        return assemble_encoder(config.encoder)


def trunk_frames(encoder: SpeakerEncoder) -> TrunkFrames:
    """What the trunk of an encoder makes of a recording."""
    trunk, front_end = encoder.trunk, encoder.front_end.spec
    whole = trunk.frame_context is None or front_end.whole
    return TrunkFrames(
        front_end,
        trunk.frame_stride,
        trunk.stem_padding,
        trunk.channels * trunk.num_rows,
        encoder.piece_seconds if whole else LONG_PIECE_SECONDS,
    )


def _survey(copies: Copies, frames: TrunkFrames) -> tuple[np.ndarray, np.ndarray]:
    """Frames and number of the speed of every copy, int64 (copies, utterances)."""
    counts = np.zeros((copies.count, len(copies.manifest)), np.int64)
    speeds = np.zeros_like(counts)
    for number in range(copies.count):
        for row in range(len(copies.manifest)):
            if copies.exists(number, row):
                copy = copies.plan(number, row)
                counts[number, row] = frames.count(copy.num_samples)
                speeds[number, row] = copy.speed
    return counts, speeds


def _job(
    config: Config,
    encoder: SpeakerEncoder,
    frames: TrunkFrames,
    copies: Copies,
    files: tuple[FrameFile, ...],
) -> Job:
    assert config.init_from is not None
    folder = files[0].path.parent
    cache = config.data.frame_cache
    before = read_about(folder)
    wanted = {
        key: before.get(key, "auto") if getattr(cache, key) == "auto" else getattr(cache, key)
        for key in ("backend", "precision")
    }
    targets = [_targets_file(file, encoder.dim, config) for file in files]
    return Job(
        copies,
        frames,
        files,
        AudioFiles(copies.manifest, folder / FILES_NAME),
        targets,
        Path(config.init_from),
        choose_runtime(**wanted),
        folder / "trunk.onnx",
    )


def _targets_file(file: FrameFile, dim: int, config: Config) -> RowFile | None:
    """Where the targets of copies at other speeds are; None where there are none."""
    is_copy = file.path.parent.name == COPIES
    if not is_copy or not config.teacher.start or len(config.augment.speeds) == 1:
        return None
    return RowFile(file.path.with_suffix(".targets"), len(file.counts), dim)


def _complete(config: Config, job: Job) -> None:
    """Compute what is missing, after it is known that there is room for it."""
    encoder, _ = load_encoder_folder(job.encoder)
    frames_key = {
        "trunk": state_digest(encoder.trunk),
        "front_end": asdict(job.frames.front_end),
        "piece_seconds": job.frames.piece_seconds,
        "recordings": rows_digest(job.copies.manifest),
        **job.runtime._asdict(),
    }
    check_about(job.files[0].path.parent, frames_key)
    if len(job.files) > 1:
        check_about(job.files[1].path.parent, _effects_key(config, frames_key))
    done = [file.done() for file in job.files]
    job_parts = [
        [part for part in plan_parts(job, n) if (done[n][part.rows] == MISSING).any()]
        for n in range(len(job.files))
    ]
    _check_kept(job, done[0])
    _check_room(job, done)
    for file, targets, own in zip(job.files, job.targets, done, strict=True):
        if not own.any():
            file.make_room()
            if targets is not None:
                targets.make_room()
    if not done[0].any():
        job.audio.make_room()
    parts = [part for own in job_parts for part in own]
    if parts:
        make_frames(job, parts)


def _effects_key(config: Config, frames_key: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that copies with effects depend on."""
    cache, augment = config.data.frame_cache, config.augment
    paths = ("noise_manifest", "noise_root", "rir_manifest", "rir_root")
    at_speeds = config.teacher.start and len(augment.speeds) > 1
    assert config.init_from is not None
    return {
        **frames_key,
        "seed": cache.seed,
        "longest_seconds": cache.longest_seconds,
        "short_every": cache.short_every,
        "short_seconds": list(cache.short_seconds),
        "augment": {k: v for k, v in to_dict(augment).items() if k not in paths},
        "noise": _list_digest(augment.noise_manifest, augment.noise_root),
        "rooms": _list_digest(augment.rir_manifest, augment.rir_root),
        "encoder": weights_digest(Path(config.init_from)) if at_speeds else None,
    }


def _check_kept(job: Job, done: np.ndarray) -> None:
    kept = np.flatnonzero(done == KEPT)
    if len(kept):
        job.audio.check(kept)


def _check_room(job: Job, done: list[np.ndarray]) -> None:
    """Say what space the frames take, and refuse to begin what has no end.

    Raises:
        InputError: the disk has less.
    """
    folder = job.files[0].path.parents[1]
    total = sum(file.num_bytes for file in job.files)
    missing = sum(
        file.num_bytes for file, own in zip(job.files, done, strict=True) if not own.any()
    )
    if not any((own == MISSING).any() for own in done):
        return
    free = shutil.disk_usage(folder).free
    logger.info(
        "frames of %d recordings and %.3g copies of each with effects: %s in %s, of which %s are "
        "new (%s are free), computed by %s in %s",
        len(job.copies.manifest),
        job.copies.cache.copies,
        *(_size(total), folder, _size(missing), _size(free)),
        *job.runtime,
    )
    if missing > free:
        raise InputError(
            f"{folder}: frames need {_size(missing)}, {_size(free)} are free. Make room, name "
            "another data.frame_cache.folder, or ask for fewer data.frame_cache.copies."
        )


def _size(num_bytes: int) -> str:
    """In words."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _judge(bad: list[str], most: float, count: int) -> None:
    if len(bad) > most * count or len(bad) == count:
        raise InputError(
            f"{len(bad)} of {count} recordings cannot be used, {most:.2%} tolerated "
            f"(data.max_bad_fraction): {first_few(bad)}. See the warnings above."
        )


def start_embeddings(cache: FrameCache, encoder_folder: str | Path) -> np.ndarray:
    """What an encoder with this trunk says of every whole utterance; computed once, and kept.

    Returns:
        float32 (utterances, dim), of any length; zeros of utterances without frames.
    """
    digest = (weights_digest(Path(encoder_folder)) or "")[:16]
    path = cache.files[0].path.parent / f"embeddings-{digest}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    encoder, _ = load_encoder_folder(encoder_folder)
    found = embed_rows(encoder, cache)
    with atomic_path(path) as temporary, temporary.open("wb") as opened:
        np.save(opened, found)
    return found


def embed_rows(encoder: SpeakerEncoder, cache: FrameCache) -> np.ndarray:
    """Embeddings (utterances, dim), of any length, of what was recorded; zeros without frames."""
    found = np.zeros((len(cache.manifest), encoder.dim), np.float32)
    rows = np.flatnonzero(cache.kept[0])
    for row in track(iter(rows.tolist()), "embedding", len(rows)):
        found[row] = embed_frames(encoder, cache.frames_of(row))
    return found


def speed_embeddings(cache: FrameCache, config: Config, dim: int) -> dict[int, np.ndarray]:
    """What the encoder says of voices at other speeds, as far as copies have them.

    Returns:
        by number of the speed, float32 (utterances, dim); zeros where there is no such copy.
    """
    found = {
        number: np.zeros((len(cache.manifest), dim), np.float32)
        for number in range(1, len(config.augment.speeds))
    }
    for number, file in enumerate(cache.files):
        targets = _targets_file(file, dim, config)
        if targets is not None:
            vectors = targets.read()
            for speed, own in found.items():
                rows = np.flatnonzero(cache.kept[number] & (cache.speeds[number] == speed))
                own[rows] = vectors[rows]
    return found


def state_digest(module: torch.nn.Module) -> str:
    """What tells the weights and statistics of a module from others."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()).tobytes())
    return digest.hexdigest()


def rows_digest(manifest: Manifest) -> str:
    """What tells the rows of a manifest, in their order, from others."""
    rows = DataIdentity.of(manifest).row_digests.numpy()
    return hashlib.blake2b(rows.tobytes(), digest_size=16).hexdigest()


def _list_digest(path: str | None, root: str | None) -> str | None:
    return None if path is None else rows_digest(load_manifest(path, root))
