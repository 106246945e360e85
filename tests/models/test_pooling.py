import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speakervlad.models.pooling import (
    EVEN_BIAS,
    POOLINGS,
    ActionVLAD,
    AttentiveStatisticsPooling,
    GhostStatisticsPooling,
    GhostVLAD,
    GlobalAveragePooling,
    NetVLAD,
    SideBySide,
    StatisticsPooling,
    SuperVLAD,
)
from speakervlad.models.sums import PoolingSums
from speakervlad.schema import Part


def naive_vlad(layer, frames, guide=None):
    """V_k = sum_i a_k(x_i) (x_i - c_k), one element at a time, before any normalisation."""
    weight = layer.assignment.weight.detach().double()[:, :, 0]
    bias = layer.assignment.bias.detach().double()
    centers = layer.centers.detach().double()
    frames = frames.double().flatten(2)
    guide = frames if guide is None else guide.double().flatten(2)
    sums = torch.zeros(len(frames), *centers.shape, dtype=torch.float64)
    for n in range(len(frames)):
        for i in range(frames.shape[2]):
            exponents = torch.exp(weight @ guide[n, :, i] + bias)
            for k in range(len(centers)):
                share = exponents[k] / exponents.sum()
                sums[n, k] += share * (frames[n, :, i] - centers[k])
    return sums


def vlad(dim=6, **options):
    torch.manual_seed(0)
    layer = NetVLAD(dim, **({"num_clusters": 4} | options))
    torch.nn.init.normal_(layer.assignment.bias)
    return layer


@pytest.mark.parametrize("num_ghosts", [0, 1, 3])
@pytest.mark.parametrize("guide_dim", [None, 10])
def test_netvlad_is_the_double_sum(num_ghosts, guide_dim):
    layer = vlad(num_ghosts=num_ghosts, guide_dim=guide_dim).double()
    frames = torch.randn(3, 6, 11).double()
    guide = None if guide_dim is None else torch.randn(3, guide_dim, 11).double()

    expected = naive_vlad(layer, frames, guide)

    torch.testing.assert_close(layer.residual_sums(frames, guide), expected)
    intra = (expected / expected.norm(dim=-1, keepdim=True)).flatten(1)
    torch.testing.assert_close(layer(frames, guide), intra)


@pytest.mark.parametrize("intra_norm", [False, True])
@pytest.mark.parametrize("vector_norm", [False, True])
def test_normalisations_are_optional(intra_norm, vector_norm):
    layer = vlad(num_ghosts=1, intra_norm=intra_norm, vector_norm=vector_norm)
    frames = torch.randn(2, 6, 9)

    pooled = layer(frames).unflatten(1, (4, 6))

    squares = pooled.square().sum(dim=-1)
    if intra_norm:
        torch.testing.assert_close(squares / squares.mean(), torch.ones(2, 4))
    if vector_norm:
        torch.testing.assert_close(squares.sum(dim=1), torch.ones(2))
    if not intra_norm and not vector_norm:
        torch.testing.assert_close(pooled, layer.residual_sums(frames))


@pytest.mark.parametrize("kind", sorted(POOLINGS))
def test_order_of_frames_does_not_matter(kind):
    layer = vlad(num_ghosts=2) if kind == "netvlad" else POOLINGS[kind](6)
    frames = torch.randn(2, 6, 13)
    shuffled = frames[:, :, torch.randperm(13)]
    torch.testing.assert_close(layer(frames), layer(shuffled), atol=1e-6, rtol=1e-5)


def test_one_cluster_without_ghosts_is_the_centred_sum():
    layer = vlad(num_clusters=1)
    frames = torch.randn(2, 6, 7)
    expected = frames.sum(dim=2) - 7 * layer.centers[0]
    torch.testing.assert_close(layer.residual_sums(frames)[:, 0], expected)
    torch.testing.assert_close(layer(frames), F.normalize(expected))


