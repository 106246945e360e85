"""The exported graph computes what torch computes, at any length and batch size."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file, save_file

from speakervlad.config import THRESHOLDS_NAME, EncoderConfig
from speakervlad.encoder.backends import OnnxBackend, probe_waveform
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.export import export_onnx
from speakervlad.encoder.network import Network, ends_of
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.errors import InputError
from speakervlad.models.folder import build_encoder, load_encoder_folder, save_encoder
from speakervlad.verification.known import read_threshold


@pytest.fixture(scope="module")
def folder(save_tiny_encoder, short_trunk, tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("model") / "encoder", trunk=short_trunk)


@pytest.fixture(scope="module")
def exported(folder):
    path = folder.parent / "encoder.onnx"
    (folder / THRESHOLDS_NAME).write_text('{"eer": 0.321}')
    export_onnx(folder, path, check_seconds=(0.1, 1.0))
    return path


@pytest.mark.slow
def test_full_width_equals_torch_at_twenty_lengths(tmp_path):
    config = EncoderConfig()
    save_encoder(tmp_path / "encoder", build_encoder(config), config, {})
    assert export_onnx(tmp_path / "encoder", tmp_path / "e.onnx") < 1e-4


def test_length_is_dynamic(exported):
    """One piece of 70 frames more gives the same frames in the middle as a shorter one."""
    backend = OnnxBackend(exported)
    spectrogram = np.random.default_rng(0).standard_normal((257, 646)).astype(np.float32)
    whole, part = (backend.describe(spectrogram[:, :stop])[0] for stop in (646, 566))
    np.testing.assert_allclose(part[:, :25], whole[:, :25], atol=1e-5)
    assert whole.shape[1] == part.shape[1] + 5


def test_file_carries_config_thresholds_and_check(exported, folder):
    backend = OnnxBackend(exported)
    assert json.loads(backend.notes["config"])["embedding_dim"] == backend.ends.dim == 12
    assert read_threshold(exported, backend.notes) == read_threshold(folder, {}) == 0.321
    assert backend.check() < 1e-4


def test_many_files_equal_torch(exported, folder, make_wav, tmp_path):
    paths = [make_wav(tmp_path / f"{i}.wav", 0.3 + 0.2 * i, seed=i) for i in range(8)]
    theirs = load_encoder(folder, device="cpu").embed_files(paths)
    np.testing.assert_allclose(load_encoder(exported).embed_files(paths), theirs, atol=1e-4)


def test_file_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match=r"text\.onnx: damaged or no ONNX"):
        load_encoder(tmp_path / "text.onnx")
    with pytest.raises(InputError, match="no such"):
        load_encoder(tmp_path / "absent.onnx")


def test_foreign_graph_is_refused(exported, tmp_path):
    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match="takes exactly 257 frames"):
        load_encoder(tmp_path / "foreign.onnx")


def test_graph_of_another_version_is_refused(exported, tmp_path):
    model = onnx.load(exported)
    notes = {note.key: note.value for note in model.metadata_props}
    onnx.helper.set_model_props(model, notes | {"format": "speakervlad-encoder-2"})
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(InputError, match=r"old\.onnx: another version.*Export it again"):
        load_encoder(tmp_path / "old.onnx")


def test_file_takes_spectrograms_and_carries_what_is_around_the_graph(exported, folder, capfd):
    session = onnxruntime.InferenceSession(exported)
    assert [value.name for value in session.get_inputs()] == ["spectrogram"]
    names = [value.name for value in session.get_outputs()]
    assert names[:2] == ["frames", "weights"]
    ends = OnnxBackend(exported).ends
    for name, array in ends_of(load_encoder_folder(folder)[0]).arrays().items():
        np.testing.assert_array_equal(ends.arrays()[name], array)
        assert name in names
    assert capfd.readouterr().err == ""


def unchanged(forward):
    def describe(self, spectrogram):
        with torch.inference_mode():
            frames, weights = forward(self.network, torch.from_numpy(spectrogram)[None])
        return frames[0].numpy(), weights[0].numpy()

    return describe


def test_wrong_graph_never_appears(folder, tmp_path, monkeypatch):
    trained = Network.forward
    monkeypatch.setattr(
        Network, "forward", lambda self, spectrogram: trained(self, 2 * spectrogram)
    )
    monkeypatch.setattr(TorchBackend, "describe", unchanged(trained))
    with pytest.raises(InputError, match="away from torch"):
        export_onnx(folder, tmp_path / "e.onnx", check_seconds=(1.0,))
    assert list(tmp_path.iterdir()) == []


def test_a_graph_may_share_the_weights_of_its_folder(save_tiny_encoder, short_trunk, tmp_path):
    """One file of weights, in half precision too, serves torch and both runtimes."""
    folder = save_tiny_encoder(tmp_path / "encoder", trunk=short_trunk)
    state = load_file(folder / "model.safetensors")
    save_file(
        {name: value.astype(half_of(value)) for name, value in state.items()},
        folder / "model.safetensors",
    )
    whole, graph = folder / "model.onnx", folder / "graph.onnx"
    export_onnx(folder, whole, check_seconds=(1.0,))
    export_onnx(folder, graph, check_seconds=(1.0,))
    assert graph.stat().st_size < whole.stat().st_size / 2
    convolutions = [node for node in onnx.load(graph).graph.node if node.op_type == "Conv"]
    assert all(name.endswith(".bias") for node in convolutions for name in node.input[2:]), (
        "biases that are no weights of the encoder keep batch norms from being merged"
    )
    waveform = probe_waveform(2.0)
    expected = load_encoder(whole).embed(waveform)
    whole.unlink()
    for backend in ("onnxruntime", "openvino", "torch"):
        found = load_encoder(folder, backend=backend).embed(waveform)
        np.testing.assert_allclose(found, expected, atol=3e-5)
    np.testing.assert_array_equal(
        load_encoder(graph).embed(waveform), load_encoder(folder).embed(waveform)
    )


def test_a_graph_without_its_weights_is_named(save_tiny_encoder, short_trunk, tmp_path):
    folder = save_tiny_encoder(tmp_path / "encoder", trunk=short_trunk)
    with pytest.raises(InputError, match="has no weights of its own"):
        export_onnx(folder, tmp_path / "graph.onnx", check_seconds=(1.0,))
    export_onnx(folder, folder / "graph.onnx", check_seconds=(1.0,))
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"graph.onnx: damaged or no ONNX file"):
        load_encoder(folder, backend="onnxruntime")


def half_of(value):
    return np.float16 if value.dtype.kind == "f" else value.dtype
