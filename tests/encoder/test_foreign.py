"""Encoders of other toolkits give their own embeddings, wherever an encoder is taken."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from speakervlad import Recording, Windows, load_encoder
from speakervlad.encoder.backends import probe_waveform
from speakervlad.encoder.foreign import ADOPTED_NAME
from speakervlad.errors import InputError

LAYOUTS = {
    "wespeaker": (("feats", "embs"), {"scale": 32768.0, "window": "hamming"}),
    "3d-speaker": (("feature", "embedding"), {"scale": 1.0, "window": "povey"}),
}


@pytest.fixture(scope="module")
def network(others):
    return others.Residual().eval()


@pytest.fixture(scope="module", params=LAYOUTS)
def exported(others, request, network, tmp_path_factory):
    """An encoder of a layout, and what computes its original: samples to a unit vector."""
    names, features = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp("foreign")
    path = others.export_like(network, folder / "e.onnx", names)

    def original(samples):
        with torch.no_grad():
            vector = network(others.kaldi_features(samples, **features)[None])[0].numpy()
        return vector / np.linalg.norm(vector)

    return path, original


@pytest.fixture
def wespeaker(others, network, tmp_path):
    return others.export_like(network, tmp_path / "e.onnx")


@pytest.mark.parametrize("seconds", [0.4, 1.0, 3.21, 25.0])
def test_embeddings_are_the_original_ones(exported, seconds):
    path, original = exported
    samples = probe_waveform(seconds)
    found = load_encoder(path).embed(samples)
    assert np.abs(found - original(samples)).max() < 1e-4
    assert abs(np.linalg.norm(found) - 1) < 1e-5


@pytest.mark.parametrize("framework", LAYOUTS)
def test_metadata_of_sherpa_onnx_say_what_it_takes(others, network, exported, framework, tmp_path):
    """Under names that say nothing; the layout that the names tell is the reference."""
    names, _ = LAYOUTS[framework]
    by_name = load_encoder(others.export_like(network, tmp_path / "names.onnx", names))
    metadata = others.SHERPA[framework]
    path = others.export_like(network, tmp_path / "noted.onnx", ("x", "y"), metadata)
    samples = probe_waveform(2.0)
    assert np.array_equal(load_encoder(path).embed(samples), by_name.embed(samples))


def test_a_yaml_beside_it_says_what_it_takes(others, network, tmp_path):
    pytest.importorskip("yaml")
    path = others.export_like(network, tmp_path / "net.onnx", ("x", "y"))
    with pytest.raises(InputError, match=r"net\.yaml beside it"):
        load_encoder(path)
    others.write_yaml(tmp_path / "net.yaml", {"framework": "wespeaker"})
    known = others.export_like(network, tmp_path / "known.onnx")
    samples = probe_waveform(2.0)
    assert np.array_equal(load_encoder(path).embed(samples), load_encoder(known).embed(samples))
    others.write_yaml(
        tmp_path / "net.yaml",
        {"front_end": {"kind": "kaldi_fbank", "scale": 32768.0, "window": "hamming"}},
    )
    cosine = load_encoder(path).embed(samples) @ load_encoder(known).embed(samples)
    assert cosine > 0.99999


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"framwork": "wespeaker"}, "Did you mean 'framework'"),
        ({"framework": "kaldi"}, "framework=kaldi"),
        ({"framework": "wespeaker", "piece_seconds": 0.5}, "piece_seconds=0.5"),
        ({"framework": "wespeaker", "front_end": {"windw": "povey"}}, "windw"),
        ({}, "neither a framework nor a front_end"),
        ([1], "keys framework"),
        ({"framework": "wespeaker", "front_end": {"num_mels": 64}}, "takes 80 features"),
    ],
)
def test_a_yaml_that_says_something_else_is_refused(others, network, tmp_path, values, problem):
    pytest.importorskip("yaml")
    path = others.export_like(network, tmp_path / "net.onnx", ("x", "y"))
    others.write_yaml(tmp_path / "net.yaml", values)
    with pytest.raises(InputError, match=problem):
        load_encoder(path)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"framework": "nemo"}, "'nemo'"),
        ({"sample_rate": 8000}, "8000 Hz"),
        ({"feature_normalize_type": "per_feature"}, "per_feature"),
    ],
)
def test_metadata_of_what_is_not_computed(others, network, tmp_path, changed, problem):
    metadata = others.SHERPA["wespeaker"] | changed
    path = others.export_like(network, tmp_path / "e.onnx", ("x", "y"), metadata)
    with pytest.raises(InputError, match=problem):
        load_encoder(path)


def test_long_recordings_are_the_mean_of_pieces(wespeaker):
    """Weighted by their frames; a rest of less than two seconds belongs to the last piece."""
    encoder = load_encoder(wespeaker)
    samples = probe_waveform(130.0)
    cut = 60 * 16000
    parts = [samples[:cut], samples[cut : 2 * cut], samples[2 * cut :]]
    counts = [encoder.backend.ends.front_end.num_frames(len(part)) for part in parts]
    mean = sum(
        count * encoder.embed(part).astype(float) for count, part in zip(counts, parts, strict=True)
    )
    assert np.abs(encoder.embed(samples) - mean / np.linalg.norm(mean)).max() < 1e-6


def test_windows_enrolment_and_streams_of_many(wespeaker):
    encoder = load_encoder(wespeaker)
    samples = probe_waveform(3.0)
    windows = encoder.embed_windows(samples, Windows(1.0, 1.0))
    assert np.allclose(windows.vectors[1], encoder.embed(samples[16000:32000]), atol=1e-5)
    one = encoder.enrol([samples])
    assert np.allclose(one, encoder.embed(samples), atol=1e-6)
    many = encoder.embed_files([Recording(samples)] * 5)
    assert np.allclose(many, one, atol=1e-5)


def test_what_needs_frames_says_so(wespeaker):
    encoder = load_encoder(wespeaker)
    samples = probe_waveform(1.0)
    for call in (encoder.sums, encoder.assignments):
        with pytest.raises(InputError, match="one vector a recording, and no frames"):
            call(samples)
    vector, shares = encoder.embed_and_assign(samples)
    assert shares is None
    assert np.allclose(vector, encoder.embed(samples), atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_other_runtimes_are_refused(wespeaker, backend):
    with pytest.raises(InputError, match=f"onnxruntime, not on {backend}"):
        load_encoder(wespeaker, backend=backend)


def test_fingerprints_tell_networks_and_features_apart(others, network, tmp_path):
    paths = [
        others.export_like(network, tmp_path / "a.onnx", ("x", "y"), others.SHERPA["wespeaker"]),
        others.export_like(network, tmp_path / "b.onnx", ("x", "y"), others.SHERPA["3d-speaker"]),
        others.export_like(others.Residual(seed=1), tmp_path / "c.onnx"),
    ]
    found = {load_encoder(path).fingerprint for path in paths}
    assert len(found) == 3
    assert load_encoder(paths[0]).fingerprint in found


def simple(path, inputs, nodes=None, output=("embs", [1, 4])):
    """A file whose network sums over time, with inputs of the given shapes."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs]
    out = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])
    nodes = nodes or [helper.make_node("GlobalAveragePool", [inputs[0][0]], [output[0]])]
    graph = helper.make_graph(nodes, "g", values, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def test_graphs_that_are_no_such_encoder(tmp_path):
    cases = {
        "2 inputs": simple(tmp_path / "two.onnx", [("a", [1, "T", 80]), ("length", [1])]),
        "not float features": simple(tmp_path / "wave.onnx", [("feats", [1, "N"])]),
        "exactly 200 frames": simple(tmp_path / "fixed.onnx", [("feats", [1, 200, 80])]),
        "not one vector": simple(
            tmp_path / "frames.onnx",
            [("feats", ["B", "T", 80])],
            [helper.make_node("Identity", ["feats"], ["embs"])],
            ("embs", ["B", "T", 80]),
        ),
    }
    for problem, path in cases.items():
        with pytest.raises(InputError, match=problem):
            load_encoder(path)
    (tmp_path / "none.onnx").write_bytes(b"no model at all")
    with pytest.raises(InputError, match=r"none\.onnx"):
        load_encoder(tmp_path / "none.onnx")


def test_hostile_graphs_are_refused(wespeaker):
    model = onnx.load(str(wespeaker))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    wespeaker.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="data in another file"):
        load_encoder(wespeaker)


def test_the_speakerlab_network(others, tmp_path):
    """3D-Speaker's own CAM++, exported as its script does, with random weights."""
    pytest.importorskip("speakerlab", reason="needs the package speakerlab (3D-Speaker)")
    from speakerlab.models.campplus.DTDNN import CAMPPlus

    torch.manual_seed(0)
    network = CAMPPlus(feat_dim=80, embedding_size=192).eval()
    path = others.export_like(network, tmp_path / "campplus.onnx", ("feature", "embedding"))
    encoder = load_encoder(path)
    for seconds in (1.0, 4.3):
        samples = probe_waveform(seconds)
        features = others.kaldi_features(samples, scale=1.0, window="povey")
        with torch.no_grad():
            vector = network(features[None])[0].numpy()
        assert encoder.embed(samples) @ vector / np.linalg.norm(vector) > 1 - 1e-5


def test_adopted_json_that_is_damaged(wespeaker, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(wespeaker.read_bytes())
    for text in ("{", "[]", json.dumps({"front_end": {}, "framework": "x"})):
        (folder / ADOPTED_NAME).write_text(text)
        with pytest.raises(InputError, match=ADOPTED_NAME):
            load_encoder(folder)
