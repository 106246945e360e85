"""A corpus and an experiment so small that a step takes milliseconds."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from speakervlad.config import Config, load_config
from speakervlad.models.folder import save_encoder
from speakervlad.tables.manifest import Manifest, save_manifest
from speakervlad.training.run import train
from speakervlad.training.start import build_model

SPEAKERS, UTTERANCES = 4, 4
SAMPLES = 12000
SOURCE_SEED = 0


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Manifest ``train.csv`` and trials ``dev.trials``; speakers differ in pitch and tilt."""
    folder = tmp_path_factory.mktemp("corpus")
    names, speakers = [], []
    for speaker in range(SPEAKERS):
        for number in range(UTTERANCES):
            name = f"s{speaker}/u{number}.wav"
            (folder / name).parent.mkdir(exist_ok=True)
            soundfile.write(folder / name, voice(speaker, number), 16000)
            names.append(name)
            speakers.append(f"s{speaker}")
    save_manifest(
        folder / "train.csv",
        Manifest.of(
            folder,
            utterance_ids=names,
            paths=names,
            speakers=speakers,
            sessions=names,
            num_samples=[SAMPLES] * len(names),
        ),
    )
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    lines = [f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in pairs]
    (folder / "dev.trials").write_text("".join(lines))
    return folder


def voice(speaker: int, number: int) -> np.ndarray:
    """Three quarters of a second of harmonics over noise."""
    rng = np.random.default_rng((speaker, number))
    time = np.arange(SAMPLES) / 16000
    pitch = 90 + 60 * speaker + rng.uniform(-5, 5)
    tones = [
        np.sin(2 * np.pi * pitch * k * time) / k ** (0.5 + 0.3 * speaker) for k in range(1, 12)
    ]
    return 0.05 * np.sum(tones, axis=0) + 0.01 * rng.standard_normal(SAMPLES)


@pytest.fixture
def experiment(corpus, tmp_path) -> Callable[..., Config]:
    """``experiment("train.steps=3", ...)``: the tiny config with overrides."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny(corpus, tmp_path / "run")))

    def make(*overrides: str) -> Config:
        return load_config(path, overrides)

    return make


@pytest.fixture
def own_manifest(corpus, tmp_path) -> Path:
    """A copy of the corpus that a test may spoil, by its manifest."""
    shutil.copytree(corpus, tmp_path / "corpus")
    return tmp_path / "corpus/train.csv"


CAMPPLUS = {
    "front_end": {"kind": "kaldi_fbank", "num_mels": 40},
    "trunk": {"kind": "campplus", "layers": [1, 2], "width": 0.25},
    "descriptor_dim": 0,
    "pooling": {"kind": "statistics", "unbiased": True},
    "embedding_dim": 16,
    "embedding_relu": False,
    "embedding_norm": True,
}


@pytest.fixture
def source(corpus, tmp_path) -> Path:
    """The folder of a tiny CAM++ with statistics of batch norms as after a training."""
    path = tmp_path / "source.yaml"
    path.write_text(yaml.safe_dump({**tiny(corpus, tmp_path), "encoder": CAMPPLUS}))
    config = load_config(path, ["train.seed=5"])
    encoder = build_model(config, num_speakers=SPEAKERS).encoder
    rng = torch.Generator().manual_seed(SOURCE_SEED)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
    save_encoder(tmp_path / "source", encoder, config.encoder, {})
    return tmp_path / "source"


@pytest.fixture
def frozen(source, own_manifest, tmp_path) -> Callable[..., Config]:
    """``frozen("train.steps=3", ...)``: a head on frames of the source's trunk, with overrides."""
    values = tiny(own_manifest.parent, tmp_path / "run")
    values["encoder"] = {
        **CAMPPLUS,
        "descriptor_dim": 12,
        "pooling": {
            "kind": "side_by_side",
            "frames": {"kind": "ghost_statistics", "unbiased": True},
            "descriptors": {
                "kind": "netvlad",
                "num_clusters": 3,
                "num_ghosts": 1,
                "assignment": "descriptors",
            },
        },
    }
    values |= {"init_from": str(source), "init_projection": True}
    values["teacher"] = {"start": True, "init_classes": True, "cosine": 1.0, "similarity": 1.0}
    values["data"]["frame_cache"] = {
        "folder": str(tmp_path / "frames"),
        "copies": 1.5,
        "backend": "torch",
        "crop_seconds": [0.3, 0.6],
        "short_seconds": [0.3, 0.5],
    }
    values["augment"] = {"level_probability": 0.5, "channel_probability": 0.5}
    values["train"] |= {"frozen_trunk": True, "frozen_norm": True, "vlad_init_utterances": 8}
    path = tmp_path / "frozen.yaml"
    path.write_text(yaml.safe_dump(values))

    def make(*overrides: str) -> Config:
        return load_config(path, overrides)

    return make


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory) -> Callable[..., None]:
    """``finished(folder, "train.steps=1", ...)``: there is what such a run, done once, has left."""
    runs: dict[tuple[str, ...], Path] = {}

    def copy(folder: Path, *overrides: str) -> None:
        if overrides not in runs:
            path = tmp_path_factory.mktemp("finished") / "tiny.yaml"
            path.write_text(yaml.safe_dump(tiny(corpus, path.with_name("run"))))
            train(load_config(path, overrides))
            runs[overrides] = path.with_name("run")
        shutil.copytree(runs[overrides], folder)

    return copy


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., None]:
    """``torchrun("-m", "speakervlad", ...)``: run it with two processes."""

    def run(
        *arguments: object, options: Sequence[str] = (), timeout: float = 120, **environment: object
    ) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        settings = {name: str(value) for name, value in environment.items()}
        process = subprocess.Popen(
            [*command, "--nproc-per-node=2", *options, *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **settings},
            start_new_session=True,
        )
        try:
            _, messages = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # Its workers would outlive torchrun, and keep the pipe open.
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"torchrun has not ended: {process.communicate()[1]}")
        assert process.returncode == 0, messages

    return run


def tiny(corpus: Path, run_dir: Path) -> dict:
    """The tiny experiment as plain containers."""
    return {
        "run_dir": str(run_dir),
        "encoder": {
            "front_end": {"kind": "log_mel", "num_mels": 40, "normalise": "time_mean"},
            "trunk": {"width": 0.125, "batch_norm_momentum": 0.1},
            "descriptor_dim": 16,
            "pooling": {"num_clusters": 3, "num_ghosts": 1, "assignment": "descriptors"},
            "embedding_dim": 16,
            "embedding_relu": False,
        },
        "classifier": {"kind": "aam_softmax", "margin": 0.2, "margin_warmup_steps": 4},
        "data": {
            "train_manifest": str(corpus / "train.csv"),
            "crop_seconds": 0.5,
            "num_workers": 0,
        },
        "optim": {"lr": 0.005, "clip_norm": 5.0},
        "schedule": {"kind": "cosine", "warmup_steps": 2},
        "train": {
            "steps": 6,
            "batch_size": 8,
            "device": "cpu",
            "log_every": 1,
            "save_every": 3,
            "validate_every": 3,
        },
    }
