"""What a worker hands over: a crop with everything drawn for it, and batches of such crops."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from speakervlad.config import AugmentConfig
from speakervlad.data.dataset import UtteranceDataset
from speakervlad.training.augment.codec import CODECS, transcode
from speakervlad.training.augment.sources import NoiseSource, RoomSource

# Every effect draws from a stream of its own, so that changing one leaves the others as they are.
# 0 is missing: it would be the stream that the crop itself is drawn from.
STREAMS = {
    name: number
    for number, name in enumerate(
        ("speed", "noise", "room", "codec", "telephone", "gain", "time", "freq"), start=1
    )
}


class DrawnCrop(NamedTuple):
    """One crop before the device works on it."""

    waveform: Tensor
    speaker: int
    epoch: int
    index: int
    speed: int
    gain_db: float
    telephone: bool
    noise: tuple[np.ndarray, float] | None
    response: np.ndarray | None
    time_spans: np.ndarray
    freq_spans: np.ndarray


class DrawnBatch(NamedTuple):
    """Crops side by side; ``*_rows`` tell which of them an effect is for.

    ``speaker`` is the speaker, not yet the class; ``speed`` numbers the configured speeds.
    """

    waveform: Tensor
    speaker: Tensor
    epoch: Tensor
    index: Tensor
    speed: Tensor
    gain_db: Tensor
    telephone_rows: Tensor
    noise: Tensor
    noise_rows: Tensor
    snr_db: Tensor
    response: Tensor
    response_rows: Tensor
    time_spans: Tensor
    freq_spans: Tensor


@dataclass(frozen=True)
class Masks:
    """Number and greatest width of the masks over an axis of ``size`` places."""

    count: int
    widest: int
    size: int

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Spans ``(start, length)``, int64 (count, 2), inside the axis (Park et al. 2019)."""
        lengths = rng.integers(0, self.widest + 1, self.count)
        starts = rng.integers(0, self.size - lengths + 1)
        return np.stack([starts, lengths], axis=1)


class DrawnCrops(Dataset[DrawnCrop]):
    """Crops with their augmentation, each drawn by its own ``(seed, epoch, index)``.

    Args:
        crops: the crops as they are; long enough for the fastest speed.
        config: what is done how often.
        noise: where noise comes from, if any does.
        rooms: where impulse responses come from, if any do.
        time: masks over frames.
        freq: masks over frequency bins.
    """

    def __init__(
        self,
        crops: UtteranceDataset,
        config: AugmentConfig,
        noise: NoiseSource | None,
        rooms: RoomSource | None,
        time: Masks,
        freq: Masks,
    ) -> None:
        self.crops, self.config, self.noise, self.rooms = crops, config, noise, rooms
        self.time, self.freq = time, freq

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, key: tuple[int, int]) -> DrawnCrop:
        """Read, draw; the only effect already heard is that of a codec.

        Raises:
            InputError: the crop, noise or a response cannot be read.
        """
        crop = self.crops[key]
        config, place = self.config, (crop.epoch, crop.index)
        noise = response = None
        rng = self._rng("noise", place)
        if self.noise and rng.random() < config.noise_probability:
            noise = self.noise.draw(rng, len(crop.waveform))
        rng = self._rng("room", place)
        if self.rooms and rng.random() < config.rir_probability:
            response = self.rooms.draw(rng)
        return DrawnCrop(
            torch.from_numpy(self._coded(crop.waveform.numpy(), place)),
            *(crop.speaker, crop.epoch, crop.index),
            speed=int(self._rng("speed", place).integers(len(config.speeds))),
            gain_db=self._rng("gain", place).uniform(-config.gain_db, config.gain_db),
            telephone=self._rng("telephone", place).random() < config.telephone_probability,
            noise=noise,
            response=response,
            time_spans=self.time.draw(self._rng("time", place)),
            freq_spans=self.freq.draw(self._rng("freq", place)),
        )

    def _rng(self, stream: str, place: tuple[int, int]) -> np.random.Generator:
        return np.random.default_rng((self.crops.seed, *place, STREAMS[stream]))

    def _coded(self, waveform: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        rng = self._rng("codec", place)
        if rng.random() >= self.config.codec_probability:
            return waveform
        codec = self.config.codecs[int(rng.integers(len(self.config.codecs)))]
        _, _, bit_rates, _ = CODECS[codec]
        return transcode(waveform, codec, int(rng.integers(*bit_rates)))


def collate(crops: list[DrawnCrop]) -> DrawnBatch:
    """Side by side; noise and responses only of the crops that have them."""
    noisy = [(row, *crop.noise) for row, crop in enumerate(crops) if crop.noise]
    wet = [(row, crop.response) for row, crop in enumerate(crops) if crop.response is not None]
    called = [row for row, crop in enumerate(crops) if crop.telephone]
    return DrawnBatch(
        waveform=torch.stack([crop.waveform for crop in crops]),
        speaker=default_collate([crop.speaker for crop in crops]),
        epoch=default_collate([crop.epoch for crop in crops]),
        index=default_collate([crop.index for crop in crops]),
        speed=torch.tensor([crop.speed for crop in crops]),
        gain_db=torch.tensor([crop.gain_db for crop in crops], dtype=torch.float32),
        telephone_rows=torch.tensor(called, dtype=torch.int64),
        noise=_stack([noise for _, noise, _ in noisy]),
        noise_rows=torch.tensor([row for row, _, _ in noisy], dtype=torch.int64),
        snr_db=torch.tensor([snr_db for _, _, snr_db in noisy], dtype=torch.float32),
        response=_stack([response for _, response in wet]),
        response_rows=torch.tensor([row for row, _ in wet], dtype=torch.int64),
        time_spans=torch.from_numpy(np.stack([crop.time_spans for crop in crops])),
        freq_spans=torch.from_numpy(np.stack([crop.freq_spans for crop in crops])),
    )


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.empty(0, 0)
