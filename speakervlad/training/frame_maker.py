"""Frames of a trunk for a cache: read, given their effects, computed and written by all cores."""

import contextlib
import importlib.util
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from speakervlad.corpus.work import map_parallel
from speakervlad.encoder.backends import FRAMES, INPUT
from speakervlad.encoder.network import TrunkNetwork
from speakervlad.encoder.openvino_backend import compiled_model, openvino_core
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folder import load_encoder_folder
from speakervlad.models.frontend import normalise, same_padding
from speakervlad.threads import available_cores
from speakervlad.training.copies import Copies, TrunkFrames
from speakervlad.training.frame_store import AudioFiles, FrameFile, RowFile

logger = logging.getLogger(__name__)

# Of recordings that a worker takes together: they are in its memory.
CHUNK_SECONDS, CHUNK_ROWS = 600, 256
# Spectrograms of one length that go through the trunk together.
BATCH = 8
# Relative distance of frames from those of torch in float32, on a known signal.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
CHECKED_FRAMES = 320
# Less is computed in this process: workers take some seconds to start.
ALONE_SECONDS = 300

# Spectrograms (batch, bins, frames), padded, to the trunk's frames (batch, dim, frames).
Compute = Callable[[np.ndarray], np.ndarray]


class Runtime(NamedTuple):
    """What computes a trunk: ``openvino`` or ``torch``, and in which precision."""

    backend: str
    precision: str


