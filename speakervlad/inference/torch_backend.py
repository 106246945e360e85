"""Compute embeddings with torch, on the CPU or a GPU."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speakervlad.errors import InputError, did_you_mean
from speakervlad.inference.chunks import Chunk, FrameGrid, plan_chunks
from speakervlad.inference.state import PoolingState, empty_state
from speakervlad.inference.waves import MirroredWave, SampleWave, Wave
from speakervlad.models.build import load_encoder_folder
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folding import fold_batch_norms
from speakervlad.models.frontend import NORM_EPSILON, SAMPLE_RATE

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Longer signals are computed in chunks: it bounds the memory and costs the chunks' context.
CHUNK_SECONDS = 20
Standardise = Callable[[Tensor], Tensor]


class TorchBackend:
    """An encoder with folded weights, ready to compute.

    Args:
        encoder: the network; it is copied, never changed.
        device: where to compute.
        precision: of the trunk; front end, pooling and projection are always float32.
    """

    def __init__(
        self, encoder: SpeakerEncoder, device: torch.device, precision: str = "float32"
    ) -> None:
        folded = fold_batch_norms(encoder).to(device)
        self.encoder = folded
        self.device = device
        self.dtype = TYPES[precision]
        for part in (folded.trunk, folded.descriptors):
            part.to(dtype=self.dtype).to(memory_format=torch.channels_last)
        front_end, trunk = folded.front_end, folded.trunk
        self.grid = FrameGrid(front_end.hop_length, trunk.frame_stride, trunk.frame_context)
        frames_per_second = SAMPLE_RATE / self.grid.hop / self.grid.stride
        self.chunk_frames = round(CHUNK_SECONDS * frames_per_second)

    @property
    def dim(self) -> int:
        return self.encoder.dim

    @property
    def notes(self) -> dict[str, str]:
        return {}

    @property
    def num_streams(self) -> int:
        """Utterances worth computing at the same time."""
        return 1 if self.device.type == "cuda" else torch.get_num_threads()

    @contextmanager
    def streams(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """``count`` workers; several share the cores out among them, one each."""
        threads = torch.get_num_threads()
        own = 1 if count > 1 else threads
        torch.set_num_threads(own)
        try:
            with ThreadPoolExecutor(count, "compute", torch.set_num_threads, (own,)) as pool:
                yield pool
        finally:
            torch.set_num_threads(threads)

    def embed(self, wave: Wave) -> np.ndarray:
        """Unit vector (dim,) of a whole recording."""
        return self.finish(self.state(wave))

    def enrol(self, waves: Sequence[Wave]) -> np.ndarray:
        """Unit vector (dim,) of all frames of some recordings."""
        states = [self.state(wave) for wave in waves]
        return self.finish(reduce(lambda one, other: one.merge(other), states))

    @torch.inference_mode()
    def embed_windows(self, wave: Wave, windows: np.ndarray) -> np.ndarray:
        """Unit vectors (windows, dim) of spans of one recording; the trunk sees it only once.

        Args:
            wave: the recording; it is not mirrored.
            windows: int (windows, 2), first and last + 1 output frame, sorted.
        """
        vectors = np.empty((len(windows), self.dim), np.float32)
        open_states: dict[int, PoolingState] = {}
        begin = 0
        for frames, guide in self.frames(wave, mirror=False):
            end = begin + frames.shape[2]
            for row in np.flatnonzero((windows[:, 0] < end) & (windows[:, 1] > begin)).tolist():
                part = slice(max(0, windows[row, 0] - begin), windows[row, 1] - begin)
                state = open_states.pop(row, empty_state(self.encoder.pooling))
                state = state.add(frames[..., part], None if guide is None else guide[..., part])
                if windows[row, 1] <= end:
                    vectors[row] = self.finish(state)
                else:
                    open_states[row] = state
            begin = end
        for row, state in open_states.items():
            vectors[row] = self.finish(state)
        return vectors

    @torch.inference_mode()
    def state(self, wave: Wave) -> PoolingState:
        """The sums of a recording, to merge with those of others or to finish."""
        state = empty_state(self.encoder.pooling)
        for frames, guide in self.frames(wave, mirror=self.encoder.front_end.mirror):
            state = state.add(frames, guide)
        return state

    @torch.inference_mode()
    def finish(self, state: PoolingState) -> np.ndarray:
        """Unit vector (dim,) of all frames in the state."""
        return F.normalize(self.encoder.projection(state.finish()), dim=1)[0].cpu().numpy()

    @torch.inference_mode()
    def frames(self, wave: Wave, *, mirror: bool) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield ``(1, dim, frames)`` descriptors and guide, chunk by chunk, each frame once."""
        wave = self._extended(wave, mirror)
        plan = plan_chunks(wave.num_samples, self.grid, self.chunk_frames)
        standardise = self._standardise(wave, plan)
        for chunk in plan:
            spectrogram = standardise(self._features(wave, chunk.start, chunk.stop))
            with _full_float32():
                frames, guide = self.encoder.describe(spectrogram.to(self.dtype))
            kept = slice(chunk.first, chunk.last)
            yield frames[..., kept].float(), None if guide is None else guide[..., kept].float()

    def _extended(self, wave: Wave, mirror: bool) -> Wave:
        """Mirrored and repeated as the front end does in evaluation."""
        if mirror:
            wave = MirroredWave(wave)
        shortest = self.encoder.front_end.min_samples
        if wave.num_samples < shortest:
            return SampleWave(np.resize(wave.read(0, wave.num_samples), shortest))
        return wave

    def _features(self, wave: Wave, start: int, stop: int) -> Tensor:
        samples = np.ascontiguousarray(wave.read(start, stop))
        return self.encoder.front_end.features(torch.from_numpy(samples)[None].to(self.device))

    def _standardise(self, wave: Wave, plan: list[Chunk]) -> Standardise:
        """The normalisation with the statistics of the whole recording, from a first pass."""
        kind = self.encoder.front_end.normalisation
        if len(plan) == 1 or kind not in ("time", "time_mean"):
            return self.encoder.front_end.normalise
        moments, count = torch.zeros(2, device=self.device), 0
        for chunk in plan:
            last = None if chunk.last is None else chunk.last * self.grid.stride
            features = self._features(wave, chunk.start, chunk.stop)
            exact = features[..., chunk.first * self.grid.stride : last].double()
            sums = torch.stack([exact.sum(dim=2), exact.square().sum(dim=2)], dim=2)
            moments, count = moments + sums, count + exact.shape[2]
        mean, square = (moments / count).unsqueeze(3).unbind(dim=2)
        if kind == "time_mean":
            return lambda features: features - mean.float()
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        return lambda features: (features - mean.float()) / (deviation.float() + NORM_EPSILON)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Keep cuDNN from computing float32 convolutions in TF32, which costs 10 bits."""
    if not torch.cuda.is_available():
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def load_torch_backend(folder: Path, device: str, precision: str) -> TorchBackend:
    """Read an encoder folder; ``auto`` is a GPU if there is one, another in each local process.

    Raises:
        InputError: the folder, its files, the device or the precision are not there or damaged.
    """
    if precision not in TYPES:
        raise InputError(f"precision={precision}: {did_you_mean(precision, TYPES)}")
    encoder, _ = load_encoder_folder(folder)
    if device == "auto":
        number = os.environ.get("LOCAL_RANK", "0")
        device = f"cuda:{number}" if torch.cuda.is_available() else "cpu"
    try:
        return TorchBackend(encoder, torch.device(device), precision)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device}: not available here. Use auto or cpu.") from error
