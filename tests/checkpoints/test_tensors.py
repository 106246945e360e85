"""Checkpoints of torch against the original pipelines, which are written naively in conftest."""

import collections
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchaudio.compliance import kaldi

from speakervlad import examples
from speakervlad.audio.spans import load_audio
from speakervlad.checkpoints.readers import READERS, convert_checkpoint
from speakervlad.cli import main
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.export import export_onnx
from speakervlad.errors import InputError
from speakervlad.models.folder import load_encoder_folder
from speakervlad.models.frontend import FRONT_ENDS, normalise


def kaldi_features(samples, scale=1.0, window="povey"):
    waveform = scale * torch.from_numpy(samples)[None]
    features = kaldi.fbank(
        waveform, num_mel_bins=80, sample_frequency=16000, dither=0.0, window_type=window
    )
    return (features - features.mean(dim=0)).T[None]


def speechbrain_features(samples):
    """What tests/models/test_front_ends.py compares with its definition and with the package."""
    front_end = FRONT_ENDS["speechbrain_fbank"]()
    return torch.from_numpy(normalise(front_end.features(samples), front_end.normalise))[None]


# Toolkit to its features, its network and what else the network takes.
ORIGINALS = {
    "3d-speaker": (kaldi_features, "campplus", {}),
    "wespeaker": (lambda x: kaldi_features(x, 32768.0, "hamming"), "campplus", {"floor": 1e-7}),
    "speechbrain": (speechbrain_features, "ecapa", {}),
}


@pytest.fixture(scope="module")
def recordings():
    """Ten of those that come with the package."""
    return [load_audio(path) for path in list(examples().values())[:10]]


@pytest.fixture(scope="module", params=ORIGINALS)
def original(request, networks, recordings, tmp_path_factory):
    """Toolkit, a checkpoint of random weights and the unit embeddings of the recordings."""
    functions, weights_class = networks
    features, name, options = ORIGINALS[request.param]
    weights = weights_class(3)
    with torch.inference_mode():
        vectors = [functions[name](weights, features(samples), **options) for samples in recordings]
    path = tmp_path_factory.mktemp("original") / "weights.ckpt"
    state = dict(weights)
    if request.param == "wespeaker":
        state["projection.weight"] = torch.randn(50, 24)
    torch.save(collections.OrderedDict(state), path)
    return request.param, path, F.normalize(torch.cat(vectors)).numpy()


def test_every_toolkit_of_torch_is_compared():
    assert set(ORIGINALS) == set(READERS) - {"keras"}


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    toolkit, path, _ = original
    folder = tmp_path_factory.mktemp("converted") / "encoder"
    convert_checkpoint([path], folder, toolkit)
    return folder


@pytest.fixture(scope="module")
def exported(folder, quick_exports):
    export_onnx(folder, folder / "model.onnx", check_seconds=(0.1,))
    return folder


def test_embeddings_equal_the_originals(original, folder, recordings):
    compare_with_the_original(original, folder, recordings, "torch")


# That runtimes compute alike is tested of the same trunks in tests/encoder/test_kinds.py.
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_embeddings_of_exports_equal_the_originals(original, exported, recordings, backend):
    pytest.importorskip(backend)
    compare_with_the_original(original, exported, recordings, backend)


def compare_with_the_original(original, folder, recordings, backend):
    encoder = load_encoder(folder, backend=backend, device="cpu")
    expected = original[2]
    # Random weights tell recordings apart, or equal vectors would say nothing.
    assert (expected @ expected[0])[1:].max() < 0.999
    for samples, vector in zip(recordings, expected, strict=True):
        np.testing.assert_allclose(encoder.embed(samples), vector, atol=1e-4)


@pytest.mark.slow
def test_the_shortest_recordings_are_embedded_alike_everywhere(exported, recordings):
    encoders = [
        load_encoder(exported, backend=name, device="cpu") for name in ("torch", "onnxruntime")
    ]
    module, _ = load_encoder_folder(exported)
    for length in (400, 512, 900):
        samples = recordings[0][8000 : 8000 + length]
        with torch.inference_mode():
            expected = F.normalize(module(torch.from_numpy(samples)[None]))[0].numpy()
        for encoder in encoders:
            np.testing.assert_allclose(encoder.embed(samples), expected, atol=1e-5)


