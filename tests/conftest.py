"""Fixtures that several floors share; none is applied by itself."""

import functools
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from speakervlad.schema import Part

# pytest-xdist: as many processes as cores share them out best with a thread each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts the tests in the background has Ctrl-C ignored, here and in what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
SHARED = ROOT / ".." / "shared"


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no folder ../shared/{name} beside the checkout")
    return folder.resolve()


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """``load_script("recipes/augmentation/rooms.py")``: a script of this repository as a module."""

    def load(name: str) -> ModuleType:
        path = ROOT / name
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def others(load_script) -> ModuleType:
    """Networks in the layouts of other toolkits, and the features that these compute."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    return load_script("tests/networks_of_others.py")


@pytest.fixture(scope="session")
def shared_speech() -> Path:
    """Real recordings with speaker labels: train.csv, dev.csv, trial lists, tar files."""
    return _shared_folder("speech")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Numbers that the original GhostVLAD code produced."""
    return _shared_folder("reference")


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Small audio files that other tools, or earlier versions of this one, read wrongly."""
    return _shared_folder("cases")


@pytest.fixture(scope="session")
def tiny_encoder() -> Callable[..., tuple]:
    """``tiny_encoder(seed=0, **changes)``: a published encoder in miniature, and its config.

    12 dimensions; ``changes`` are fields of its config. Batch norm's statistics are not those of a
    start, so that whoever leaves them out is found out.
    """
    import torch

    from speakervlad.config import EncoderConfig
    from speakervlad.models.folder import build_encoder

    settings = {
        "trunk": Part("thin_resnet34", width=0.125),
        "descriptor_dim": 16,
        "pooling": Part("netvlad", num_clusters=3, num_ghosts=1),
        "embedding_dim": 12,
        "embedding_relu": False,
    }

    def make(seed: int = 0, **changes: object) -> tuple:
        torch.manual_seed(seed)
        config = EncoderConfig(**(settings | changes))
        encoder = build_encoder(config).eval()
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        return encoder, config

    return make


@pytest.fixture(scope="session")
def quick_exports(load_script) -> Iterator[None]:
    """Exports take less time while the tests run: see the script."""
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    with load_script("tests/quick_exports.py").installed():
        yield


@pytest.fixture(scope="session")
def short_trunk(quick_exports) -> Iterator[Part]:
    """A row of ``TRUNKS`` while the tests run: the thin one with two blocks, at the same stride.

    It is exported in a quarter of the time; another process does not know it.
    """
    from speakervlad.models.resnets import THIN_STAGES, BottleneckResNet
    from speakervlad.models.trunks import TRUNKS

    stages = tuple(
        replace(stage, num_blocks=1, stride=stride)
        for stage, stride in zip(THIN_STAGES[2:], (2, 4), strict=True)
    )
    row = functools.partial(BottleneckResNet, stages=stages, stem_stride=1, stem_pool=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRUNKS, "short_resnet", row)
        yield Part("short_resnet", width=0.125)


@pytest.fixture(scope="session")
def save_tiny_encoder(tiny_encoder) -> Callable[..., Path]:
    """``save_tiny_encoder(folder, seed=0, **changes)``: the same on disk; returns the folder."""
    from speakervlad.models.folder import save_encoder

    def save(folder: Path, seed: int = 0, **changes: object) -> Path:
        save_encoder(folder, *tiny_encoder(seed, **changes), {})
        return folder

    return save


@pytest.fixture(scope="session")
def make_waveform() -> Callable[..., np.ndarray]:
    """``make_waveform(seconds, seed=0, rate=16000)``: a gliding voice-like tone and noise."""

    def make(seconds: float, seed: int = 0, rate: int = 16000) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time = np.arange(round(seconds * rate)) / rate
        pitch = 120 + 80 * rng.random() + 30 * np.sin(2 * np.pi * time)
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        tone = sum(np.sin(k * phase) / k for k in range(1, 20))
        noise = rng.standard_normal(len(time))
        return (0.1 * tone + 0.02 * noise).astype(np.float32)

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def make_wav(make_waveform) -> Callable[..., Path]:
    """``make_wav(path, seconds=1.0, seed=0, rate=16000)``: write such a file, return its path."""

    def make(path: Path, seconds: float = 1.0, seed: int = 0, rate: int = 16000) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, make_waveform(seconds, seed, rate), rate)
        return path

    return make


@pytest.fixture
def make_speech() -> Callable[..., Path]:
    """``make_speech(path, seconds=2.5, seed=0)``: somebody speaks in every moment of such a file.

    Seeds 0 and 1 are one person, 2, 3 and 4 three others.
    """
    from speakervlad import examples
    from speakervlad.audio.recording import Recording

    def make(path: Path, seconds: float = 2.5, seed: int = 0) -> Path:
        name = ("alex-1", "alex-2", "kim-1", "jo-1", "sam-1")[seed]
        spoken = Recording(examples()[name], speech_only=True).wave
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, spoken.read(0, round(seconds * 16000)), 16000)
        return path

    return make


@pytest.fixture
def full_disk() -> Callable[..., AbstractContextManager[None]]:
    """``with full_disk(num_bytes):`` no file grows beyond so many bytes."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limit(num_bytes: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def open_once() -> Callable[..., object]:
    """``open_backend``, but an encoder of the package is opened once: that takes a second."""
    from speakervlad.encoder.location import ships
    from speakervlad.encoder.runtimes import open_backend

    opened: dict[tuple, object] = {}

    def open_(path: Path, **settings: str) -> object:
        key = (path, *sorted(settings.items()))
        if key in opened:
            return opened[key]
        backend = open_backend(path, **settings)
        if ships(path):
            opened[key] = backend
        return backend

    return open_


@pytest.fixture(scope="session")
def in_pieces():
    """``in_pieces(listener, samples, size)``: all that it says of samples that come bit by bit."""

    def heard(listener, samples, size=1600):
        said = []
        for start in range(0, len(samples), size):
            said += listener.add(samples[start : start + size])
        return said + listener.finish()

    return heard


@pytest.fixture
def run(monkeypatch, tmp_path_factory, open_once):
    """Run the command line here, without the user's own people; returns the exit code."""
    monkeypatch.setattr("speakervlad.encoder.encoder.open_backend", open_once)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
    monkeypatch.delenv("SPEAKERVLAD_STORE", raising=False)

    from speakervlad.cli import main

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["speakervlad", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0

    return call
