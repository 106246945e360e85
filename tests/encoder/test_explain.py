"""What explains an embedding adds up to it."""

import numpy as np
import pytest

from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.explain import (
    Explanation,
    contributions,
    explain,
    explanation_figure,
    with_noise,
)
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.errors import InputError
from speakervlad.schema import Part


@pytest.fixture(scope="module")
def embedder(tiny_encoder):
    return Encoder(TorchBackend(tiny_encoder()[0], "cpu"))


def test_an_explanation_is_the_assignment_over_time(embedder, make_waveform):
    waveform = make_waveform(1.7)
    explained = explain(embedder, waveform)
    np.testing.assert_array_equal(explained.shares, embedder.assignments(waveform))
    assert explained.num_clusters == 3
    hop, stride, *_ = embedder.backend.ends.grid
    np.testing.assert_allclose(np.diff(explained.times), hop * stride / 16000)
    assert explained.times[0] == 0
    assert 1.7 - hop * stride / 16000 <= explained.times[-1] <= 1.7
    assert explained.seconds == 1.7
    assert explained.spectrogram.shape == (257, 171)
    assert explained.spectrogram.max() == 0


def test_the_spectrogram_shows_a_tone_at_its_place(embedder):
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * np.where(time < 0.5, 1000, 4000) * time).astype(np.float32)
    loudest = explain(embedder, tone).spectrogram.argmax(axis=0) * 16000 / 512
    assert set(loudest[5:45]) == {1000}
    assert set(loudest[55:95]) == {4000}


def test_ghost_share_is_the_mean_weight_of_ghosts_in_a_span():
    shares = np.array([[0.9, 0.5, 0.1, 0.7], [0.1, 0.3, 0.3, 0.1], [0.0, 0.2, 0.6, 0.2]])
    explained = Explanation(shares, 1, np.arange(4.0), np.zeros((257, 1)), 4.0)
    assert explained.ghost_share() == pytest.approx((0.1 + 0.5 + 0.9 + 0.3) / 4)
    assert explained.ghost_share(1, 3) == pytest.approx(0.7)
    assert explained.ghost_share(1, 3, inside=False) == pytest.approx(0.2)
    assert explained.to_json()["num_ghosts"] == 2
    with pytest.raises(InputError, match="no frame lies in 7 to 9 s"):
        explained.ghost_share(7, 9)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_contributions_add_up_to_the_cosine(tiny_encoder, make_waveform, relu, mirror):
    front_end = Part("linear", mirror=mirror)
    encoder, _ = tiny_encoder(embedding_relu=relu, embedding_norm=True, front_end=front_end)
    embedder = Encoder(TorchBackend(encoder, "cpu"))
    one, other = make_waveform(1.0, 1), make_waveform(1.4, 2)
    parts = contributions(embedder, embedder.sums(one), embedder.sums(other))
    assert parts.shape == (4,)
    assert parts.sum() == pytest.approx(
        float(embedder.embed(one) @ embedder.embed(other)), abs=1e-5
    )
    swapped = contributions(embedder, embedder.sums(other), embedder.sums(one))
    np.testing.assert_allclose(swapped, parts)


SIDE_BY_SIDE = Part(
    "side_by_side",
    frames=Part("ghost_statistics"),
    descriptors=Part("netvlad", num_clusters=5, num_ghosts=1, assignment="descriptors"),
)


@pytest.mark.parametrize(
    ("pooling", "count", "ghosts"),
    [(SIDE_BY_SIDE, 5, 1), (Part("ghost_statistics", num_ghosts=3), 1, 3)],
)
def test_clusters_beside_or_of_statistics_are_explained(
    tiny_encoder, make_waveform, pooling, count, ghosts
):
    encoder, _ = tiny_encoder(pooling=pooling, embedding_relu=True)
    embedder = Encoder(TorchBackend(encoder, "cpu"))
    one, other = make_waveform(1.0, 1), make_waveform(1.4, 2)
    explained = explain(embedder, one)
    assert explained.num_clusters == count
    assert len(explained.shares) == count + ghosts
    np.testing.assert_allclose(explained.shares.sum(axis=0), 1, atol=1e-5)
    parts = contributions(embedder, embedder.sums(one), embedder.sums(other))
    assert parts.shape == (count + 1,)
    cosine = float(embedder.embed(one) @ embedder.embed(other))
    assert parts.sum() == pytest.approx(cosine, abs=1e-5)


def test_statistics_without_ghosts_have_no_clusters(tiny_encoder, make_waveform):
    encoder, _ = tiny_encoder(pooling=Part("attentive_statistics", per_channel=False))
    with pytest.raises(InputError, match="no clusters"):
        explain(Encoder(TorchBackend(encoder, "cpu")), make_waveform(1.0))


def test_a_cluster_that_reaches_no_dimension_contributes_nothing(tiny_encoder, make_waveform):
    encoder, config = tiny_encoder()
    dim = config.descriptor_dim
    encoder.projection.linear.weight.data[:, dim : 2 * dim] = 0
    embedder = Encoder(TorchBackend(encoder, "cpu"))
    sums = [embedder.sums(make_waveform(1.0, seed)) for seed in (1, 2)]
    parts = contributions(embedder, *sums)
    assert parts[1] == 0
    assert np.abs(parts[[0, 2]]).min() > 0


def test_noise_is_put_in_and_is_as_loud(make_waveform):
    waveform = make_waveform(2.0)
    longer, (begin, end) = with_noise(waveform, 0.5, at=0.25)
    assert (begin, end) == (0.25, 0.75)
    np.testing.assert_array_equal(longer[:4000], waveform[:4000])
    np.testing.assert_array_equal(longer[12000:], waveform[4000:])
    assert longer[4000:12000].std() == pytest.approx(np.sqrt(np.mean(waveform**2)), rel=0.05)
    assert with_noise(waveform, 0.5)[1] == (1.0, 1.5)
    for wrong in ({"seconds": 0}, {"seconds": 1, "at": 3.0}):
        with pytest.raises(InputError, match="must be"):
            with_noise(waveform, **wrong)


def test_what_is_not_explained(tiny_encoder, embedder, make_waveform):
    encoder, _ = tiny_encoder(pooling=Part("average"))
    averaging = Encoder(TorchBackend(encoder, "cpu"))
    with pytest.raises(InputError, match="no clusters: its pooling is not a VLAD layer"):
        explain(averaging, make_waveform(1.0))
    with pytest.raises(InputError, match=r"601 s of audio: at most 600 s"):
        explain(embedder, np.resize(make_waveform(1.0), 601 * 16000))


def test_the_picture_has_a_band_for_every_cluster_and_ghost(embedder, make_waveform):
    pytest.importorskip("matplotlib")
    explained = explain(embedder, make_waveform(1.0))
    figure = explanation_figure([("a", explained), ("b", explained)], np.ones(4), [(0.2, 0.4)])
    bands = figure.axes[1].collections
    assert [band.get_label() for band in bands] == [
        "cluster 1", "cluster 2", "cluster 3", "ghost 1"
    ]  # fmt: skip
    assert len({tuple(band.get_facecolor()[0]) for band in bands}) == 4
    assert len(figure.axes) == 5
    assert len(figure.axes[4].patches) == 4
