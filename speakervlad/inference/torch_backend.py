"""Compute embeddings with torch, on the CPU or a GPU."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speakervlad.errors import InputError, did_you_mean
from speakervlad.inference.chunked import ChunkedBackend, Layout, Statistics
from speakervlad.inference.chunks import FrameGrid
from speakervlad.inference.pooling_sums import PoolingSums
from speakervlad.inference.state import empty_state
from speakervlad.inference.waves import Wave
from speakervlad.models.build import load_encoder_folder
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folding import fold_batch_norms
from speakervlad.models.frontend import NORM_EPSILON

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchBackend(ChunkedBackend):
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
        grid = FrameGrid(front_end.hop_length, trunk.frame_stride, trunk.frame_context)
        super().__init__(
            Layout(grid, front_end.mirror, front_end.min_samples, front_end.normalisation)
        )

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

    def empty(self) -> PoolingSums:
        return empty_state(self.encoder.pooling)

    @torch.inference_mode()
    def finish(self, sums: Sequence[PoolingSums]) -> np.ndarray:
        pooled = torch.cat([each.finish() for each in sums])
        return F.normalize(self.encoder.projection(pooled), dim=1).cpu().numpy()

    @torch.inference_mode()
    def features(self, samples: np.ndarray) -> np.ndarray:
        return self._features(samples)[0].cpu().numpy()

    @torch.inference_mode()
    def describe(
        self, samples: np.ndarray, statistics: Statistics | None
    ) -> tuple[Tensor, Tensor | None]:
        spectrogram = self._normalise(self._features(samples), statistics)
        with _full_float32():
            frames, guide = self.encoder.describe(spectrogram.to(self.dtype))
        return frames.float(), None if guide is None else guide.float()

    @torch.inference_mode()
    def sums(self, wave: Wave) -> PoolingSums:
        return super().sums(wave)

    @torch.inference_mode()
    def embed_windows(self, wave: Wave, windows: np.ndarray) -> np.ndarray:
        return super().embed_windows(wave, windows)

    def _features(self, samples: np.ndarray) -> Tensor:
        waveforms = torch.from_numpy(np.ascontiguousarray(samples))[None]
        return self.encoder.front_end.features(waveforms.to(self.device))

    def _normalise(self, features: Tensor, statistics: Statistics | None) -> Tensor:
        if statistics is None:
            return self.encoder.front_end.normalise(features)
        mean, deviation = statistics
        centred = features - torch.from_numpy(mean).to(self.device)
        if deviation is None:
            return centred
        return centred / (torch.from_numpy(deviation).to(self.device) + NORM_EPSILON)


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