def choose_runtime(backend: str, precision: str) -> Runtime:
    """The fastest that is there, where ``auto`` is asked for.

    Raises:
        InputError: OpenVINO is asked for and not installed.
    """
    modules = ("openvino", "onnx", "onnxscript")
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if backend == "openvino" and missing:
        raise InputError(
            f"data.frame_cache.backend=openvino needs {', '.join(missing)}: install "
            "speakervlad[openvino,export], or take backend=torch."
        )
    if backend == "auto":
        backend = "torch" if missing else "openvino"
    if precision == "auto":
        is_fast = backend == "openvino" and "BF16" in openvino_core().get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        )
        precision = "bfloat16" if is_fast else "float32"
    return Runtime(backend, precision)


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know.

    Attributes:
        copies: of which recordings, and what is done to them.
        frames: what the trunk makes of a recording.
        files: where the frames of every copy go.
        audio: what the audio files are is noted here.
        targets: of copies at several speeds, what the encoder says of the voice at its speed.
        encoder: folder of the encoder whose trunk it is.
        runtime: what computes it.
        graph: the trunk as a graph, for OpenVINO.
    """

    copies: Copies
    frames: TrunkFrames
    files: Sequence[FrameFile]
    audio: AudioFiles
    targets: Sequence[RowFile | None]
    encoder: Path
    runtime: Runtime
    graph: Path


class Part(NamedTuple):
    """Utterances of one copy that a worker computes together."""

    number: int
    rows: list[int]


def plan_parts(job: Job, number: int) -> list[Part]:
    """All utterances of a copy, the longest first: those of one part are about as long.

    What is computed together depends on the manifest and the draws alone.
    """
    counts = job.files[number].counts
    rows = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
    seconds = counts / job.frames.per_second
    parts, taken, total = [], [], 0.0
    for row in rows.tolist():
        if taken and (total + seconds[row] > CHUNK_SECONDS or len(taken) == CHUNK_ROWS):
            parts.append(Part(number, taken))
            taken, total = [], 0.0
        taken.append(row)
        total += float(seconds[row])
    return [*parts, Part(number, taken)] if taken else parts


def make_frames(job: Job, parts: Sequence[Part], *, num_workers: int | None = None) -> None:
    """Compute what is missing.

    Args:
        job: what to do.
        parts: what of it, as ``plan_parts`` says.
        num_workers: processes; one for every core by default, 0 for none.

    Raises:
        InputError: the disk is full, noise or rooms cannot be read, or the runtime does not compute
            what torch does. Audio that cannot be read is noted and left out.
    """
    encoder, _ = load_encoder_folder(job.encoder)
    frames = sum(int(job.files[number].counts[rows].sum()) for number, rows in parts)
    if frames < ALONE_SECONDS * job.frames.per_second:
        num_workers = 0
    threads = torch.get_num_threads()
    try:
        if job.runtime.backend == "openvino":
            _export_trunk(job, encoder)
        check_runtime(job, encoder)
        for problems in map_parallel(
            partial(work, job),
            parts,
            num_workers=available_cores() if num_workers is None else num_workers,
            min_items_per_worker=1,
            description="computing frames",
        ):
            for problem in problems:
                logger.warning("%s", problem)
    finally:
        job.graph.unlink(missing_ok=True)
        # Where there are no workers, this process was one.
        _opened.clear()
        torch.set_num_threads(threads)


def _export_trunk(job: Job, encoder: SpeakerEncoder) -> None:
    from speakervlad.encoder.export import trace

    num_bins = job.frames.front_end.num_bins
    network, where = TrunkNetwork(encoder.trunk), str(job.encoder)
    # OpenVINO merges nodes itself, and faster.
    model = trace(network, num_bins, where, optimise=False, batched=True)
    with atomic_path(job.graph) as path:
        path.write_bytes(model.SerializeToString())


def check_runtime(job: Job, encoder: SpeakerEncoder) -> None:
    """Compare what the runtime makes of a known spectrogram with torch in float32.

    Raises:
        InputError: they differ by more than the precision allows.
    """
    shape = (2, job.frames.front_end.num_bins, CHECKED_FRAMES)
    given = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ours = open_trunk(job, encoder)(given)
    expected = torch_trunk(encoder, "float32")(given)
    distance = float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))
    if not distance <= TOLERANCES[job.runtime.precision]:
        raise InputError(
            f"{job.encoder}: {job.runtime.backend} in {job.runtime.precision} is {distance:.2g} "
            "away from torch on this machine. Choose another data.frame_cache.backend or precision."
        )


class _Opened(NamedTuple):
    job: Job
    encoder: SpeakerEncoder
    compute: Compute


# Of this process: a worker gets the same job again and again.
_opened: dict[Path, _Opened] = {}


def work(job: Job, part: Part) -> list[str]:
    """Compute and write one part; what cannot be used, and why."""
    own = _opened.get(job.files[0].path)
    if own is None:
        torch.set_num_threads(1)
        encoder, _ = load_encoder_folder(job.encoder)
        own = _opened[job.files[0].path] = _Opened(job, encoder, open_trunk(job, encoder))
    return _work(own, part)


def _work(own: _Opened, part: Part) -> list[str]:
    job, number, rows = own.job, part.number, part.rows
    problems, waveforms = [], []
    for row in rows:
        try:
            waveforms.append(_waveform(job, number, row))
        except InputError as error:
            problems.append(f"utterance {job.copies.manifest.utterance_ids[row]}: {error}")
            waveforms.append(None)
    frames = compute_frames(job.frames, own.compute, waveforms)
    _write_targets(own, part, frames)
    if number == 0:
        job.audio.write(rows)
    job.files[number].write(rows, frames)
    return problems


def _waveform(job: Job, number: int, row: int) -> np.ndarray:
    waveform = job.copies.waveform(number, row)
    wanted = job.copies.plan(number, row).num_samples
    if len(waveform) != wanted:
        path = job.copies.manifest.path(row)
        raise InputError(f"{path}: gave {len(waveform)} samples in place of {wanted}.")
    return waveform


def _write_targets(own: _Opened, part: Part, frames: Sequence[np.ndarray | None]) -> None:
    """Of copies at another speed, what the encoder says of the whole voice without effects."""
    job, number = own.job, part.number
    file = job.targets[number]
    if file is None:
        return
    rows = [
        row
        for row, found in zip(part.rows, frames, strict=True)
        if found is not None and job.copies.plan(number, row).speed
    ]
    plain = [job.copies.waveform(number, row, effects=False) for row in rows]
    found = compute_frames(job.frames, own.compute, plain)
    file.write(rows, [embed_frames(own.encoder, f) for f in found if f is not None])


@torch.inference_mode()
def embed_frames(encoder: SpeakerEncoder, frames: np.ndarray) -> np.ndarray:
    """The embedding (dim,), of any length, of frames (count, dim) of an encoder's trunk.

    Args:
        encoder: in evaluation mode.
        frames: all channels and rows of each.
    """
    maps = torch.from_numpy(frames.astype(np.float32)).T[None]
    shape = (encoder.trunk.channels, encoder.trunk.num_rows)
    return encoder.embed_map(maps.unflatten(1, shape))[0].numpy()


def compute_frames(
    frames: TrunkFrames, compute: Compute, waveforms: Sequence[np.ndarray | None]
) -> list[np.ndarray | None]:
    """float16 (count, dim) of every waveform (samples,); None of none.

    Spectrograms of one length go through the trunk together.
    """
    spectrograms: dict[int, list[tuple[int, int, np.ndarray]]] = defaultdict(list)
    for place, waveform in enumerate(waveforms):
        if waveform is not None:
            for number, piece in enumerate(frames.pieces(len(waveform))):
                made = _spectrogram(frames, waveform[piece.start : piece.stop])
                spectrograms[made.shape[1]].append((place, number, made))
    found: dict[tuple[int, int], np.ndarray] = {}
    for alike in spectrograms.values():
        for begin in range(0, len(alike), BATCH):
            batch = alike[begin : begin + BATCH]
            made = compute(np.stack([spectrogram for _, _, spectrogram in batch]))
            for (place, number, _), one in zip(batch, made, strict=True):
                found[place, number] = one.T.astype(np.float16)
    return [
        None
        if waveform is None
        else np.concatenate([found[place, n] for n in range(len(frames.pieces(len(waveform))))])
        for place, waveform in enumerate(waveforms)
    ]


def _spectrogram(frames: TrunkFrames, samples: np.ndarray) -> np.ndarray:
    """Normalised and padded, (bins, frames)."""
    front_end = frames.front_end
    if len(samples) < front_end.min_samples:
        samples = np.resize(samples, front_end.min_samples)
    features = normalise(front_end.features(samples), front_end.normalise)
    return np.pad(features, ((0, 0), same_padding(features.shape[1], *frames.padding)))


def open_trunk(job: Job, encoder: SpeakerEncoder) -> Compute:
    """The trunk, ready to compute in one thread."""
    if job.runtime.backend == "torch":
        return torch_trunk(encoder, job.runtime.precision)
    model = openvino_core().read_model(job.graph.read_bytes())
    compiled = compiled_model(model, job.runtime.precision, threads=1, streams=1)
    request = compiled.create_infer_request()
    return lambda spectrograms: request.infer({INPUT: spectrograms})[FRAMES]


def torch_trunk(encoder: SpeakerEncoder, precision: str) -> Compute:
    """The trunk of an encoder in torch, in evaluation mode, ``float32`` or ``bfloat16``."""
    network = TrunkNetwork(encoder.trunk)

    def compute(spectrograms: np.ndarray) -> np.ndarray:
        cast = contextlib.nullcontext()
        if precision == "bfloat16":
            cast = torch.autocast("cpu", torch.bfloat16)
        with torch.inference_mode(), cast:
            return network(torch.from_numpy(spectrograms))[0].float().numpy()

    return compute
