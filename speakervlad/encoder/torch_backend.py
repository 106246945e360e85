"""An encoder computed by torch."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from speakervlad.encoder.backends import AUTO, Backend
from speakervlad.errors import InputError


class TorchBackend(Backend):
    """An encoder in torch, on the CPU or a GPU, its batch norms folded into the convolutions.

    Spectrograms come from the CPU on a GPU too: numpy makes some 4,000 seconds of them a second.

    Args:
        encoder: a ``SpeakerEncoder``; it is copied, never changed.
        device: where to compute: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: of the trunk and descriptors; weights are always float32.

    Raises:
        InputError: the device is not available.
    """

    def __init__(self, encoder: Any, device: str = AUTO, precision: str = "float32") -> None:  # noqa: ANN401
        import torch

        from speakervlad.encoder.network import Network, ends_of

        if device == AUTO:
            # torchrun starts one process for each GPU of a machine.
            number = os.environ.get("LOCAL_RANK", "0")
            device = f"cuda:{number}" if torch.cuda.is_available() else "cpu"
        self.ends = ends_of(encoder)
        self.notes = {}
        self.device = device
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        try:
            network = Network(encoder).to(device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device={device}: not available here. Use auto or cpu.") from error
        self.network = network.in_precision(self.dtype)
        self.num_streams = torch.get_num_threads() if device == "cpu" else 1

    def describe(self, spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        import torch

        # TF32 costs 10 bits of float32 convolutions.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            given = torch.from_numpy(spectrogram)[None].to(self.device, self.dtype)
            frames, weights = self.network(given)
            arrays = frames.float(), None if weights is None else weights.float()
        return tuple(None if each is None else each[0].cpu().numpy() for each in arrays)  # pyright: ignore[reportReturnType]

    @contextmanager
    def streams(self, count: int) -> Iterator[ThreadPoolExecutor]:
        import torch

        threads = torch.get_num_threads()
        own = 1 if count > 1 else threads
        torch.set_num_threads(own)
        try:
            with ThreadPoolExecutor(count, "compute", torch.set_num_threads, (own,)) as pool:
                yield pool
        finally:
            torch.set_num_threads(threads)
