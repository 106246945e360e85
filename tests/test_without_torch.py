"""The wheel of a release, and what it gives without extras: an environment that has no torch."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from speakervlad.config import EncoderConfig
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.export import export_onnx
from speakervlad.encoder.windows import Windows
from speakervlad.models.folder import build_encoder, save_encoder
from speakervlad.schema import Part
from speakervlad.tables.interchange import load_embeddings

ROOT = Path(__file__).parents[1]
MAX_MEGABYTES, MAX_WHEEL_MEGABYTES = 300, 40
FOLDER = "bin" if os.name == "posix" else "Scripts"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The sdist and, made of it, the wheel."""
    pytest.importorskip("build", reason="needs build (extra dev)")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory, release):
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=True)
    command = [folder / FOLDER / "python", "-m", "pip", "install", "--quiet", release[1]]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def bare(environment, tmp_path):
    """Run a program of the environment, away from the checkout."""

    def call(program, *arguments):
        command = [environment / FOLDER / program, *map(str, arguments)]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = EncoderConfig(
        trunk=Part("thin_resnet34", width=0.125),
        descriptor_dim=16,
        pooling=Part("netvlad", num_clusters=3, num_ghosts=2),
    )
    folder = tmp_path_factory.mktemp("model") / "encoder"
    save_encoder(folder, build_encoder(config), config, {})
    export_onnx(folder, folder.with_suffix(".onnx"), check_seconds=(1.0,))
    return folder


def succeed(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_small_and_holds_the_package_and_its_licences_alone(release, capsys):
    sdist, wheel = release
    megabytes = wheel.stat().st_size / 1e6
    with capsys.disabled():
        print(f"\nwheel: {megabytes:.1f} MB, sdist: {sdist.stat().st_size / 1e6:.1f} MB")
    assert megabytes < MAX_WHEEL_MEGABYTES
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"speakervlad"}
    licences = {name.partition(".dist-info/licenses/")[2] for name in names} - {""}
    texts = ("LICENSE*", "NOTICE*", "MODEL_CARD.md")
    ours = [path for text in texts for path in (ROOT / "speakervlad").rglob(text)]
    assert licences == {"LICENSE", *(path.relative_to(ROOT).as_posix() for path in ours)}
    page = (ROOT / "docs/licences.md").read_text("utf-8")
    assert [path for path in ours if path.relative_to(ROOT).as_posix() not in page] == []
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "docs/vlad.md", "tests/conftest.py"} <= names


def test_examples_are_told_apart(bare):
    assert "examples/alex-1.opus" in succeed(bare("speakervlad", "examples"))
    pair = ("examples/alex-1.opus", "examples/alex-2.opus")
    assert "same speaker" in succeed(bare("speakervlad", "verify", *pair))


def test_environment_is_small_and_has_no_torch(environment, bare, capsys):
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is not None)"
    succeed(bare("python", "-c", code))
    size = subprocess.run(["du", "-sm", environment], capture_output=True, text=True, check=True)
    with capsys.disabled():
        print(f"\nenvironment without extras: {size.stdout.split()[0]} MB")
    assert int(size.stdout.split()[0]) < MAX_MEGABYTES


def test_help(bare):
    assert "embed" in succeed(bare("speakervlad", "--help"))


def test_audio_to_error_rates(bare, folder, make_wav, tmp_path):
    for i in range(3):
        make_wav(tmp_path / f"audio/{i}.wav", 1.0, seed=i)
    (tmp_path / "list.txt").write_text("1 0.wav 1.wav\n0 0.wav 2.wav\n")
    model = ("--encoder", folder.with_suffix(".onnx"))
    succeed(bare("speakervlad", "embed", "audio", *model, "--out", "e.npz"))
    assert len(load_embeddings(tmp_path / "e.npz")) == 3
    succeed(bare("speakervlad", "score", "list.txt", "--embeddings", "e.npz", "--out", "s.txt"))
    assert "EER" in succeed(bare("speakervlad", "metrics", "s.txt"))
    calibrating = ("calibrate-encoder", folder.with_suffix(".onnx"), "list.txt", "--root", "audio")
    assert "encoder" in succeed(bare("speakervlad", *calibrating, "--out", "mine"))
    pair = ("audio/0.wav", "audio/1.wav", "--threshold=-1", "--any-sound")
    assert "same speaker" in succeed(bare("speakervlad", "verify", *pair, *model))


ALL_KINDS = """
import sys
import numpy as np
from speakervlad import load_encoder
from speakervlad.encoder.encoder import Windows
encoder = load_encoder(sys.argv[1])
np.savez(
    "vectors.npz",
    long=encoder.embed("long.wav"),
    enrolled=encoder.enrol(["long.wav", "short.wav"]),
    windows=encoder.embed_windows("long.wav", Windows(20, 10)).vectors,
)
"""


def test_long_audio_enrolment_and_windows_equal_torch(bare, folder, make_wav, tmp_path):
    long = make_wav(tmp_path / "long.wav", 130.0)
    short = make_wav(tmp_path / "short.wav", 2.0, seed=1)
    succeed(bare("python", "-c", ALL_KINDS, folder.with_suffix(".onnx")))
    ours, torchs = np.load(tmp_path / "vectors.npz"), load_encoder(folder, device="cpu")
    np.testing.assert_allclose(ours["long"], torchs.embed(long), atol=1e-4)
    np.testing.assert_allclose(ours["enrolled"], torchs.enrol([long, short]), atol=1e-4)
    windows = torchs.embed_windows(long, Windows(20, 10)).vectors
    np.testing.assert_allclose(ours["windows"], windows, atol=1e-4)


def test_calibration(bare, tmp_path):
    lines = [f"a{i} b{i} {0.1 * (i % 7) + 0.3 * (i % 2)} {i % 2}" for i in range(40)]
    (tmp_path / "s.txt").write_text("\n".join(lines))
    succeed(bare("speakervlad", "calibrate", "s.txt", "--out", "calibration.json"))


def test_commands_that_need_torch_say_how_to_get_it(bare, folder, make_wav, tmp_path):
    make_wav(tmp_path / "a.wav")
    commands = [
        ("train", ROOT / "conf/open_speech_small.yaml"),
        ("export", folder, "e.onnx"),
        ("embed", "a.wav", "--encoder", folder, "--out", "e.npz"),
        ("quickstart",),
    ]
    for command in commands:
        done = bare("speakervlad", *command)
        assert done.returncode == 2, command
        assert "pip install 'speakervlad[train]'" in done.stderr, command
