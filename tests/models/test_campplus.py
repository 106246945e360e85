import pytest
import torch
import torch.nn.functional as F

from speakervlad.models.campplus import CAMPPlus, MaskedDenseLayer, segment_means


def small():
    torch.manual_seed(0)
    return CAMPPlus(40, layers=(1, 2), width=0.25).eval()


def test_parameters_of_the_paper():
    """7.18 million, with statistics pooling, 512 dimensions and no bias in the last layer."""
    with torch.device("meta"):
        trunk = CAMPPlus(80)
    count = sum(parameter.numel() for parameter in trunk.parameters()) + 2 * trunk.channels * 512
    assert trunk.channels == 512
    assert round(count / 1e6, 2) == 7.18


@pytest.mark.parametrize("num_frames", [1, 4, 5, 64, 203])
@pytest.mark.parametrize("num_bins", [40, 80, 257])
def test_shape_of_the_feature_map(num_bins, num_frames):
    trunk = CAMPPlus(num_bins, layers=(1,), width=0.25).eval()
    shape = 2, trunk.channels, 1, -(-num_frames // 2)
    assert trunk(torch.randn(2, num_bins, num_frames)).shape == shape
    assert (trunk.num_rows, trunk.frame_stride) == (1, 2)


@pytest.mark.parametrize("num_frames", [1, 99, 100, 101, 200, 250])
def test_segment_means_are_those_of_a_hundred_frames_or_the_rest(num_frames):
    frames = torch.randn(2, 3, num_frames)
    expected = [part.mean(dim=2) for part in frames.split(100, dim=2)]
    torch.testing.assert_close(segment_means(frames), torch.stack(expected, dim=2))


def test_a_layer_is_its_formula():
    torch.manual_seed(0)
    layer = MaskedDenseLayer(5, 2, dilation=2, momentum=0.5)
    layer(3 * torch.randn(8, 5, 230))
    layer.eval()
    x = torch.randn(1, 5, 230)
    hidden = layer.reduce(x)
    first, _, second, _ = layer.mask
    padded = F.pad(hidden[0], (2, 2))
    columns = []
    for frame in range(230):
        local = sum(layer.conv.weight[:, :, t] @ padded[:, frame + 2 * t] for t in range(3))
        begin = frame // 100 * 100
        context = hidden[0].mean(dim=1) + hidden[0, :, begin : begin + 100].mean(dim=1)
        inner = (first.weight[:, :, 0] @ context + first.bias).relu()
        columns.append(local * torch.sigmoid(second.weight[:, :, 0] @ inner + second.bias))
    expected = torch.cat([x[0], torch.stack(columns, dim=1)])
    torch.testing.assert_close(layer(x)[0], expected)


def test_every_frame_sees_the_whole_recording():
    trunk = small()
    spectrogram = torch.randn(1, 40, 500, requires_grad=True)
    trunk(spectrogram)[0, :, 0, 7].sum().backward()
    assert (spectrogram.grad[0].abs().sum(dim=0) > 0).all()
    assert trunk.frame_context is None


def test_a_block_halves_what_its_layers_have_added():
    trunk = small()
    halves = [layer for layer in trunk.dense if isinstance(layer, torch.nn.Conv1d)]
    sizes = [(layer.in_channels, layer.out_channels) for layer in halves]
    assert sizes == [(32 + 8, 20), (20 + 2 * 8, 18)]
    assert trunk.channels == 18