def test_the_folder_remembers_its_source(original, folder):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as file:
        assert file.metadata() == {"converted_from": original[1].name}


def changed(path, out, change):
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, out)
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(next(iter(state))), r"is no .*: no \S+\."),
        (lambda state: state.update(extra=torch.zeros(2)), "extra has no place"),
        (
            lambda state: state.update({k: v[:-1] for k, v in list(state.items())[:1]}),
            r"is no .*(is \(|multiple)",
        ),
        (lambda state: state.update(extra=[1, 2]), r"extra is no tensor\. Name a state dict alone"),
        (lambda state: state.clear(), "holds no tensors by name"),
        (
            lambda state: state.update({k: v * torch.nan for k, v in list(state.items())[:1]}),
            "holds NaN or infinity",
        ),
    ],
)
def test_checkpoints_of_another_shape_are_one_line(original, tmp_path, change, message):
    toolkit, path, _ = original
    broken = changed(path, tmp_path / "broken.ckpt", change)
    with pytest.raises(InputError, match=rf"broken\.ckpt.*{message}") as raised:
        convert_checkpoint([broken], tmp_path / "encoder", toolkit)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "encoder").exists()


def test_another_toolkits_checkpoint_is_one_line(original, tmp_path):
    toolkit, path, _ = original
    other = "3d-speaker" if toolkit == "speechbrain" else "speechbrain"
    with pytest.raises(InputError, match=r"weights\.ckpt: is no .* \(no .*, but .*\)\."):
        convert_checkpoint([path], tmp_path / "encoder", other)


def test_wider_networks_are_refused(networks, tmp_path):
    """Growth is read from no tensor: all published CAM++ have 32."""
    functions, weights_class = networks
    weights = weights_class(0)
    functions["campplus"](weights, torch.randn(1, 80, 30))
    weights["head.conv1.weight"] = torch.randn(16, 1, 3, 3)
    torch.save(dict(weights), tmp_path / "narrow.pt")
    message = r"head\.conv1\.weight is \(16, 1, 3, 3\), not \(32, 1, 3, 3\)"
    with pytest.raises(InputError, match=message):
        convert_checkpoint([tmp_path / "narrow.pt"], tmp_path / "encoder", "3d-speaker")


def test_the_command_says_what_it_has_found(original, tmp_path, monkeypatch, capfd):
    toolkit, path, _ = original
    words = ["speakervlad", "convert", path, "--from", toolkit, "--out", tmp_path / "encoder"]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    name = "speechbrain_ecapa_tdnn, attentive_" if toolkit == "speechbrain" else "campplus, "
    assert capfd.readouterr().err == f"{name}statistics, 24 dimensions: {tmp_path / 'encoder'}\n"


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit(77)",)


def test_nothing_is_unpickled_but_tensors(tmp_path):
    torch.save({"xvector.tdnn.linear.weight": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "bomb.pt").read_bytes()[:100])
    (tmp_path / "empty.pt").touch()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "scripted.pt")
    for name in ("bomb", "plain", "cut", "empty", "scripted"):
        with pytest.raises(InputError, match=rf"{name}\.pt: is damaged, or is no file of tensors"):
            convert_checkpoint([tmp_path / f"{name}.pt"], tmp_path / "encoder", "3d-speaker")


def test_files_that_are_not_there_or_too_many(tmp_path):
    with pytest.raises(InputError, match=r"x\.pt: no such file"):
        convert_checkpoint([tmp_path / "x.pt"], tmp_path / "encoder", "3d-speaker")
    with pytest.raises(InputError, match="is a folder"):
        convert_checkpoint([tmp_path], tmp_path / "encoder", "speechbrain")
    with pytest.raises(InputError, match=r"CAM\+\+ of WeSpeaker is one file, not 2"):
        convert_checkpoint(
            [tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "encoder", "wespeaker"
        )
    with pytest.raises(InputError, match=r"Did you mean '?3d-speaker"):
        convert_checkpoint([tmp_path / "x.pt"], tmp_path / "encoder", "3d-speakers")
