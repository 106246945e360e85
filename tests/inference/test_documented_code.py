"""What the documents say of Python runs as it stands."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speakervlad.config import EncoderConfig
from speakervlad.errors import InputError
from speakervlad.inference.backends import TorchBackend
from speakervlad.inference.engine import Embedder
from speakervlad.models import pooling
from speakervlad.models.folder import build_encoder
from speakervlad.schema import Part

PAGE = Path(__file__).parents[2] / "docs/embedding.md"


def test_long_audio_windows_enrolment(make_wav, tmp_path, monkeypatch):
    section = PAGE.read_text().split("## Long audio, windows, enrolment")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    for seed, (name, seconds) in enumerate((("hours", 4.0), ("a", 2.0), ("b", 1.0))):
        make_wav(tmp_path / f"{name}.wav", seconds, seed)
    names: dict = {}
    exec(code[1], names)
    assert len(names["vectors"]) == len(names["spans"]) == 5
    np.testing.assert_array_equal(names["speaker"], names["encoder"].enrol(["a.wav", "b.wav"]))


def test_extending_adds_a_pooling_layer_by_its_class_and_row(monkeypatch):
    """The layer of docs/extending.md through the config, and numpy's sums against its forward."""
    text = (PAGE.parent / "extending.md").read_text()
    code = re.search(r"```python\n(.*?)\n\nPOOLINGS", text, re.DOTALL)
    assert code
    names = dict(vars(pooling))
    exec(code[1], names)
    monkeypatch.setitem(pooling.POOLINGS, "attentive_average", names["AttentiveAveragePooling"])
    config = EncoderConfig(
        trunk=Part("thin_resnet34", width=0.125),
        descriptor_dim=16,
        pooling=Part("attentive_average", sharpness=2.0),
        embedding_dim=8,
    )
    encoder = build_encoder(config).eval()
    waveform = np.random.default_rng(0).standard_normal(20_000).astype(np.float32) / 10
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(encoder(torch.from_numpy(waveform)[None]))[0]
    ours = Embedder(TorchBackend(encoder, "cpu")).embed(waveform)
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)
    with pytest.raises(InputError, match=r"sharpness=-1.0: must be at least 0"):
        build_encoder(replace(config, pooling=Part("attentive_average", sharpness=-1.0)))
