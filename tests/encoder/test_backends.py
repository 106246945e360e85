"""Which backend computes, what each refuses, and that all give the same embeddings."""

import importlib.util
import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from speakervlad.config import THRESHOLDS_NAME
from speakervlad.encoder import backends, runtimes
from speakervlad.encoder.backends import ExportedBackend, OnnxBackend
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.export import export_onnx
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.encoder.windows import Windows
from speakervlad.errors import InputError
from speakervlad.verification.known import read_threshold

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


@pytest.fixture(scope="module")
def plain(save_tiny_encoder, tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("plain") / "encoder")


@pytest.fixture(scope="module")
def both(save_tiny_encoder, short_trunk, tmp_path_factory):
    """A folder of weights and their graph."""
    folder = save_tiny_encoder(tmp_path_factory.mktemp("both") / "encoder", trunk=short_trunk)
    export_onnx(folder, folder / "model.onnx", check_seconds=(0.1,))
    return folder


@pytest.fixture
def absent(monkeypatch):
    """``absent("torch", ...)``: as if these were not installed."""

    def hide(*names):
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name in names else find(name)
        )

    return hide


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    monkeypatch.setattr(runtimes, "_has_gpu", lambda: False)


@pytest.mark.parametrize(
    ("backend", "precision", "tolerance"),
    [
        ("onnxruntime", "float32", 1e-4),
        pytest.param("openvino", "float32", 1e-4, marks=needs_openvino),
        pytest.param("openvino", "bfloat16", 0.05, marks=needs_openvino),
    ],
)
def test_backends_agree_on_many_files_and_on_one(
    both, make_wav, tmp_path, backend, precision, tolerance
):
    paths = [make_wav(tmp_path / f"{i}.wav", 0.3 + 0.2 * i, seed=i) for i in range(8)]
    theirs = load_encoder(both, device="cpu", backend="torch").embed_files(paths)
    embedder = load_encoder(both, backend=backend, precision=precision)
    ours = embedder.embed_files(paths)
    assert ours.dtype == np.float32
    assert np.linalg.norm(ours - theirs, axis=1).max() < tolerance
    assert np.linalg.norm(embedder.embed(paths[3]) - theirs[3]) < tolerance


@pytest.mark.parametrize(
    ("backend", "precision", "tolerance"),
    [
        ("auto", "float32", 1e-5),
        pytest.param("openvino", "float32", 1e-5, marks=needs_openvino),
        pytest.param("openvino", "bfloat16", 2e-2, marks=needs_openvino),
    ],
)
def test_graphs_do_all_that_torch_does(both, make_waveform, backend, precision, tolerance):
    ours = load_encoder(both / "model.onnx", backend=backend, precision=precision)
    theirs = load_encoder(both, device="cpu", backend="torch")
    waveform, windows = make_waveform(2.0), Windows(1, 0.5)
    long = np.tile(waveform, 31)
    pairs = [
        (ours.embed_windows(waveform, windows), theirs.embed_windows(waveform, windows)),
        (ours.enrol([waveform, long]), theirs.enrol([waveform, long])),
        (ours.embed(long), theirs.embed(long)),
    ]
    for one, other in pairs:
        one, other = (getattr(each, "vectors", each) for each in (one, other))
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=tolerance)


@pytest.mark.parametrize("backend", ["auto", pytest.param("openvino", marks=needs_openvino)])
def test_windows_of_many_files(both, make_wav, tmp_path, backend):
    paths = [make_wav(tmp_path / f"{i}.wav", 1 + 0.3 * i, seed=i) for i in range(6)]
    ours, theirs = (
        load_encoder(both, device="cpu", backend=name).embed_each(paths, windows=Windows(0.5, 0.5))
        for name in (backend, "torch")
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)


def test_auto_takes_the_graph(both):
    assert isinstance(load_encoder(both).backend, OnnxBackend)


def test_auto_goes_by_what_is_installed_and_asked_for(both, plain, absent):
    assert isinstance(load_encoder(plain, device="cpu").backend, TorchBackend)
    absent("onnxruntime", "openvino")
    assert isinstance(load_encoder(both).backend, TorchBackend)
    assert isinstance(load_encoder(both, precision="bfloat16").backend, TorchBackend)


@needs_openvino
def test_auto_takes_openvino_for_bfloat16(both):
    from speakervlad.encoder.openvino_backend import OpenVinoBackend

    opened = load_encoder(both / "model.onnx", precision="bfloat16").backend
    assert isinstance(opened, OpenVinoBackend)


def test_auto_takes_torch_where_there_is_a_gpu(both, monkeypatch):
    monkeypatch.setattr(runtimes, "_has_gpu", lambda: True)
    assert isinstance(load_encoder(both).backend, TorchBackend)
    assert isinstance(load_encoder(both / "model.onnx").backend, OnnxBackend)


def test_auto_leaves_a_backend_that_computes_something_else(both, monkeypatch, caplog):
    monkeypatch.setattr(ExportedBackend, "check", lambda self: 0.1)
    with caplog.at_level(logging.WARNING):
        assert isinstance(load_encoder(both).backend, TorchBackend)
    assert "0.1 away from torch" in caplog.text
    with pytest.raises(InputError, match=r"0\.1 away from torch"):
        load_encoder(both, backend="onnxruntime")
    with pytest.raises(InputError, match=r"0\.1 away from torch"):
        load_encoder(both / "model.onnx")


