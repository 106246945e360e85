"""Front ends in torch: waveforms in, normalised spectrograms out, on the device, in the module."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.frontend import FrontEnd, normalise, spectra
from speakervlad.models.precision import at_least_float32

Features = Float[Tensor, "batch freq time"]
Waveforms = Float[Tensor, "batch samples"]


class Spectrogram(nn.Module):
    """What ``FrontEnd`` describes, for batches of waveforms.

    Training crops carry their own context: in training mode signals are not extended at their ends,
    so a crop of ``crop_samples(n)`` samples yields exactly ``n`` frames of real signal. Evaluation
    yields ``num_frames(samples)``, of twice as many samples when mirrored.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.spec = front_end
        filters = front_end.filters
        self.register_buffer("analysis", torch.from_numpy(front_end.analysis), persistent=False)
        self.register_buffer(
            "filters", None if filters is None else torch.from_numpy(filters), persistent=False
        )
        self.analysis: Tensor
        self.filters: Tensor | None

    def forward(self, waveforms: Waveforms) -> Features:
        with torch.autocast(waveforms.device.type, enabled=False):
            features = self.features(self.extend(at_least_float32(waveforms)))
            return normalise(features, self.spec.normalise)

    def features(self, waveforms: Waveforms) -> Features:
        """The spectrogram of the signal as it is: neither mirrored nor normalised."""
        spec = self.spec
        waveforms = spec.level(waveforms, torch)
        found = spec.compress(spectra(self.frames(waveforms), self.analysis, self.filters), torch)
        return spec.limit(found.transpose(1, 2), torch)

    def frames(self, waveforms: Waveforms) -> Float[Tensor, "batch time window"]:
        """Overlapping frames: within a training crop, or as ``FrontEnd.edges`` says."""
        spec = self.spec
        if self.training:
            waveforms = waveforms[:, spec.crop_margin : waveforms.shape[1] - spec.crop_margin]
        else:
            mode = "reflect" if spec.edges == "reflect" else "constant"
            waveforms = F.pad(waveforms, spec.extension, mode=mode)
        return waveforms.unfold(1, spec.win_length, spec.hop_length)

    def extend(self, waveforms: Waveforms) -> Float[Tensor, "batch longer"]:
        """Mirror (evaluation only), then repeat what is too short."""
        if self.spec.mirror and not self.training:
            waveforms = torch.cat([waveforms, waveforms.flip(-1)], dim=-1)
        num_samples, shortest = waveforms.shape[-1], self.spec.min_samples
        if num_samples < shortest:
            waveforms = waveforms.repeat(1, math.ceil(shortest / num_samples))[:, :shortest]
        return waveforms
