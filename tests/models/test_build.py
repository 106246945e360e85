import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from speakervlad.config import EncoderConfig
from speakervlad.errors import InputError
from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.models.folder import (
    build_classifier,
    build_encoder,
    complete,
    load_encoder_folder,
    load_strictly,
    save_classifier,
    save_encoder,
)
from speakervlad.schema import Part, Range

NARROW = EncoderConfig(
    trunk=Part("thin_resnet34", width=0.125),
    descriptor_dim=16,
    pooling=Part("netvlad", num_clusters=3, num_ghosts=1),
    embedding_dim=8,
)
VARIANTS = {
    "ghostvlad": NARROW,
    "assignment on descriptors": dataclasses.replace(
        NARROW,
        pooling=Part(
            "netvlad", num_clusters=8, num_ghosts=2, assignment="descriptors", vector_norm=True
        ),
    ),
    "average of rows": dataclasses.replace(NARROW, descriptor_dim=0, pooling=Part("average")),
    "statistics on mels": dataclasses.replace(
        NARROW,
        front_end=Part("log_mel", num_mels=40, normalise="time_mean"),
        pooling=Part("statistics"),
        embedding_relu=False,
    ),
    "wide": dataclasses.replace(NARROW, trunk=Part("wide_resnet34", width=0.125)),
}


@pytest.fixture
def waveforms():
    return 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def folder(tmp_path):
    save_encoder(tmp_path / "encoder", build_encoder(NARROW), NARROW, {"step": "7"})
    return tmp_path / "encoder"


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_save_and_load_give_the_same_embeddings(config, waveforms, tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(config)
    encoder(waveforms)
    encoder.eval()

    save_encoder(tmp_path, encoder, config, {})
    loaded, loaded_config = load_encoder_folder(tmp_path)

    assert loaded_config == complete(config)
    assert not loaded.training
    assert encoder(waveforms).shape == (3, config.embedding_dim)
    assert torch.equal(loaded(waveforms), encoder(waveforms))


def test_notes_travel_in_the_weights_file(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"step": "7"}


def test_kernels_start_orthogonal_and_biases_at_zero():
    encoder = build_encoder(NARROW)
    kernels = [m for m in encoder.modules() if hasattr(m, "weight") and m.weight.dim() > 1]
    assert len(kernels) > 30
    for module in kernels:
        matrix = module.weight.detach().flatten(1)
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
        assert module.bias is None or not module.bias.any()
    centers = encoder.pooling.centers
    torch.testing.assert_close(centers @ centers.T, torch.eye(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["softmax", "am_softmax", "aam_softmax"])
def test_classifier_on_an_encoder_reaches_every_weight(kind, waveforms):
    classifier = build_classifier(Part(kind, margin=0.1), 8, 5)
    model = SpeakerClassifier(build_encoder(NARROW), classifier)
    loss = model(waveforms, torch.tensor([0, 4, 2]))
    assert 0 <= loss.accuracy <= 1
    loss.value.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_classifier_takes_its_options_from_the_config():
    config = Part("am_softmax", scale=20, margin=0.25, unit_norm="constraint")
    classifier = build_classifier(config, 8, 5)
    options = (classifier.scale, classifier.margin, classifier.unit_norm)
    assert options == (20, 0.25, "constraint")


def test_too_few_mels_name_the_front_end():
    config = dataclasses.replace(NARROW, front_end=Part("log_mel", num_mels=20))
    with pytest.raises(InputError, match=r"front_end.*20 frequency bins"):
        build_encoder(config)


def test_an_embedding_does_not_depend_on_its_batch(waveforms):
    encoder = build_encoder(NARROW).eval()
    together = encoder(waveforms)
    alone = torch.cat([encoder(waveform[None]) for waveform in waveforms])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def drop(state):
    del state["pooling.centers"], state["projection.linear.bias"]


def add(state):
    state["surplus"] = torch.zeros(1)


def whole_numbers(state):
    state["pooling.centers"] = state["pooling.centers"].int()


def reshape(state):
    state["pooling.centers"] = torch.zeros(4, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "missing pooling.centers, missing projection.linear.bias"),
        (add, "unexpected surplus"),
        (whole_numbers, "pooling.centers holds int32"),
        (reshape, r"pooling.centers is \(4, 16\), not \(3, 16\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=message):
        load_encoder_folder(folder)


def test_strict_loading_changes_nothing_when_it_fails():
    module = torch.nn.Linear(2, 2)
    before = module.weight.detach().clone()
    with pytest.raises(InputError, match="missing bias"):
        load_strictly(module, {"weight": torch.ones(2, 2)}, "x")
    assert torch.equal(module.weight, before)


def damage_truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def damage_pickle(folder):
    torch.save({"a": torch.ones(1)}, folder / "model.safetensors")


def damage_no_weights(folder):
    (folder / "model.safetensors").unlink()


def damage_no_config(folder):
    (folder / "config.json").unlink()


def damage_no_json(folder):
    (folder / "config.json").write_text("{")


def damage_binary_config(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00{")


def damage_misspelt_key(folder):
    values = json.loads((folder / "config.json").read_text())
    values["pooling"]["num_cluster"] = values["pooling"].pop("num_clusters")
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncated, "model.safetensors: is damaged"),
        (damage_pickle, "model.safetensors: is damaged"),
        (damage_no_weights, "holds no model.safetensors"),
        (damage_no_config, "holds no config.json"),
        (damage_no_json, "config.json: is no JSON"),
        (damage_binary_config, "config.json: is no JSON"),
        (damage_misspelt_key, r"unknown key pooling.num_cluster. Did you mean 'num_clusters'"),
    ],
)
def test_damaged_folders_give_one_clear_line(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder_folder(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="no such encoder folder"):
        load_encoder_folder(tmp_path / "absent")


@pytest.mark.parametrize("values", [{"num_clusters": 0}, {"num_ghosts": -1}])
def test_impossible_cluster_counts_are_refused(values):
    config = dataclasses.replace(NARROW, pooling=Part("netvlad", **values))
    with pytest.raises(InputError, match="pooling"):
        build_encoder(config)


def test_a_full_disk_is_named(tmp_path, full_disk):
    with full_disk(1000), pytest.raises(InputError, match=r"classifier\.safetensors: cannot be wr"):
        save_classifier(tmp_path, torch.zeros(1000, 4))
    assert not list(tmp_path.iterdir())


def test_a_range_may_ask_for_a_multiple():
    groups = Range(at_least=8, multiple_of=8)
    groups.check("channels", 24)
    with pytest.raises(InputError, match="channels=20: must be at least 8 and a multiple of 8"):
        groups.check("channels", 20)