def test_no_ghosts_is_plain_netvlad_and_far_ghosts_change_nothing():
    ghosted, plain = vlad(num_ghosts=2), vlad()
    plain.assignment.weight.data = ghosted.assignment.weight.data[:4].clone()
    plain.assignment.bias.data = ghosted.assignment.bias.data[:4].clone()
    plain.centers.data = ghosted.centers.data.clone()
    frames = torch.randn(2, 6, 9)
    assert not torch.allclose(ghosted(frames), plain(frames), atol=1e-3)
    ghosted.assignment.bias.data[4:] = -200
    torch.testing.assert_close(ghosted(frames), plain(frames))


def test_ghosts_take_weight_but_reach_no_output():
    layer = vlad(num_ghosts=2)
    frames = torch.randn(2, 6, 9)
    weights = layer.assign(frames)
    assert weights.shape == (2, 6, 9)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 9))
    assert layer(frames).shape == (2, 4 * 6)
    assert layer.centers.shape == (4, 6)
    layer.assignment.bias.data[4:] = 200
    assert layer.residual_sums(frames).abs().max() < 1e-6
    assert torch.isfinite(layer(frames)).all()


@pytest.mark.parametrize(
    ("kind", "clusters", "ghosts"),
    [
        ("supervlad", 4, 1),
        ("one_cluster_vlad", 1, 2),
    ],
)
def test_vlad_without_centres_is_the_double_sum(kind, clusters, ghosts):
    torch.manual_seed(0)
    layer = POOLINGS[kind](6).double()
    torch.nn.init.normal_(layer.assignment.bias)
    frames = torch.randn(2, 6, 11).double()
    weight, bias = layer.assignment.weight[:, :, 0], layer.assignment.bias
    assert len(bias) == clusters + ghosts
    for recording, pooled in zip(frames, layer(frames), strict=True):
        sums = torch.zeros(clusters, 6, dtype=torch.float64)
        for frame in recording.T:
            exponents = torch.exp(weight @ frame + bias)
            for k in range(clusters):
                sums[k] += exponents[k] / exponents.sum() * frame
        unit = (sums / sums.norm(dim=1, keepdim=True)).flatten()
        torch.testing.assert_close(pooled, unit / unit.norm())


def test_supervlad_is_netvlad_with_centres_of_zero():
    torch.manual_seed(0)
    layer = SuperVLAD(6, num_clusters=3, num_ghosts=2)
    netvlad = NetVLAD(6, num_clusters=3, num_ghosts=2, vector_norm=True)
    netvlad.load_state_dict({**layer.state_dict(), "centers": torch.zeros(3, 6)})
    frames = torch.randn(2, 6, 20)
    torch.testing.assert_close(layer(frames), netvlad(frames))


@pytest.mark.parametrize("guide_dim", [None, 5])
def test_gradients_equal_finite_differences(guide_dim):
    layer = vlad(3, num_clusters=2, num_ghosts=1, guide_dim=guide_dim, vector_norm=True).double()
    frames = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    guide = None
    if guide_dim is not None:
        guide = torch.randn(2, guide_dim, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(frames, guide, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, values, (frames, guide))

    assert torch.autograd.gradcheck(run, (frames, guide, *layer.parameters()))


def test_half_precision_input_is_pooled_in_float32():
    layer = vlad(num_ghosts=1)
    frames = torch.randn(2, 6, 50)
    half = frames.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = layer(half)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, layer(half.float()))


@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("kind", sorted(POOLINGS))
def test_any_number_of_position_axes(kind, shape):
    """Time; width x height (an image); time x width x height (ActionVLAD)."""
    layer = vlad(num_ghosts=1) if kind == "netvlad" else POOLINGS[kind](6)
    frames = torch.randn(2, 6, 12)
    torch.testing.assert_close(layer(frames.unflatten(2, shape)), layer(frames))


def test_netvlad_of_the_paper_on_a_vgg_feature_map():
    """The 3 x 3 x 512 map of an image: batch x (K * D), both normalisations, beside its mean."""
    torch.manual_seed(1)
    layer = NetVLAD(512, num_clusters=16, vector_norm=True)
    feature_map = F.normalize(torch.randn(2, 512, 3, 3).relu())

    expected = naive_vlad(layer, feature_map)
    expected = (expected / expected.norm(dim=-1, keepdim=True)).flatten(1)
    expected = expected / expected.norm(dim=-1, keepdim=True)

    vector = layer(feature_map)
    assert vector.shape == (2, 16 * 512)
    torch.testing.assert_close(vector.double(), expected, atol=1e-6, rtol=1e-4)
    average = GlobalAveragePooling(512)(feature_map)
    torch.testing.assert_close(average, F.adaptive_avg_pool2d(feature_map, 1).flatten(1))


