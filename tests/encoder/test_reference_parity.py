"""The converted models against what the original code computed from the same weights."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

VARIANTS = (
    "gvlad_k8_g2_b512",
    "vlad_k8_b512",
    "gvlad_k12_g3_b256",
    "avg_b512",
    "resnet34l_gvlad_k8_g2_b512",
)
# The others are slow: they differ from the released model in sizes and pooling.
RELEASED = VARIANTS[0]
INPUTS = ("short_even", "short_odd", "cut120", "x_3", "x_2", "z_1", "cat1040", "cut250", "cut401")
EXAMINED = ("short_odd", "short_even", "cut120", "x_3")


def of_variants(inputs):
    """Pairs of variant and input, of which the fast tests take some."""
    return [
        pytest.param(
            variant,
            name,
            marks=() if variant == RELEASED else pytest.mark.slow,
        )
        for variant in VARIANTS
        for name in inputs
    ]


def embed(encoder, waveform):
    with torch.inference_mode():
        return encoder(waveform)[0].double().numpy()


def assert_same_direction(ours, theirs):
    ours, theirs = ours / np.linalg.norm(ours), theirs.astype(np.float64).reshape(-1)
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) <= 1e-4
    assert ours @ theirs / np.linalg.norm(theirs) >= 0.999999


def assert_same_signs(ours, theirs):
    """The original's average mode divides every ``fc6`` output by itself: 1 where positive."""
    np.testing.assert_allclose((ours > 0).astype(float), theirs.reshape(-1), atol=1e-6)


def assert_same_embedding(variant, ours, theirs):
    (assert_same_signs if variant == "avg_b512" else assert_same_direction)(ours, theirs)


@pytest.mark.parametrize(("variant", "name"), of_variants(INPUTS))
def test_embeddings(shared_reference, reference_encoder, reference_waveform, variant, name):
    theirs = np.load(shared_reference / f"embeddings/{variant}.npz")[f"emb_{name}"]
    ours = embed(reference_encoder(variant), reference_waveform(name))
    assert_same_embedding(variant, ours, theirs)


@pytest.mark.parametrize(
    "variant",
    [RELEASED, *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS[1:])],
)
def test_embeddings_and_scores_of_four_persons(
    shared_reference, reference_encoder, reference_waveform, variant
):
    theirs = np.load(shared_reference / f"embeddings/{variant}.npz")
    encoder = reference_encoder(variant)
    vectors = []
    for name, vector in zip(theirs["names_4persons"], theirs["emb_4persons"], strict=True):
        stem = name.decode().rpartition("/")[2].removesuffix(".wav")
        vectors.append(embed(encoder, reference_waveform(f"4persons/{stem}")))
        assert_same_embedding(variant, vectors[-1], vector)
    if variant != "avg_b512":
        matrix = np.stack(vectors)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        np.testing.assert_allclose(matrix @ matrix.T, theirs["scores_4persons"], atol=1e-5)


def activations(encoder, waveform):
    """Every intermediate under its Keras name, as (freq, time, channel) or (dim,)."""
    found = {}

    def keep(name, function=lambda x: x):
        def hook(_module, _inputs, output):
            found[name] = function(output)

        return hook

    trunk = encoder.trunk
    hooked = {
        "conv1": trunk.stem,
        "conv1_bn": trunk.stem_norm,
        "mpool2": trunk,
        "x_fc": encoder.descriptors,
        "fc6": encoder.projection,
        "pool": encoder.pooling,
        "embedding": encoder,
    }
    for number, stage in enumerate(trunk.stages):
        hooked |= {f"conv{number + 2}_{'abc'[i]}": block for i, block in enumerate(stage)}
    if hasattr(encoder.pooling, "assignment"):
        hooked["center_assignment"] = encoder.pooling.assignment
    handles = [module.register_forward_hook(keep(name)) for name, module in hooked.items()]
    with torch.inference_mode():
        encoder(waveform)
    for handle in handles:
        handle.remove()
    found["conv1_relu"] = found["conv1_bn"].relu()
    found["pool1"] = F.max_pool2d(found["conv1_relu"], 2)
    found["embedding"] = F.normalize(found["embedding"])
    return {name: as_keras(value[0]) for name, value in found.items()}


def as_keras(value):
    if value.dim() == 2:
        value = value[:, None]
    return value.permute(1, 2, 0).numpy() if value.dim() == 3 else value.numpy()


OUR_NAME = {
    "gvlad_center_assignment": "center_assignment",
    "vlad_center_assignment": "center_assignment",
    "gvlad_pool": "pool",
    "vlad_pool": "pool",
    "avg_pool": "pool",
    "reshape_1": "pool",
}


@pytest.mark.parametrize(("variant", "name"), of_variants(EXAMINED))
def test_intermediates(shared_reference, reference_encoder, reference_waveform, variant, name):
    theirs = np.load(shared_reference / f"activations/{variant}__{name}.npz")
    ours = activations(reference_encoder(variant), reference_waveform(name))
    for key in theirs.files:
        layer, _, form = key.partition("__")
        if variant == "avg_b512" and layer == "embedding":
            continue
        value, expected = ours[OUR_NAME.get(layer, layer)], theirs[key]
        if form == "shape":
            assert value.shape == tuple(expected), key
        elif form == "meansq":
            assert np.mean(value.astype(np.float64) ** 2) == pytest.approx(expected, rel=1e-3), key
        else:
            close_to(thinned(value, layer, form), expected, key)


def thinned(value, layer, form):
    if not form:
        return value
    step = int(re.fullmatch(r"s(\d+)", form)[1])
    return value[:, ::step] if layer == "mpool2" else value[::step, ::step]


def close_to(value, expected, key):
    expected = expected.squeeze(0) if expected.ndim == 2 else expected
    assert value.shape == expected.shape, key
    assert np.abs(value - expected).max() <= 1e-3 * np.abs(expected).max(), key
    assert np.linalg.norm(value - expected) <= 1e-3 * np.linalg.norm(expected), key
