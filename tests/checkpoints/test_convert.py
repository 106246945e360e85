"""Conversion without the original's files: random weights in its layout, and its model in NumPy.

``original`` is written from REFERENCE facts alone (channels last, "same" padding, names, epsilons)
and shares no code with the package.
"""

import json
import pickle

import h5py
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from speakervlad.checkpoints.hdf5 import read_layers
from speakervlad.checkpoints.keras import convert_keras
from speakervlad.errors import InputError
from speakervlad.models.folder import build_classifier, load_classifier, load_encoder_folder
from speakervlad.schema import Part

THIN = [(48, 96, 2, 1), (96, 128, 3, 2), (128, 256, 3, 2), (256, 512, 3, 2)]
WIDE = [(64, 256, 3, 1), (128, 512, 3, 2), (256, 1024, 3, 1), (512, 2048, 3, 2)]


def kernel(rng, *shape):
    return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:-1])))


def batch_norm(rng, size):
    values = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}
    return {k: (v + 0.2 * rng.uniform(-1, 1, size)).astype(np.float32) for k, v in values.items()}


def trunk_weights(rng, stages):
    layers = {"conv1_1/3x3_s1": {"kernel": kernel(rng, 7, 7, 1, 64)}}
    layers["conv1_1/3x3_s1/bn"] = batch_norm(rng, 64)
    into = 64
    for number, (inner, out, blocks, _) in enumerate(stages, start=2):
        for block in "abc"[:blocks]:
            sizes = {"1x1_reduce": (1, into, inner), "3x3": (3, inner, inner)}
            sizes["1x1_increase"] = (1, inner, out)
            if block == "a":
                sizes["1x1_proj"] = (1, into, out)
            for part, (size, m, n) in sizes.items():
                name = f"conv{number}_{block}_{part}"
                layers[name] = {"kernel": kernel(rng, size, size, m, n)}
                layers[f"{name}/bn"] = batch_norm(rng, n)
            into = out
    return layers


def head_weights(rng, aggregation, channels, clusters, ghosts, dim):
    if aggregation == "avg":
        head, rows = {"avg_pool": {}}, channels
    else:
        total, rows = clusters + ghosts, clusters * dim
        # Small, or else every frame belongs to one cluster alone.
        scores = 0.03 * kernel(rng, 7, 1, channels, total), rng.standard_normal(total, np.float32)
        head = {
            "x_fc": {"kernel": kernel(rng, 7, 1, channels, dim), "bias": np.full(dim, 0.1, "f4")},
            f"{aggregation}_center_assignment": dict(zip(("kernel", "bias"), scores, strict=True)),
            f"{aggregation}_pool": {"centers": rng.standard_normal((total, dim), np.float32)},
        }
    bias = (0.1 * rng.standard_normal(dim)).astype("f4")
    return head | {"fc6": {"kernel": kernel(rng, rows, dim), "bias": bias}, "lambda_1": {}}


