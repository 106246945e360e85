"""Small networks in the layouts of WeSpeaker's and 3D-Speaker's exports, with random weights."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn


class Residual(nn.Module):
    """What WeSpeaker's networks do: (batch, frames, bins), convolutions, TSTP, a linear layer."""

    def __init__(self, dim: int = 24, bins: int = 80, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.linear = nn.Linear(8 * (bins // 2) * 2, dim)

    def forward(self, feats: torch.Tensor) -> torch.Tensor:
        x = feats.permute(0, 2, 1)[:, None]
        x = torch.relu(self.norm(self.conv1(x)))
        x = torch.relu(self.conv2(x)).flatten(1, 2)
        deviation = torch.sqrt(torch.var(x, dim=-1) + 1e-7)
        return self.linear(torch.cat([x.mean(dim=-1), deviation], dim=1))


def export_like(
    network: nn.Module,
    path: Path,
    names: tuple[str, str] = ("feats", "embs"),
    metadata: dict[str, object] | None = None,
    bins: int = 80,
) -> Path:
    """As both toolkits export: an opset of then, constants folded, batch and frames dynamic."""
    into, out = names
    axes = {into: {0: "B", 1: "T"}, out: {0: "B"}}
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            network.eval(),
            (torch.randn(1, 200, bins),),
            str(path),
            input_names=[into],
            output_names=[out],
            dynamic_axes=axes,
            opset_version=14,
            do_constant_folding=True,
            dynamo=False,
        )
    if metadata is not None:
        model = onnx.load(str(path))
        helper.set_model_props(model, {name: str(value) for name, value in metadata.items()})
        onnx.save(model, str(path))
    return path


# What sherpa-onnx's scripts write into WeSpeaker's and 3D-Speaker's files.
SHERPA = {
    "wespeaker": {
        "framework": "wespeaker",
        "language": "English",
        "sample_rate": 16000,
        "output_dim": 24,
        "normalize_samples": 0,
        "feature_normalize_type": "global-mean",
    },
    "3d-speaker": {
        "framework": "3d-speaker",
        "language": "Chinese",
        "sample_rate": 16000,
        "output_dim": 24,
        "normalize_samples": 1,
        "feature_normalize_type": "global-mean",
    },
}


def kaldi_features(samples: np.ndarray, *, scale: float, window: str) -> torch.Tensor:
    """(frames, 80), minus their mean, by torchaudio, as both toolkits compute them."""
    from torchaudio.compliance import kaldi

    wave = torch.from_numpy(samples)[None] * scale
    found = kaldi.fbank(
        wave, num_mel_bins=80, dither=0.0, sample_frequency=16000, window_type=window
    )
    return found - found.mean(dim=0)


def write_yaml(path: Path, values: object) -> Path:
    """JSON is YAML."""
    path.write_text(json.dumps(values))
    return path
