"""``embed`` and ``verify`` beyond the plain chain: precision, windows, what is refused."""

import numpy as np
import pytest
import torch

from speakervlad.config import EncoderConfig, FrontEndConfig, PoolingConfig, TrunkConfig
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.models.build import build_encoder, save_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    config = EncoderConfig(
        front_end=FrontEndConfig("log_mel", 40, "time_mean"),
        trunk=TrunkConfig(width=0.125),
        descriptor_dim=16,
        pooling=PoolingConfig(num_clusters=3, num_ghosts=1),
        embedding_dim=12,
        embedding_relu=False,
    )
    folder = tmp_path_factory.mktemp("model") / "encoder"
    save_encoder(folder, build_encoder(config), config, {})
    return folder


@pytest.fixture
def folder(make_wav, tmp_path):
    for name, seconds in (("a", 2.0), ("b", 3.1), ("c", 0.4)):
        make_wav(tmp_path / f"audio/{name}.wav", seconds, seed=ord(name))
    return tmp_path / "audio"


def test_last_line_tells_the_speed(run, capsys, encoder, folder, tmp_path):
    assert run("embed", folder, "--encoder", encoder, "--out", tmp_path / "e.npz") == 0
    out = capsys.readouterr().out
    assert "3 embeddings of 12 dimensions" in out
    assert "files/s" in out
    assert "x real time" in out


def test_windows_are_named_by_their_span(run, encoder, folder, tmp_path):
    out = tmp_path / "e.npz"
    assert (
        run("embed", folder, "--encoder", encoder, "--out", out, "--window", 1, "--hop", 0.5) == 0
    )
    embeddings = Embeddings.load(out)
    assert embeddings.ids[:3].tolist() == [
        "a.wav@0.000-1.000",
        "a.wav@0.500-1.500",
        "a.wav@1.000-2.000",
    ]
    assert embeddings.ids[-1] == "c.wav@0.000-0.400"
    np.testing.assert_allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-5)


def test_bfloat16_is_near(run, encoder, folder, tmp_path):
    for precision in ("float32", "bfloat16"):
        out = tmp_path / f"{precision}.npz"
        arguments = ("--encoder", encoder, "--out", out, "--precision", precision)
        assert run("embed", folder, *arguments) == 0
    one, other = (Embeddings.load(tmp_path / f"{p}.npz") for p in ("float32", "bfloat16"))
    assert (np.einsum("nd,nd->n", one.vectors, other.vectors) > 0.999).all()
    assert not np.array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hop", 1), "--hop goes with --window"),
        (("--window", 0.01), "windows last 0.2 s"),
        (("--precision", "float16"), "precision=float16"),
    ],
)
def test_bad_options_end_in_one_line(run, capsys, encoder, folder, tmp_path, options, words):
    out = tmp_path / "e.npz"
    assert run("embed", folder, "--encoder", encoder, "--out", out, *options) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
    assert not out.exists()