def test_graph_of_another_version_is_not_used(both, monkeypatch, caplog):
    monkeypatch.setattr(backends, "FORMAT", "speakervlad-encoder-4")
    assert isinstance(load_encoder(both, device="cpu").backend, TorchBackend)
    assert "another version" in caplog.text


def test_graph_of_other_weights_is_not_used(both, save_tiny_encoder, short_trunk, tmp_path, caplog):
    folder = shutil.copytree(both, tmp_path / "encoder")
    save_tiny_encoder(folder, seed=1, trunk=short_trunk)
    assert isinstance(load_encoder(folder, device="cpu").backend, TorchBackend)
    assert "Export it again" in caplog.text
    with pytest.raises(InputError, match="not exported from"):
        load_encoder(folder, backend="onnxruntime")
    (folder / "model.safetensors").unlink()
    assert isinstance(load_encoder(folder, backend="onnxruntime").backend, OnnxBackend)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "onnxruntme"}, "Did you mean 'onnxruntime'"),
        ({"precision": "float16"}, "precision=float16"),
        ({"backend": "onnxruntime", "precision": "bfloat16"}, "computes in float32"),
        ({"backend": "onnxruntime", "device": "cuda"}, "runs on the CPU"),
    ],
)
def test_what_a_backend_cannot_do_is_refused(both, options, words):
    with pytest.raises(InputError, match=words):
        load_encoder(both, **options)


def test_what_the_source_cannot_give_is_refused(both, plain):
    with pytest.raises(InputError, match=r"no model\.onnx.*Write it: speakervlad export"):
        load_encoder(plain, backend="onnxruntime")
    with pytest.raises(InputError, match="torch computes encoder folders"):
        load_encoder(both / "model.onnx", backend="torch")
    with pytest.raises(InputError, match="runs on the CPU"):
        load_encoder(both / "model.onnx", device="cuda")


def test_what_is_not_installed_is_named(both, plain, absent):
    absent("openvino", "torch")
    with pytest.raises(InputError, match=r"needs openvino.*speakervlad\[openvino\]"):
        load_encoder(both, backend="openvino")
    with pytest.raises(InputError, match=r"needs openvino.*speakervlad\[openvino\]"):
        load_encoder(both / "model.onnx", precision="bfloat16")
    with pytest.raises(InputError, match=r"needs torch.*speakervlad\[train\]"):
        load_encoder(plain)


SIGNAL_AFTER_OPENVINO = """
import signal, sys, threading
import numpy as np
from speakervlad.encoder.encoder import load_encoder

held = [load_encoder(sys.argv[1], backend="openvino")]
held[0].embed(np.random.default_rng(0).normal(size=8000).astype(np.float32))
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@needs_openvino
def test_a_signal_is_survived_after_openvino_went_in_another_thread(both):
    """Its plugin left the main thread a signal stack that was no longer mapped."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AFTER_OPENVINO, both], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr[-2000:]


@needs_openvino
def test_openvino_refuses_what_is_not_ours(both, tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match="damaged or no ONNX"):
        load_encoder(tmp_path / "text.onnx", backend="openvino")
    model = onnx.load(both / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match="not an encoder"):
        load_encoder(tmp_path / "foreign.onnx", backend="openvino")


def test_threshold_beside_a_file_comes_first(both, tmp_path):
    file = tmp_path / "e.onnx"
    file.write_bytes((both / "model.onnx").read_bytes())
    notes = {THRESHOLDS_NAME: json.dumps({"eer": 0.25})}
    assert read_threshold(file, notes) == 0.25
    (tmp_path / THRESHOLDS_NAME).write_text(json.dumps({"eer": 0.5}))
    assert read_threshold(file, notes) == read_threshold(tmp_path, {}) == 0.5
    with pytest.raises(InputError, match="Pass --threshold"):
        read_threshold(both, {})


@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
@pytest.mark.parametrize(
    "change",
    [
        {"ends": None},
        {"ends": "{"},
        {"ends": "[" * 100_000},
        {"ends": '{"front_end": {"num_mels": 1e400, "n_fft": 512}}'},
        {"check": None},
        {"check": '["a"]'},
        {"precision": "float8"},
    ],
    ids=["none", "cut", "deep", "huge", "no check", "no numbers", "unknown precision"],
)
def test_damaged_notes_are_one_line(both, tmp_path, backend, change):
    model = onnx.load(both / "model.onnx")
    notes = {note.key: note.value for note in model.metadata_props} | change
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {name: x for name, x in notes.items() if x is not None})
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(InputError, match=r"damaged\.onnx: .*(Export it again|Choose another)") as e:
        load_encoder(tmp_path / "damaged.onnx", backend=backend)
    assert "\n" not in str(e.value)


def test_a_graph_that_cannot_be_computed_is_one_line(both, tmp_path):
    model = onnx.load(both / "model.onnx")
    bins = model.graph.input[0].type.tensor_type.shape.dim[1]
    bins.dim_value = 12
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(InputError, match=r"broken\.onnx: .*Export it again"):
        load_encoder(tmp_path / "broken.onnx", backend="onnxruntime")
