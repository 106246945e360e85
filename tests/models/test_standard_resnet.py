import pytest
import torch

from speakervlad.models.resnets import StandardResNet34


def test_parameters_of_the_trunk():
    """Basic blocks of 32 to 256 channels, counted by hand."""
    with torch.device("meta"):
        trunk = StandardResNet34(80)

    def block(inside, out):
        shortcut = inside * out + 2 * out if inside != out else 0
        return 9 * inside * out + 9 * out * out + 4 * out + shortcut

    expected = 9 * 32 + 2 * 32 + 3 * block(32, 32)
    for inside, out, count in ((32, 64, 4), (64, 128, 6), (128, 256, 3)):
        expected += block(inside, out) + (count - 1) * block(out, out)
    assert sum(p.numel() for p in trunk.parameters()) == expected


@pytest.mark.parametrize("num_bins", [40, 80, 257])
def test_shape_of_the_feature_map(num_bins):
    trunk = StandardResNet34(num_bins, width=0.25).eval()
    with torch.no_grad():
        feature_map = trunk(torch.randn(2, num_bins, 64))
    assert feature_map.shape == (2, trunk.channels, trunk.num_rows, 64 // trunk.frame_stride)
    assert trunk.frame_stride == 8


def test_a_frame_sees_its_context_and_no_further():
    trunk = StandardResNet34(16, width=0.25).eval()
    frames = 3 * trunk.frame_context // 8 * 8
    spectrogram = torch.randn(1, 16, frames, requires_grad=True)
    place = frames // 16
    trunk(spectrogram)[0, :, :, place].sum().backward()
    seen = torch.nonzero(spectrogram.grad[0].abs().sum(dim=0)).flatten() - 8 * place
    assert -trunk.frame_context <= seen.min() < -trunk.frame_context + 8
    assert trunk.frame_context - 8 < seen.max() <= trunk.frame_context
