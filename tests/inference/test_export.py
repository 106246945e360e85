"""The exported graph computes what torch computes, at any length and batch size."""

import json

import numpy as np
import onnxruntime
import pytest

from speakervlad.config import EncoderConfig, FrontEndConfig, PoolingConfig, TrunkConfig
from speakervlad.errors import InputError
from speakervlad.inference.engine import load_encoder
from speakervlad.inference.export import export_onnx
from speakervlad.inference.onnx_backend import OnnxBackend
from speakervlad.inference.thresholds import THRESHOLDS_NAME, read_threshold
from speakervlad.models.build import build_encoder, save_encoder

VARIANTS = {
    "as released": {},
    "mirrored": {"front_end": FrontEndConfig(mirror=True, min_seconds=0.8)},
    "mean over time": {"front_end": FrontEndConfig("log_mel", 40, "time_mean")},
    "deviation over time": {"front_end": FrontEndConfig("linear", normalise="time")},
    "not normalised": {"front_end": FrontEndConfig("log_mel", 40, "none")},
    "average of rows": {"pooling": PoolingConfig(kind="average"), "descriptor_dim": 0},
    "statistics": {"pooling": PoolingConfig(kind="statistics"), "embedding_relu": True},
    "wide trunk": {"trunk": TrunkConfig(kind="wide_resnet34", width=0.125)},
    "strided trunk": {"trunk": TrunkConfig(kind="strided_thin_resnet34", width=0.125)},
    "standard trunk": {"trunk": TrunkConfig(kind="standard_resnet34", width=0.25)},
    "plain assignment": {"pooling": PoolingConfig(assignment="descriptors", vector_norm=True)},
    "normalised embedding": {"embedding_norm": True},
}
LENGTHS = (400, 511, 512, 1600, 5000, 16000, 16001, 40160, 77777)


@pytest.fixture(scope="module")
def folder(save_tiny_encoder, tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("model") / "encoder")


@pytest.fixture(scope="module")
def exported(folder):
    path = folder.parent / "encoder.onnx"
    (folder / THRESHOLDS_NAME).write_text('{"eer": 0.321}')
    export_onnx(folder, path, check_seconds=(0.1, 1.0))
    return path


@pytest.mark.parametrize("variant", VARIANTS)
def test_graph_equals_torch(save_tiny_encoder, make_waveform, tmp_path, variant):
    folder = save_tiny_encoder(tmp_path / "encoder", **VARIANTS[variant])
    export_onnx(folder, tmp_path / "e.onnx", check_seconds=(0.1,))
    ours, theirs = load_encoder(tmp_path / "e.onnx"), load_encoder(folder, device="cpu")
    for length in LENGTHS:
        waveform = make_waveform(length / 16000, seed=length)
        distance = np.linalg.norm(ours.embed(waveform) - theirs.embed(waveform))
        assert distance < 1e-4, length


@pytest.mark.slow
def test_full_width_equals_torch_at_twenty_lengths(tmp_path):
    config = EncoderConfig()
    save_encoder(tmp_path / "encoder", build_encoder(config), config, {})
    assert export_onnx(tmp_path / "encoder", tmp_path / "e.onnx") < 1e-4


def test_batch_is_dynamic(exported, make_waveform):
    session = onnxruntime.InferenceSession(exported)
    batch = np.stack([make_waveform(1.3, seed=seed) for seed in range(3)])
    together = session.run(None, {"waveform": batch})[0]
    alone = [session.run(None, {"waveform": row[None]})[0][0] for row in batch]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_file_carries_config_thresholds_and_check(exported, folder):
    backend = OnnxBackend(exported)
    assert json.loads(backend.notes["config"])["embedding_dim"] == backend.dim == 12
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
    import onnx

    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match="not an encoder"):
        load_encoder(tmp_path / "foreign.onnx")


def test_graph_of_another_version_is_refused(exported, tmp_path):
    import onnx

    model = onnx.load(exported)
    notes = {note.key: note.value for note in model.metadata_props}
    onnx.helper.set_model_props(model, notes | {"format": "speakervlad-encoder-1"})
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(InputError, match=r"old\.onnx: another version.*Export it again"):
        load_encoder(tmp_path / "old.onnx")


def test_file_as_it_is_has_one_input_and_one_output(exported, make_waveform, capfd):
    session = onnxruntime.InferenceSession(exported)
    assert [value.name for value in session.get_inputs()] == ["waveform"]
    assert [value.name for value in session.get_outputs()] == ["embedding"]
    assert session.get_overridable_initializers() == []
    waveform = make_waveform(1.0)
    (embedding,) = session.run(["embedding"], {"waveform": waveform[None]})
    np.testing.assert_allclose(embedding[0], load_encoder(exported).embed(waveform), atol=1e-6)
    assert capfd.readouterr().err == ""


def test_wrong_graph_never_appears(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("speakervlad.inference.onnx_graph.NORM_EPSILON", 0.5)
    with pytest.raises(InputError, match="away from torch"):
        export_onnx(folder, tmp_path / "e.onnx", check_seconds=(1.0,))
    assert list(tmp_path.iterdir()) == []
