"""``bench-data`` and ``average`` from the command line."""

import sys

import pytest
import soundfile
import yaml

from speakervlad.cli import main
from speakervlad.config import EncoderConfig
from speakervlad.models.folder import build_encoder, load_encoder_folder, save_encoder
from speakervlad.schema import Part, to_dict

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


def test_bench_data_prints_the_stages_and_the_bottleneck(run, tmp_path, make_waveform):
    rows = "utterance_id,path,speaker,session,num_samples\n"
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", make_waveform(1.0, number), 16000)
        rows += f"{number},{number}.wav,s{number % 2},x,16000\n"
    (tmp_path / "train.csv").write_text(rows)
    values = {
        "encoder": to_dict(ENCODER),
        "data": {"train_manifest": str(tmp_path / "train.csv"), "crop_seconds": 0.5},
        "train": {"batch_size": 4, "device": "cpu"},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    code, output = run("bench-data", tmp_path / "tiny.yaml", "data.num_workers=0", "--batches", 1)
    assert code == 0, output.err
    for word in ("disk", "decode", "draw", "augment", "front end", "network", "loader"):
        assert word in output.out
    assert "bottleneck: " in output.out


def test_average_writes_an_encoder_and_refuses_what_is_none(run, tmp_path):
    for name in "ab":
        save_encoder(tmp_path / name, build_encoder(ENCODER), ENCODER, {})
    code, output = run("average", tmp_path / "mean", tmp_path / "a", tmp_path / "b")
    assert code == 0, output.err
    load_encoder_folder(tmp_path / "mean")
    code, output = run("average", tmp_path / "other", tmp_path / "a", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere: no such encoder folder" in output.err
