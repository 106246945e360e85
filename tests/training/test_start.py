"""``init_projection``: another pooling layer, and at the first step the very same encoder."""

import pytest
import torch
import torch.nn.functional as F

from speakervlad.errors import InputError
from speakervlad.models.folder import save_encoder
from speakervlad.training.run import check_config
from speakervlad.training.start import build_model

SOURCE = (
    "encoder.pooling.kind=statistics",
    "encoder.pooling.unbiased=true",
    "encoder.trunk={kind: campplus, layers: [1, 2], width: 0.25}",
    "encoder.descriptor_dim=0",
    "encoder.embedding_norm=true",
    "train.seed=5",
)
BOTH = (
    "encoder.descriptor_dim=12",
    "encoder.pooling={kind: side_by_side, "
    "frames: {kind: ghost_statistics, num_ghosts: 1, unbiased: true}, "
    "descriptors: {kind: netvlad, num_clusters: 3, num_ghosts: 1, assignment: descriptors}}",
)
POOLINGS = {
    "statistics": (),
    "ghosts": ("encoder.pooling={kind: ghost_statistics, unbiased: true}",),
    "attention": ("encoder.pooling={kind: attentive_statistics, unbiased: true}",),
    "beside VLAD": BOTH,
}


@pytest.fixture
def variant(experiment):
    """``variant(...)``: the source's config, with overrides in place of its own."""

    def make(*changes):
        keys = {change.partition("=")[0] for change in changes}
        kept = [one for one in SOURCE if not any(one.startswith((f"{k}=", f"{k}.")) for k in keys)]
        return experiment(*kept, *changes)

    return make


@pytest.fixture
def source(variant, tmp_path):
    """The folder of an encoder with statistics, and the encoder."""
    config = variant()
    encoder = build_model(config, num_speakers=4).encoder
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(encoder.projection.linear.bias)
    save_encoder(tmp_path / "source", encoder, config.encoder, {})
    return tmp_path / "source", encoder.eval()


@pytest.mark.parametrize("changes", POOLINGS.values(), ids=POOLINGS)
def test_the_first_step_is_the_other_encoder(variant, source, changes, make_waveform):
    folder, other = source
    config = variant(f"init_from={folder}", "init_projection=true", *changes)
    encoder = build_model(check_config(config, 1), num_speakers=4).encoder
    assert encoder.training
    waveforms = torch.from_numpy(make_waveform(1.3))[None]
    with torch.inference_mode():
        ours, theirs = (F.normalize(one.eval()(waveforms)) for one in (encoder, other))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    columns = other.projection.linear.in_features
    assert not encoder.projection.linear.weight[:, columns:].any()


def test_what_the_layers_have_learnt_is_taken_where_they_are_the_same(variant, source, tmp_path):
    folder, _ = source
    first = variant(f"init_from={folder}", "init_projection=true", *POOLINGS["ghosts"])
    encoder = build_model(first, num_speakers=4).encoder
    torch.nn.init.normal_(encoder.pooling.assignment.weight)
    save_encoder(tmp_path / "ghosts", encoder, first.encoder, {})
    begin = (f"init_from={tmp_path / 'ghosts'}", "init_projection=true")
    both = build_model(variant(*begin, *BOTH), num_speakers=4).encoder
    learnt = encoder.pooling.assignment.weight
    assert torch.equal(both.pooling.of_frames.assignment.weight, learnt)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            ("encoder.pooling.unbiased=false",),
            r"would not start as that one \(unit vectors .* apart",
        ),
        (
            ("encoder.pooling={kind: average}",),
            r"36 to 16 numbers, does not fit into one of 18 to 16",
        ),
        (("encoder.embedding_dim=8",), "embedding_dim, embedding_relu and embedding_norm must be"),
        (("encoder.embedding_norm=false",), "must be those of its config"),
        (("encoder.trunk.layers=[1, 1]",), "trunk: does not fit its config"),
        (("encoder.front_end.num_mels=48",), "needs its front end"),
    ],
)
def test_what_cannot_start_as_the_other_is_refused(variant, source, changes, words):
    folder, _ = source
    config = variant(f"init_from={folder}", "init_projection=true", *changes)
    with pytest.raises(InputError, match=words) as refused:
        build_model(config, num_speakers=4)
    assert str(refused.value).startswith(str(folder))
    assert "\n" not in str(refused.value)


def test_a_projection_is_that_of_an_encoder(experiment):
    with pytest.raises(InputError, match="init_projection needs init_from"):
        check_config(experiment("init_projection=true"), world_size=1)
