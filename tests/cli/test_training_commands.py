"""``average`` from the command line."""

import sys

import pytest

from speakervlad.cli import main
from speakervlad.config import EncoderConfig
from speakervlad.models.folder import build_encoder, load_encoder_folder, save_encoder
from speakervlad.schema import Part

ENCODER = EncoderConfig(
    front_end=Part("log_mel", num_mels=40),
    trunk=Part("thin_resnet34", width=0.125),
    descriptor_dim=8,
    pooling=Part("netvlad", num_ghosts=2, assignment="descriptors", num_clusters=2),
    embedding_dim=8,
)


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["speakervlad", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code or 0, capsys.readouterr()

    return call


def test_average_writes_an_encoder_and_refuses_what_is_none(run, tmp_path):
    for name in "ab":
        save_encoder(tmp_path / name, build_encoder(ENCODER), ENCODER, {})
    code, output = run("average", tmp_path / "mean", tmp_path / "a", tmp_path / "b")
    assert code == 0, output.err
    load_encoder_folder(tmp_path / "mean")
    code, output = run("average", tmp_path / "other", tmp_path / "a", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere: no such encoder folder" in output.err
