"""Encoders that several tests share: those of the original, and one of every kind, exported."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

from speakervlad.checkpoints.keras import convert_keras
from speakervlad.encoder.export import export_onnx
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folder import load_encoder_folder
from speakervlad.models.frontend import FRONT_ENDS
from speakervlad.models.pooling import POOLINGS
from speakervlad.models.trunks import TRUNKS
from speakervlad.schema import Part

# What makes a trunk without a width small.
SMALL_TRUNKS: dict[str, dict] = {
    "standard_resnet34": {"width": 0.25},
    "ecapa_tdnn": {"channels": 16, "out_channels": 24, "squeeze_dim": 4},
    "speechbrain_ecapa_tdnn": {"channels": 16, "out_channels": 24, "squeeze_dim": 4},
    "campplus": {"layers": (1, 2), "width": 0.25},
}


def make_small(name: str) -> Part:
    return Part(name, **SMALL_TRUNKS.get(name, {"width": 0.125}))


BASE = "gvlad_k8_g2_b512"
REFERENCE = {
    BASE: [BASE],
    "vlad_k8_b512": [BASE, "vlad_k8_b512"],
    "gvlad_k12_g3_b256": [BASE, "gvlad_k12_g3_b256"],
    "avg_b512": [BASE, "avg_b512"],
    "resnet34l_gvlad_k8_g2_b512": ["resnet34l_gvlad_k8_g2_b512"],
}

# Fields of the config of a tiny encoder: every row of every table, and every way around a network.
KINDS = {
    "as released": {},
    "mirrored": {"front_end": Part("linear", mirror=True, min_seconds=0.8)},
    "mean over time": {"front_end": Part("log_mel", num_mels=40, normalise="time_mean")},
    "deviation over time": {"front_end": Part("linear", normalise="time", mirror=True)},
    "not normalised": {"front_end": Part("log_mel", num_mels=40, normalise="none")},
    "average of rows": {"pooling": Part("average"), "descriptor_dim": 0},
    "statistics": {"pooling": Part("statistics"), "embedding_relu": True},
    "unbiased statistics": {"pooling": Part("statistics", unbiased=True, variance_floor=1e-12)},
    "attention over the whole recording": {
        "pooling": Part("attentive_statistics", per_channel=False, context=True)
    },
    "plain assignment": {
        "pooling": Part(
            "netvlad", num_clusters=8, num_ghosts=2, assignment="descriptors", vector_norm=True
        )
    },
    "second order beside statistics": {
        "pooling": Part(
            "side_by_side",
            frames=Part("statistics", unbiased=True),
            descriptors=Part("netvlad", num_clusters=3, second_order=True, vector_norm=True),
        )
    },
    "normalised embedding": {"embedding_norm": True},
    **{
        f"front end {name}": {"front_end": Part(name)}
        for name in FRONT_ENDS
        if name not in ("linear", "log_mel")
    },
    **{f"trunk {name}": {"trunk": make_small(name)} for name in TRUNKS},
    **{
        f"pooling {name}": {"pooling": Part(name)}
        for name in POOLINGS
        if name not in ("average", "statistics", "netvlad")
    },
}


@pytest.fixture(scope="session")
def reference_encoder(shared_reference, tmp_path_factory) -> Callable[[str], SpeakerEncoder]:
    """Variant name to encoder, through the files on disk."""
    encoders: dict[str, SpeakerEncoder] = {}

    def load(variant: str) -> SpeakerEncoder:
        if variant not in encoders:
            folder = tmp_path_factory.mktemp("reference") / "encoder"
            paths = [shared_reference / f"weights/{name}.h5" for name in REFERENCE[variant]]
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


@pytest.fixture(scope="session")
def small_trunk() -> Callable[[str], Part]:
    """Row of ``TRUNKS`` to the smallest trunk of its kind."""
    return make_small


# Each differs from another kind in an option or in sizes, not in what is computed how.
VARIANTS = (
    "not normalised",
    "unbiased statistics",
    "attention over the whole recording",
    "second order beside statistics",
    "trunk thin_resnet34",
    "trunk strided_thin_resnet34",
    "trunk wide_resnet34",
    "trunk speechbrain_ecapa_tdnn",
)
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[slow(k) if k in VARIANTS else k for k in KINDS])
def exported_kind(request, short_trunk, save_tiny_encoder, tmp_path_factory) -> Path:
    """The folder of a tiny encoder of every kind, with its graph beside it.

    Kinds that differ in something else than the trunk have the short one, which is exported sooner.
    """
    changes = KINDS[request.param]
    folder = tmp_path_factory.mktemp("kind") / "encoder"
    save_tiny_encoder(folder, **{"trunk": short_trunk} | changes)
    export_onnx(folder, folder / "model.onnx", check_seconds=(0.1,))
    return folder
