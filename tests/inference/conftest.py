"""The five variants of the original, converted once for all tests that compare with its numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

from speakervlad.inference.convert import convert_keras
from speakervlad.models.build import load_encoder_folder
from speakervlad.models.encoder import SpeakerEncoder

BASE = "gvlad_k8_g2_b512"
VARIANTS = {
    BASE: [BASE],
    "vlad_k8_b512": [BASE, "vlad_k8_b512"],
    "gvlad_k12_g3_b256": [BASE, "gvlad_k12_g3_b256"],
    "avg_b512": [BASE, "avg_b512"],
    "resnet34l_gvlad_k8_g2_b512": ["resnet34l_gvlad_k8_g2_b512"],
}


@pytest.fixture(scope="session")
def reference_encoder(shared_reference, tmp_path_factory) -> Callable[[str], SpeakerEncoder]:
    """Variant name to encoder, through the files on disk."""
    encoders: dict[str, SpeakerEncoder] = {}

    def load(variant: str) -> SpeakerEncoder:
        if variant not in encoders:
            folder = tmp_path_factory.mktemp("reference") / "encoder"
            paths = [shared_reference / f"weights/{name}.h5" for name in VARIANTS[variant]]
            convert_keras(paths, folder)
            encoders[variant] = load_encoder_folder(folder)[0]
        return encoders[variant]

    return load


@pytest.fixture(scope="session")
def reference_waveform(shared_reference) -> Callable[[str], torch.Tensor]:
    """Name below ``wav/`` to a waveform of shape (1, samples)."""

    def read(name: str) -> torch.Tensor:
        path: Path = shared_reference / f"wav/{name}.wav"
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == 16000
        return torch.from_numpy(samples)[None]

    return read
