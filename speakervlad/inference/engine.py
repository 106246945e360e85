"""Audio in, unit embeddings out: the one engine behind ``embed``, ``verify`` and the Python API."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from speakervlad.data.audio import check_speech, read_speech
from speakervlad.errors import InputError, first_few
from speakervlad.models.build import load_encoder_folder
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.progress import Track, silent

logger = logging.getLogger(__name__)

READERS = 2
READ_AHEAD = 8


class Embedder:
    """An encoder that is ready to embed; what ``load_encoder`` returns.

    Every utterance is computed alone, over its whole length: an embedding never depends on what
    else is embedded with it.

    Args:
        encoder: the network; it is put into evaluation mode on ``device``.
        device: where to compute.
        folder: the encoder's folder, if it came from one.
    """

    def __init__(
        self, encoder: SpeakerEncoder, device: torch.device, folder: Path | None = None
    ) -> None:
        self.encoder = encoder.to(device).eval()
        self.device = device
        self.folder = folder

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return self.encoder.dim

    def embed(self, audio: str | Path | np.ndarray, *, channel: int | None = None) -> np.ndarray:
        """Embed one utterance.

        Args:
            audio: a file, or float samples of shape ``(samples,)`` at 16 kHz in [-1, 1].
            channel: of a file with several; their mean by default.

        Returns:
            float32 unit vector of shape ``(dim,)``.

        Raises:
            InputError: the audio is missing, damaged, empty, silent or shorter than 25 ms.
        """
        if isinstance(audio, np.ndarray):
            waveform = _as_waveform(audio)
        else:
            waveform = read_speech(audio, channel=channel)
        return self._compute(waveform)

    def embed_files(
        self, paths: Sequence[Path], *, channel: int | None = None, track: Track = silent
    ) -> np.ndarray:
        """Embed many files, reading ahead while computing.

        Returns:
            float32 unit vectors of shape ``(files, dim)``, in the order of ``paths``.

        Raises:
            InputError: some files cannot be embedded; all are tried, counted, the first few named.
        """
        vectors = np.empty((len(paths), self.dim), np.float32)
        failures: list[InputError] = []
        with ThreadPoolExecutor(READERS) as readers:
            waveforms = _read_ahead(readers, paths, channel)
            for row, waveform in enumerate(track(waveforms, "embedding", len(paths))):
                if isinstance(waveform, InputError):
                    failures.append(waveform)
                else:
                    vectors[row] = self._compute(waveform)
        if failures:
            raise InputError(_describe(failures, len(paths)))
        return vectors

    def _compute(self, waveform: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(waveform)[None].to(self.device)
            return F.normalize(self.encoder(batch), dim=1)[0].cpu().numpy()


def load_encoder(folder: str | Path, *, device: str = "auto") -> Embedder:
    """Load an encoder folder.

    Args:
        folder: what training wrote: ``config.json`` and ``model.safetensors``.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` ...

    Raises:
        InputError: the folder, its files or the device are not there or damaged.
    """
    encoder, _ = load_encoder_folder(folder)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return Embedder(encoder, torch.device(device), Path(folder))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device}: not available here. Use auto or cpu.") from error


def _as_waveform(samples: np.ndarray) -> np.ndarray:
    if samples.ndim != 1:
        raise InputError(f"waveform of shape {samples.shape}: expected one dimension of samples.")
    if not np.isfinite(samples).all():
        raise InputError("waveform: some samples are not finite.")
    waveform = np.ascontiguousarray(samples, dtype=np.float32)
    check_speech(waveform, "waveform")
    return waveform


def _read_ahead(
    readers: ThreadPoolExecutor, paths: Iterable[Path], channel: int | None
) -> Iterator[np.ndarray | InputError]:
    def read(path: Path) -> np.ndarray | InputError:
        try:
            return read_speech(path, channel=channel)
        except InputError as error:
            return error

    remaining = iter(paths)
    pending: deque[Future] = deque(
        readers.submit(read, path) for path in islice(remaining, READ_AHEAD)
    )
    while pending:
        yield pending.popleft().result()
        pending.extend(readers.submit(read, path) for path in islice(remaining, 1))


def _describe(failures: list[InputError], total: int) -> str:
    if total == 1:
        return str(failures[0])
    return (
        f"{len(failures)} of {total} files cannot be embedded: {first_few(map(str, failures), 3)}"
    )