def test_ghostvlad_is_netvlad_with_ghosts():
    torch.manual_seed(0)
    ghostvlad = GhostVLAD(6, num_clusters=3, num_ghosts=2, vector_norm=True)
    netvlad = NetVLAD(6, num_clusters=3, num_ghosts=2, vector_norm=True)
    netvlad.load_state_dict(ghostvlad.state_dict())
    frames = torch.randn(2, 6, 20)
    assert torch.equal(ghostvlad(frames), netvlad(frames))


def test_actionvlad_is_the_sum_over_time_and_space():
    """V_k = sum_t sum_i a_k(x_it) (x_it - c_k), one frame of the clip after another."""
    torch.manual_seed(0)
    layer = ActionVLAD(6, num_clusters=4, vector_norm=True).double()
    clips = torch.randn(2, 6, 5, 3, 4).double()
    sums = sum(naive_vlad(layer, clips[:, :, t]) for t in range(5))
    expected = F.normalize(F.normalize(sums, dim=2).flatten(1))
    torch.testing.assert_close(layer(clips), expected)
    later = clips.flip(2)
    torch.testing.assert_close(layer(later), expected)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (
            NetVLAD(6),
            (2, 5, 9),
            r"NetVLAD: frames of shape \(2, 5, 9\); expected \(batch, 6, \.\.\.\)",
        ),
        (GhostVLAD(6), (2, 6, 0), r"GhostVLAD: frames of shape \(2, 6, 0\).*at least one position"),
        (GlobalAveragePooling(6), (2, 6, 3, 0), r"shape \(2, 6, 3, 0\).*at least one position"),
        (SuperVLAD(6), (2, 6), r"SuperVLAD: frames of shape \(2, 6\)"),
        (ActionVLAD(6), (2, 6, 0, 3, 3), r"shape \(2, 6, 0, 3, 3\).*at least one position"),
        (ActionVLAD(6), (2, 6, 3, 3), r"shape \(2, 6, 3, 3\).*\(batch, 6, time, height, width\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(layer, shape, words):
    with pytest.raises(ValueError, match=words):
        layer(torch.zeros(shape))


def test_statistics_are_mean_and_population_deviation():
    frames = torch.randn(3, 6, 20)
    pooled = StatisticsPooling(6)(frames).numpy()
    np.testing.assert_allclose(pooled[:, :6], frames.numpy().mean(axis=2), atol=1e-6)
    np.testing.assert_allclose(pooled[:, 6:], frames.numpy().std(axis=2), rtol=1e-5)


def test_statistics_of_constant_frames_have_a_finite_gradient():
    frames = torch.ones(1, 2, 5, requires_grad=True)
    StatisticsPooling(2)(frames).sum().backward()
    assert torch.isfinite(frames.grad).all()


ATTENTIONS = pytest.mark.parametrize("per_channel", [True, False])
CONTEXTS = pytest.mark.parametrize("context", [True, False])


def attentive(dim=6, **options):
    """Evaluated with running statistics and scales that are not those of a start."""
    torch.manual_seed(0)
    layer = AttentiveStatisticsPooling(dim, attention_dim=5, **options)
    layer(3 * torch.randn(64, dim, 50))
    norm = layer.attention[2]
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.normal_(norm.bias)
    return layer.eval()


@ATTENTIONS
@CONTEXTS
def test_attentive_statistics_are_those_of_the_papers(per_channel, context):
    """e = V f(W x + b) + k, one frame and one dimension at a time."""
    layer = attentive(per_channel=per_channel, context=context).double()
    frames = torch.randn(2, 6, 9).double()
    reduce, _, norm, _, expand = layer.attention
    for recording, pooled in zip(frames, layer(frames), strict=True):
        around = [recording.mean(1), (recording.var(1, correction=0) + 1e-7).sqrt()]
        energies = []
        for frame in recording.T:
            seen = torch.cat([frame, *around]) if context else frame
            hidden = (reduce.weight[:, :, 0] @ seen + reduce.bias).relu()
            scaled = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
            active = (scaled * norm.weight + norm.bias).tanh()
            energies.append((expand.weight[:, :, 0] @ active + expand.bias).expand(6))
        shares = torch.stack(energies, dim=1).exp()
        shares = shares / shares.sum(dim=1, keepdim=True)
        mean = (shares * recording).sum(dim=1)
        variance = (shares * recording.square()).sum(dim=1) - mean.square()
        torch.testing.assert_close(pooled, torch.cat([mean, (variance + 1e-7).sqrt()]))


@CONTEXTS
def test_attentive_statistics_are_those_of_speechbrain(context):
    reason = "speechbrain is not installed: pip install speechbrain"
    module = pytest.importorskip("speechbrain.lobes.models.ECAPA_TDNN", reason=reason)
    theirs = module.AttentiveStatisticsPooling(6, attention_channels=5, global_context=context)
    layer = attentive(context=context)
    ours = iter(layer.state_dict().values())
    theirs.load_state_dict({name: next(ours) for name in theirs.state_dict()})
    frames = torch.randn(3, 6, 40)
    torch.testing.assert_close(layer(frames), theirs.eval()(frames)[:, :, 0], rtol=1e-4, atol=1e-5)


def test_attention_without_preference_is_plain_statistics():
    layer = attentive()
    torch.nn.init.zeros_(layer.attention[-1].weight)
    frames = torch.randn(2, 6, 30)
    torch.testing.assert_close(layer(frames), StatisticsPooling(6)(frames))


def blobs(num_blobs, dim=8, per_blob=50, spread=0.1):
    generator = torch.Generator().manual_seed(5)
    middles = 3 * torch.randn(num_blobs, dim, generator=generator)
    noise = torch.randn(num_blobs, per_blob, dim, generator=generator)
    return middles, (middles[:, None] + spread * noise).flatten(0, 1)


def test_init_from_finds_the_centres_and_the_papers_alpha():
    middles, frames = blobs(4)
    layer = NetVLAD(8, num_clusters=4)

    alpha = layer.init_from(frames)

    distances = torch.cdist(layer.centers.detach(), middles)
    assert distances.min(dim=1).values.max() < 0.1
    assert sorted(distances.argmin(dim=1).tolist()) == [0, 1, 2, 3]
    nearest = torch.cdist(frames, layer.centers.detach()).square().sort(dim=1).values
    gap = (nearest[:, 1] - nearest[:, 0]).mean().item()
    assert alpha == pytest.approx(math.log(100) / gap, rel=1e-4)
    torch.testing.assert_close(layer.assignment.weight[:, :, 0], 2 * alpha * layer.centers)
    squares = layer.centers.square().sum(dim=1)
    torch.testing.assert_close(layer.assignment.bias, -alpha * squares)


def test_init_from_gives_the_nearest_centre_a_hundred_times_the_second():
    _, frames = blobs(6, spread=1.0)
    layer = NetVLAD(8, num_clusters=6)
    layer.init_from(frames)
    weights = layer.assign(frames.T[None])[0]
    two = weights.topk(2, dim=0).values.log()
    assert (two[0] - two[1]).mean().exp().item() == pytest.approx(100, rel=0.02)
    nearest = torch.cdist(frames, layer.centers.detach()).argmin(dim=1)
    assert torch.equal(weights.argmax(dim=0), nearest)


def test_init_from_starts_ghosts_at_the_degraded_frames():
    middles, frames = blobs(5)
    clean, degraded = frames[:150], frames[150:]
    layer = NetVLAD(8, num_clusters=3, num_ghosts=2)
    layer.init_from(clean, degraded)
    weights = layer.assign(torch.stack([clean.T[:, :100], degraded.T[:, :100]]))
    ghost_share = weights[:, 3:].sum(dim=1).mean(dim=1)
    assert ghost_share[0] < 0.05
    assert ghost_share[1] > 0.95
    assert torch.cdist(layer.centers.detach(), middles[:3]).min(dim=1).values.max() < 0.1


def test_init_from_names_what_it_lacks():
    frames = torch.randn(40, 6)
    with pytest.raises(ValueError, match="assignment=descriptors"):
        vlad(guide_dim=9).init_from(frames)
    with pytest.raises(ValueError, match="ghost_frames"):
        vlad(num_ghosts=1).init_from(frames)
    with pytest.raises(ValueError, match=r"num_clusters=4: .* shape is \(3, 6\)"):
        vlad().init_from(frames[:3])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_unbiased_statistics_are_torchs(count):
    layer = StatisticsPooling(5, unbiased=True, variance_floor=1e-12)
    frames = torch.randn(3, 5, count, generator=torch.Generator().manual_seed(1))
    deviation = frames.std(dim=2) if count > 1 else torch.full((3, 5), 1e-6)
    expected = torch.cat([frames.mean(dim=2), deviation], dim=1)
    torch.testing.assert_close(layer(frames), expected, atol=1e-5, rtol=1e-5)


def test_unbiased_statistics_of_merged_recordings_count_all_frames():
    layer = StatisticsPooling(5, unbiased=True)
    frames = np.random.default_rng(0).standard_normal((5, 31)).astype(np.float32)
    empty = PoolingSums.empty(layer.finish())
    parts = [empty.add(frames[:, part]) for part in (slice(0, 4), slice(4, 5), slice(5, 31))]
    merged = parts[0].merge(parts[2]).merge(parts[1]).finish()
    expected = np.concatenate([frames.mean(axis=1), frames.std(axis=1, ddof=1)])
    np.testing.assert_allclose(merged, expected, atol=1e-6)
    np.testing.assert_array_equal(parts[1].finish()[5:], np.float32(1e-7**0.5))


def test_the_floor_of_the_variance_is_an_option():
    still = torch.ones(1, 4, 7)
    for layer_class in (StatisticsPooling, AttentiveStatisticsPooling):
        deviation = layer_class(4, variance_floor=1e-4).eval()(still)[0, 4:]
        torch.testing.assert_close(deviation, torch.full((4,), 1e-2), atol=1e-5, rtol=0)


def ghost_statistics(dim=6, **options):
    torch.manual_seed(0)
    layer = GhostStatisticsPooling(dim, **options)
    torch.nn.init.normal_(layer.assignment.bias)
    return layer


@pytest.mark.parametrize("unbiased", [False, True])
def test_ghost_statistics_are_weighted_by_what_ghosts_leave(unbiased):
    layer = ghost_statistics(num_ghosts=3, unbiased=unbiased).double()
    frames = torch.randn(2, 6, 9).double()
    weight, bias = layer.assignment.weight[:, :, 0], layer.assignment.bias
    assert len(bias) == 4
    for recording, pooled in zip(frames, layer(frames), strict=True):
        shares = torch.stack([(weight @ frame + bias).exp() for frame in recording.T])
        left = shares[:, 0] / shares.sum(dim=1)
        mean = (left * recording).sum(dim=1) / left.sum()
        variance = (left * recording.square()).sum(dim=1) / left.sum() - mean.square()
        variance = variance * 9 / 8 if unbiased else variance
        torch.testing.assert_close(pooled, torch.cat([mean, (variance + 1e-7).sqrt()]))


def test_even_ghost_statistics_are_plain_statistics():
    frames = torch.randn(2, 6, 30)
    for unbiased in (False, True):
        layer = ghost_statistics(unbiased=unbiased)
        plain = StatisticsPooling(6, unbiased=unbiased)
        assert (layer(frames) - plain(frames)).abs().max() > 0.01
        layer.weigh_evenly()
        torch.testing.assert_close(layer(frames), plain(frames))
        assert 0.5 < layer.weights(frames).exp()[:, 0].mean() < 0.9
    attentive = AttentiveStatisticsPooling(6)
    attentive.weigh_evenly()
    torch.testing.assert_close(attentive(frames), StatisticsPooling(6)(frames))


def test_ghosts_that_take_all_frames_leave_finite_statistics():
    layer = ghost_statistics()
    layer.assignment.bias.data[1:] = 500
    frames = torch.randn(2, 6, 30, requires_grad=True)
    layer(frames).sum().backward()
    assert torch.isfinite(frames.grad).all()


def test_the_unbiased_deviation_is_that_of_a_sample():
    frames = torch.randn(3, 6, 20)
    pooled = StatisticsPooling(6, unbiased=True)(frames)
    torch.testing.assert_close(pooled[:, 6:], frames.std(dim=2), rtol=1e-5, atol=1e-5)
    alone = StatisticsPooling(6, unbiased=True)(frames[:, :, :1])
    torch.testing.assert_close(alone[:, :6], frames[:, :, 0])
    assert alone[:, 6:].max() < 1e-3


def test_gradients_of_ghost_statistics_equal_finite_differences():
    layer = ghost_statistics(3, num_ghosts=2, unbiased=True).double()
    frames = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(frames, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, values, (frames,))

    assert torch.autograd.gradcheck(run, (frames, *layer.parameters()))


def test_second_order_adds_every_clusters_deviation():
    layer = vlad(num_ghosts=1, second_order=True, intra_norm=False).double()
    plain = vlad(num_ghosts=1, intra_norm=False).double()
    frames = torch.randn(2, 6, 11).double()
    pooled = layer(frames).unflatten(1, (4, 12))
    assert layer.out_dim == 48
    torch.testing.assert_close(pooled[:, :, :6].flatten(1), plain(frames))
    weights = layer.assign(frames)[:, :4]
    for recording, shares, found in zip(frames, weights, pooled[:, :, 6:], strict=True):
        for share, deviation in zip(shares, found, strict=True):
            total = share.sum()
            mean = (share * recording).sum(dim=1) / total
            variance = (share * (recording - mean[:, None]).square()).sum(dim=1) / total
            torch.testing.assert_close(deviation, total * (variance + 1e-7).sqrt())
    intra = vlad(num_ghosts=1, second_order=True)(frames.float()).unflatten(1, (4, 2, 6))
    torch.testing.assert_close(intra.norm(dim=3), torch.ones(2, 4, 2))


def test_side_by_side_is_both_vectors_one_after_the_other():
    torch.manual_seed(0)
    layer = SideBySide(
        6,
        10,
        frames=Part("ghost_statistics", num_ghosts=1),
        descriptors=Part("netvlad", num_clusters=3, num_ghosts=2, assignment="descriptors"),
    )
    frames, guide = torch.randn(2, 6, 9), torch.randn(2, 10, 9)
    expected = [layer.of_frames(guide), layer.of_descriptors(frames)]
    torch.testing.assert_close(layer(frames, guide), torch.cat(expected, dim=1))
    assert layer.guided
    assert layer.out_dim == 20 + 18
    guided = SideBySide(6, 10, descriptors=Part("netvlad"))
    pooled = guided.of_descriptors(frames, guide)
    torch.testing.assert_close(guided(frames, guide)[:, 20:], pooled)
    frames, noise = torch.randn(40, 6), torch.randn(40, 6)
    own, noisy_own = torch.randn(40, 10), torch.randn(40, 10) + 5
    layer.init_from(frames, noise, own=own, ghost_own=noisy_own)
    alone = NetVLAD(6, num_clusters=3, num_ghosts=2)
    alone.init_from(frames, noise)
    assert torch.equal(layer.of_descriptors.centers, alone.centers)
    assert shares_of_ghosts(layer.of_frames, noisy_own) > 0.4
    guided_averages = SideBySide(6, 10, frames=Part("average"), descriptors=Part("netvlad"))
    assert not guided_averages.starts_from_frames


def shares_of_ghosts(layer, frames):
    return 1 - layer.weights(frames.T[None])[0, 0].exp().mean().item()


def test_ghost_statistics_start_at_the_degraded_frames():
    _, frames = blobs(2)
    half = len(frames) // 2
    clean, degraded = frames[:half], frames[half:]
    layer = GhostStatisticsPooling(8, num_ghosts=1)
    layer.init_from(clean, degraded)
    at = torch.stack([clean.mean(dim=0), degraded.mean(dim=0)])
    real, ghost = layer.weights(at.T[None])[0]
    assert (real - ghost).tolist() == pytest.approx([2 * EVEN_BIAS, 0], abs=1e-3)
    with pytest.raises(ValueError, match="ghost_frames"):
        layer.init_from(clean)