def write(path, layers, root=""):
    """The layout of Keras 2: a group per layer, weight_names as attribute, nested by slashes."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root) if root else file
        top.attrs["layer_names"] = [name.encode() for name in layers]
        top.attrs["keras_version"] = b"2.2.4"
        for name, weights in layers.items():
            group = top.require_group(name)
            group.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in weights]
            for key, value in weights.items():
                group[f"{name}/{key}:0"] = value
    return path


def convolve(x, weights, stride=1, *, same):
    """(height, width, in) with a (kh, kw, in, out) kernel; "same" puts the odd zero last."""
    window = weights["kernel"].shape[:2]
    if same:
        totals = [
            max((-(-n // stride) - 1) * stride + k - n, 0)
            for n, k in zip(x.shape, window, strict=False)
        ]
        x = np.pad(x, [(total // 2, total - total // 2) for total in totals] + [(0, 0)])
    patches = sliding_window_view(x, window, axis=(0, 1))[::stride, ::stride]
    y = np.einsum("ijchw,hwco->ijo", patches, weights["kernel"], optimize=True)
    return y + weights.get("bias", np.float32(0))


def max_pool(x, window, stride):
    return sliding_window_view(x, window, axis=(0, 1))[:: stride[0], :: stride[1]].max(axis=(3, 4))


def normalise(x, w):
    return (x - w["moving_mean"]) / np.sqrt(w["moving_variance"] + 1e-3) * w["gamma"] + w["beta"]


def unit(x):
    return x / np.sqrt(np.maximum(np.sum(x**2, axis=-1, keepdims=True), 1e-12))


def spectrogram(waveform):
    mirrored = np.concatenate([waveform, waveform[::-1]])
    frames = sliding_window_view(np.pad(mirrored, 256, mode="reflect"), 512)[::160]
    window = np.pad(np.hanning(401)[:-1], 56)
    magnitudes = np.abs(np.fft.rfft(frames * window)).T
    return (magnitudes - magnitudes.mean(0)) / (magnitudes.std(0) + 1e-5)


def original(layers, stages, aggregation, clusters, waveform):
    def step(x, name, stride=1, same=False):
        return normalise(convolve(x, layers[name], stride, same=same), layers[f"{name}/bn"])

    wide = stages is WIDE
    x = spectrogram(waveform).astype(np.float32)[:, :, None]
    x = np.maximum(step(x, "conv1_1/3x3_s1", 2 if wide else 1, same=True), 0)
    x = max_pool(x, (2, 2), (2, 2))
    for number, (_, _, blocks, stride) in enumerate(stages, start=2):
        for block in "abc"[:blocks]:
            name, first = f"conv{number}_{block}_", stride if block == "a" else 1
            y = np.maximum(step(x, f"{name}1x1_reduce", first), 0)
            y = np.maximum(step(y, f"{name}3x3", same=True), 0)
            y = step(y, f"{name}1x1_increase")
            x = np.maximum(y + (step(x, f"{name}1x1_proj", first) if block == "a" else x), 0)
    x = max_pool(x, (3, 1), (2, 1))
    if aggregation == "avg":
        pooled = x.mean(axis=(0, 1))
    else:
        features = np.maximum(convolve(x, layers["x_fc"], same=False), 0)[0]
        scores = convolve(x, layers[f"{aggregation}_center_assignment"], same=False)[0]
        exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = exponents / exponents.sum(axis=-1, keepdims=True)
        assert 0.05 < shares.max(axis=-1).mean() < 0.95
        residuals = features[:, None] - layers[f"{aggregation}_pool"]["centers"]
        pooled = unit((shares[..., None] * residuals).sum(axis=0)[:clusters]).reshape(-1)
    return np.maximum(pooled @ layers["fc6"]["kernel"] + layers["fc6"]["bias"], 0)


def make_model(seed, stages, aggregation, clusters, ghosts, dim):
    rng = np.random.default_rng(seed)
    head = head_weights(rng, aggregation, stages[-1][1], clusters, ghosts, dim)
    return trunk_weights(rng, stages) | head


MODELS = {
    "thin ghostvlad": (THIN, "gvlad", 8, 2, 128),
    "thin netvlad": (THIN, "vlad", 3, 0, 64),
    "thin average": (THIN, "avg", 0, 0, 512),
    "wide ghostvlad": (WIDE, "gvlad", 4, 1, 32),
}


@pytest.mark.parametrize("num_samples", [1700, pytest.param(1823, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", MODELS)
def test_converted_models_equal_the_original_in_numpy(model, num_samples, tmp_path):
    stages, aggregation, clusters, ghosts, dim = MODELS[model]
    layers = make_model(71, *MODELS[model])
    rng = np.random.default_rng(num_samples)
    waveform = (0.1 * np.cumsum(rng.standard_normal(num_samples)) / 10).astype(np.float32)

    config = convert_keras([write(tmp_path / "w.h5", layers)], tmp_path / "encoder").config
    encoder, loaded_config = load_encoder_folder(tmp_path / "encoder")
    with torch.inference_mode():
        ours = encoder(torch.from_numpy(waveform)[None])[0].numpy()

    theirs = original(layers, stages, aggregation, clusters, waveform)
    assert theirs.std() > 0.3 * theirs.mean() > 0
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.max())
    assert loaded_config == config
    assert (config.trunk.kind == "wide_resnet34") == (stages is WIDE)
    assert config.embedding_dim == dim
    if aggregation != "avg":
        found = (config.pooling.num_clusters, config.pooling.num_ghosts, config.descriptor_dim)
        assert found == (clusters, ghosts, dim)


@pytest.fixture(scope="module")
def layers():
    return make_model(5, THIN, "gvlad", 3, 1, 16)


def test_the_folder_is_in_reference_mode(layers, tmp_path):
    convert_keras([write(tmp_path / "w.h5", layers)], tmp_path / "encoder")
    config = json.loads((tmp_path / "encoder/config.json").read_text())
    front_end = config["front_end"]
    assert (front_end["kind"], front_end["normalise"]) == ("linear", "frequency")
    assert front_end["mirror"] is True
    assert config["embedding_relu"] is True
    assert sorted(path.name for path in (tmp_path / "encoder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_full_checkpoints_keep_their_classifier(layers, tmp_path):
    prediction = np.random.default_rng(0).standard_normal((16, 40), np.float32)
    path = write(
        tmp_path / "w.h5", layers | {"prediction": {"kernel": prediction}}, "model_weights"
    )

    model = convert_keras([path], tmp_path / "encoder")

    assert model.num_classes == 40
    classifier = build_classifier(Part("am_softmax"), 16, 40)
    load_classifier(tmp_path / "encoder", classifier)
    np.testing.assert_array_equal(classifier.weight.detach().numpy(), prediction.T)
    with pytest.raises(InputError, match=r"classifier.safetensors.*\(40, 16\), not \(41, 16\)"):
        load_classifier(tmp_path / "encoder", build_classifier(Part("softmax"), 16, 41))


def test_weights_of_keras_3_are_the_same_weights(layers, tmp_path):
    with h5py.File(tmp_path / "k3.weights.h5", "w") as file:
        for number, (name, weights) in enumerate(layers.items()):
            group = file.create_group(f"layers/layer_{number}/vars")
            group.attrs["name"] = name.replace("/", "_")
            for i, value in enumerate(weights.values()):
                group[str(i)] = value
    convert_keras([tmp_path / "k3.weights.h5"], tmp_path / "encoder")
    convert_keras([write(tmp_path / "w.h5", layers)], tmp_path / "expected")
    ours, expected = (
        load_encoder_folder(tmp_path / folder)[0].state_dict() for folder in ("encoder", "expected")
    )
    assert all(torch.equal(ours[name], value) for name, value in expected.items())


def test_later_files_replace_layers_of_earlier_ones(layers, tmp_path):
    rng = np.random.default_rng(8)
    head = head_weights(rng, "vlad", 512, 5, 0, 24)
    base = write(tmp_path / "base.h5", layers)

    model = convert_keras([base, write(tmp_path / "head.h5", head)], tmp_path / "encoder")

    whole = {n: w for n, w in layers.items() if not n.startswith(("gvlad", "x_fc"))} | head
    convert_keras([write(tmp_path / "whole.h5", whole)], tmp_path / "expected")
    (ours, config), (expected, _) = (
        load_encoder_folder(tmp_path / folder) for folder in ("encoder", "expected")
    )
    assert (model.aggregation, config.pooling.num_clusters) == ("vlad", 5)
    for name, value in expected.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_a_later_file_may_bring_single_layers(layers, tmp_path):
    fc6 = {"fc6": {"kernel": layers["fc6"]["kernel"], "bias": np.full(16, 7, np.float32)}}
    paths = [write(tmp_path / "base.h5", layers), write(tmp_path / "fc6.h5", fc6)]
    model = convert_keras(paths, tmp_path / "encoder")
    encoder, _ = load_encoder_folder(tmp_path / "encoder")
    assert model.aggregation == "gvlad"
    assert torch.equal(encoder.projection.linear.bias, torch.full((16,), 7.0))


def test_all_that_is_wrong_is_named_and_nothing_is_written(layers, tmp_path):
    broken = {name: dict(weights) for name, weights in layers.items()}
    del broken["conv3_b_3x3"], broken["conv4_c_1x1_increase/bn"]["beta"]
    broken["conv9_z"] = {"kernel": np.zeros((1, 1, 2, 2), np.float32)}
    broken["x_fc"]["bias"] = np.zeros(15, np.float32)
    broken["conv2_a_3x3"]["kernel"] = np.zeros((3, 3, 48, 47), np.float32)
    broken["prediction"] = {"kernel": np.zeros((17, 5), np.float32)}
    with pytest.raises(InputError) as caught:
        convert_keras([write(tmp_path / "w.h5", broken)], tmp_path / "encoder")
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "w.h5"))
    for part in (
        "missing: conv3_b_3x3/kernel, conv4_c_1x1_increase/bn/beta;",
        "surplus: conv9_z/kernel;",
        "x_fc/bias (15,) instead of (16,)",
        "conv2_a_3x3/kernel (3, 3, 48, 47) instead of (3, 3, 48, 48)",
        "prediction/kernel (17, 5) instead of (16, 5)",
    ):
        assert part in message.replace(", x_fc", "; x_fc") + ";", part
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("layer", ["gvlad_pool", "fc6", "x_fc", "gvlad_center_assignment"])
def test_a_missing_head_layer_is_named(layers, layer, tmp_path):
    broken = layers | {layer: {}}
    with pytest.raises(InputError, match=f"missing: {layer}/"):
        convert_keras([write(tmp_path / "w.h5", broken)], tmp_path / "encoder")


def not_hdf5(path, layers):
    path.write_text("weights")


def empty(path, layers):
    path.write_bytes(b"")


def folder(path, layers):
    path.mkdir()


def absent(path, layers):
    pass


def truncated(path, layers):
    write(path, layers)
    path.write_bytes(path.read_bytes()[:100_000])


def cut_inside_the_data(path, layers):
    write(path, layers)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def another_model(path, layers):
    write(path, {"conv2d_1": {"kernel": np.zeros((3, 3, 1, 4), np.float32)}, "flatten_1": {}})


def no_keras(path, layers):
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)


def odd_keras_3(path, layers):
    with h5py.File(path, "w") as file:
        file.create_group("layers/conv2d/vars").attrs["name"] = "conv1_1_3x3_s1"
        for i in range(3):
            file[f"layers/conv2d/vars/{i}"] = np.zeros(2, np.float32)


def not_finite(path, layers):
    write(path, layers | {"fc6": {**layers["fc6"], "bias": np.full(16, np.nan, np.float32)}})


def not_numbers(path, layers):
    write(path, layers)
    with h5py.File(path, "a") as file:
        del file["fc6/fc6/bias:0"]
        file["fc6/fc6/bias:0"] = [b"a"] * 16


def without_its_dataset(path, layers):
    write(path, layers)
    with h5py.File(path, "a") as file:
        del file["fc6/fc6/bias:0"]


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def pickled(path, layers):
    path.write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_hdf5, "no HDF5 file"),
        (empty, "no HDF5 file"),
        (folder, "is a folder"),
        (absent, "no such file"),
        (truncated, "is damaged"),
        (cut_inside_the_data, "is damaged"),
        (another_model, "none of the published speaker models.*conv2d_1"),
        (no_keras, "holds no Keras weights"),
        (odd_keras_3, "is damaged"),
        (not_finite, "fc6/fc6/bias:0 holds NaN"),
        (not_numbers, "fc6/fc6/bias:0 is no array of weights"),
        (without_its_dataset, "is damaged"),
        (pickled, "no HDF5 file"),
    ],
)
def test_bad_files_give_one_clear_line(make, message, layers, tmp_path):
    path = tmp_path / "weights.h5"
    make(path, layers)
    with pytest.raises(InputError, match=message) as caught:
        convert_keras([path], tmp_path / "encoder")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("way", ["external dataset", "external link", "soft link", "virtual"])
def test_weights_of_another_file_are_not_read(tmp_path, way):
    """A published encoder must not carry bytes of a private file."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(49 * 64, dtype=np.float32).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["k"] = np.zeros((7, 7, 1, 64), np.float32)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1_1/3x3_s1"]
        group = file.create_group("conv1_1/3x3_s1")
        group.attrs["weight_names"] = [b"kernel:0"]
        shape = (7, 7, 1, 64)
        if way == "external dataset":
            group.create_dataset("kernel:0", shape, "f4", external=[(str(secret), 0, 12544)])
        elif way == "external link":
            group["kernel:0"] = h5py.ExternalLink("other.h5", "/k")
        elif way == "soft link":
            file["elsewhere"] = np.zeros(shape, np.float32)
            group["kernel:0"] = h5py.SoftLink("/elsewhere")
        else:
            layout = h5py.VirtualLayout(shape, "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "k", shape)
            group.create_virtual_dataset("kernel:0", layout)
    with pytest.raises(InputError, match=r"w\.h5: .*(another file|is a link)"):
        read_layers(tmp_path / "w.h5")
