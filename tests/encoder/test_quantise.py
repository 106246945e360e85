"""Graphs whose trunk computes in 8-bit integers."""

import json

import numpy as np
import onnx
import pytest
from torch.nn import Conv1d, Conv2d

from speakervlad.audio.examples import examples
from speakervlad.audio.spans import load_audio
from speakervlad.encoder.backends import TOLERANCES, DisagreesError
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.export import export_onnx, trace, trunk_nodes
from speakervlad.encoder.location import find_encoder
from speakervlad.encoder.network import Network
from speakervlad.encoder.runtimes import open_backend
from speakervlad.schema import Part

CONVOLUTIONS = (Conv1d, Conv2d)


@pytest.fixture(scope="module")
def folder(save_tiny_encoder, short_trunk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / "encoder"
    return save_tiny_encoder(folder, trunk=Part(short_trunk.kind, width=0.25), descriptor_dim=32)


@pytest.fixture(scope="module")
def quantised(folder, make_waveform):
    path = folder.parent / "int8.onnx"
    calibration = [make_waveform(0.5 + 0.1 * seed, seed=seed) for seed in range(8)]
    export_onnx(folder, path, check_seconds=(1.0,), calibration=calibration)
    return path


def test_trunk_has_small_integers_and_the_rest_has_not(quantised):
    constants = {one.name: one for one in onnx.load(quantised).graph.initializer}
    kinds = {one.data_type for one in constants.values() if len(one.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}
    assert constants["projection_weight_value"].data_type == onnx.TensorProto.FLOAT


def test_a_trunk_of_one_dimension_is_quantised_too(tiny_encoder):
    encoder, _ = tiny_encoder(
        trunk=Part("ecapa_tdnn", channels=8, out_channels=8, squeeze_dim=4),
        pooling=Part("attentive_statistics", attention_dim=4),
    )
    model = trace(Network(encoder), 257, "a tiny encoder")
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    layers = [encoder.trunk, encoder.descriptors]
    own = [m for layer in layers for m in layer.modules() if isinstance(m, CONVOLUTIONS)]
    quantised = convolutions & set(trunk_nodes(model))
    assert len(quantised) == len(own) == len(convolutions) - 2


def test_embeddings_stay_near_those_of_torch_but_differ(quantised, folder, make_waveform):
    ours, theirs = load_encoder(quantised), load_encoder(folder, device="cpu", backend="torch")
    for seed in range(3):
        waveform = make_waveform(1.5, seed=100 + seed)
        distance = np.linalg.norm(ours.embed(waveform) - theirs.embed(waveform))
        assert 1e-5 < distance < TOLERANCES["int8"]


def test_enrolment_computes_in_the_quantised_trunk(quantised, make_waveform):
    embedder = load_encoder(quantised)
    waveform = make_waveform(2.0)
    np.testing.assert_allclose(embedder.enrol([waveform]), embedder.embed(waveform), atol=1e-4)


def test_backend_far_from_torch_is_refused(quantised, tmp_path):
    model = onnx.load(quantised)
    notes = {one.key: one.value for one in model.metadata_props}
    notes["check"] = json.dumps((-np.array(json.loads(notes["check"]))).tolist())
    onnx.helper.set_model_props(model, notes)
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(DisagreesError, match="in int8 is 2 away"):
        open_backend(tmp_path / "wrong.onnx")


@pytest.mark.slow
def test_encoder_that_ships_takes_less_than_half_the_space(make_waveform, tmp_path):
    calibration = [make_waveform(2.0, seed=seed) for seed in range(8)]
    shipped = find_encoder("small")
    export_onnx(shipped, tmp_path / "i.onnx", check_seconds=(2.0,), calibration=calibration)
    assert (tmp_path / "i.onnx").stat().st_size < (shipped / "model.onnx").stat().st_size / 2


@pytest.mark.slow
def test_the_default_is_compared_on_speech(tmp_path):
    """In noise its ghosts take most frames, which recordings that set the ranges never do."""
    speech = [load_audio(path)[:48_000] for path in examples().values()]
    path = tmp_path / "i.onnx"
    assert 0.01 < export_onnx(find_encoder("default"), path, calibration=speech) < 0.25
    assert load_encoder(path).backend.check() < 1e-3
