"""From drawn batches to what the network takes, on the device that trains."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from speakervlad.training.augment.crops import DrawnBatch
from speakervlad.training.augment.effects import (
    add_noise,
    change_speed,
    kept,
    reverberate,
    scale,
    telephone,
)


class Examples(NamedTuple):
    """What a training step takes: (batch, samples), (batch,) and, if masked, (batch, freq, time).

    ``keep`` is false where the spectrogram is masked.
    """

    waveforms: Tensor
    classes: Tensor
    keep: Tensor | None = None

    def split(self, parts: int) -> list["Examples"]:
        """Equal parts along the batch."""
        keeps = [None] * parts if self.keep is None else self.keep.chunk(parts)
        columns = (self.waveforms.chunk(parts), self.classes.chunk(parts), keeps)
        return [Examples(*part) for part in zip(*columns, strict=True)]


class Augmenter:
    """Speed, room, noise, telephone line, gain, in this order, as they happen to real recordings.

    Args:
        num_samples: length of a crop when its speed has changed.
        num_speakers: classes per speed; class = speaker + number of the speed * num_speakers.
        speeds: factors, the first 1.
        spectrogram: bins and frames that the front end makes of a crop.
        device: where to work.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        num_speakers: int,
        speeds: tuple[float, ...],
        spectrogram: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.num_samples, self.num_speakers, self.speeds = num_samples, num_speakers, speeds
        self.spectrogram, self.device = spectrogram, device

    @torch.no_grad()
    def __call__(self, batch: DrawnBatch) -> Examples:
        """Apply what was drawn; rows do not see each other."""
        waveforms = self._speeds(self._move(batch.waveform), batch.speed)
        if len(batch.response_rows):
            responses = self._move(batch.response)
            waveforms = self._on(
                batch.response_rows, waveforms, lambda rows: reverberate(rows, responses)
            )
        if len(batch.noise_rows):
            noise = self._move(batch.noise)[:, : self.num_samples]
            ratios = self._move(batch.snr_db)
            waveforms = self._on(
                batch.noise_rows, waveforms, lambda rows: add_noise(rows, noise, ratios)
            )
        if len(batch.telephone_rows):
            waveforms = self._on(batch.telephone_rows, waveforms, telephone)
        if batch.gain_db.any():
            waveforms = scale(waveforms, self._move(batch.gain_db))
        classes = batch.speaker + batch.speed * self.num_speakers
        return Examples(waveforms, self._move(classes), self._masks(batch))

    def _speeds(self, waveforms: Tensor, numbers: Tensor) -> Tensor:
        changed = waveforms[:, : self.num_samples]
        for number, speed in enumerate(self.speeds[1:], start=1):
            rows = torch.nonzero(numbers == number).flatten()
            if len(rows):
                rows = self._move(rows)
                played = change_speed(waveforms[rows], speed, self.num_samples)
                changed = changed.index_copy(0, rows, played)
        return changed

    def _on(self, rows: Tensor, waveforms: Tensor, effect: Callable[[Tensor], Tensor]) -> Tensor:
        rows = self._move(rows)
        return waveforms.index_copy(0, rows, effect(waveforms[rows]))

    def _masks(self, batch: DrawnBatch) -> Tensor | None:
        if not batch.time_spans.shape[1] + batch.freq_spans.shape[1]:
            return None
        num_bins, num_frames = self.spectrogram
        over_bins = kept(self._move(batch.freq_spans), num_bins)
        over_frames = kept(self._move(batch.time_spans), num_frames)
        return over_bins[:, :, None] & over_frames[:, None, :]

    def _move(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)
