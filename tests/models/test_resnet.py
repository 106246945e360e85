import math

import pytest
import torch
import torch.nn.functional as F

from speakervlad.models.trunks import TRUNKS

ThinResNet34, WideResNet34 = TRUNKS["thin_resnet34"], TRUNKS["wide_resnet34"]

# channels, frequency rows, and frames as a function of T, of the reference model (REFERENCE 2.2)
THIN = (
    ("stem", 64, 257, lambda t: t),
    ("stages.0", 96, 128, lambda t: t // 2),
    ("stages.1", 128, 64, lambda t: -(-(t // 2) // 2)),
    ("stages.2", 256, 32, lambda t: -(-(t // 2) // 4)),
    ("stages.3", 512, 16, lambda t: -(-(t // 2) // 8)),
)
WIDE = (
    ("stem", 64, 129, lambda t: -(-t // 2)),
    ("stages.0", 256, 64, lambda t: -(-t // 2) // 2),
    ("stages.1", 512, 32, lambda t: -(-(-(-t // 2) // 2) // 2)),
    ("stages.2", 1024, 32, lambda t: -(-(-(-t // 2) // 2) // 2)),
    ("stages.3", 2048, 16, lambda t: -(-(-(-t // 2) // 2) // 4)),
)


def sizes(trunk, num_bins, num_frames):
    """Output shape of the named layers, and of the trunk itself."""
    found = {}
    for name, module in trunk.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.shape}))
    with torch.device("meta"):
        trunk.to("meta")(torch.empty(1, num_bins, num_frames))
    return found


@pytest.mark.parametrize("num_frames", [4, 5, 25, 34, 120, 250, 251, 339, 1040])
@pytest.mark.parametrize(("kind", "table"), [(ThinResNet34, THIN), (WideResNet34, WIDE)])
def test_sizes_of_the_reference(kind, table, num_frames):
    with torch.device("meta"):
        trunk = kind()
    found = sizes(trunk, 257, num_frames)
    for name, channels, rows, frames in table:
        assert found[name] == (1, channels, rows, frames(num_frames)), name
    last = table[-1]
    assert found[""] == (1, last[1], 7, last[3](num_frames))
    assert (trunk.channels, trunk.num_rows) == (last[1], 7)


def test_250_frames_become_16():
    with torch.device("meta"):
        assert sizes(ThinResNet34(), 257, 250)[""] == (1, 512, 7, 16)
        assert sizes(WideResNet34(), 257, 250)[""] == (1, 2048, 7, 16)


def test_two_frames_are_enough_for_the_thin_trunk():
    with torch.device("meta"):
        assert sizes(ThinResNet34(), 257, 2)[""] == (1, 512, 7, 1)


@pytest.mark.parametrize("num_bins", [40, 64, 80, 201, 257])
@pytest.mark.parametrize("kind", [ThinResNet34, WideResNet34])
def test_any_front_end_fits_if_it_has_enough_bins(kind, num_bins):
    with torch.device("meta"):
        trunk = kind(num_bins, width=0.25)
    assert sizes(trunk, num_bins, 100)[""][1:3] == (trunk.channels, trunk.num_rows)


@pytest.mark.parametrize("kind", [ThinResNet34, WideResNet34])
def test_too_few_bins_are_refused(kind):
    smallest = {ThinResNet34: 34, WideResNet34: 35}[kind]
    with torch.device("meta"):
        trunk = kind(smallest, width=0.125)
        assert sizes(trunk, smallest, 64)[""][2] == trunk.num_rows == 1
        with pytest.raises(ValueError, match=f"{smallest - 1} frequency bins are too few"):
            kind(smallest - 1, width=0.125)


@pytest.mark.parametrize("width", [0.125, 0.5, 2.0])
def test_width_multiplies_all_channels(width):
    with torch.device("meta"):
        found = sizes(ThinResNet34(width=width), 257, 64)
    for name, channels, _, _ in THIN:
        assert found[name][1] == max(8, round(channels * width / 8) * 8)
    assert found["stages.0.0.reduce"][1] == max(8, round(48 * width / 8) * 8)


def test_parameter_counts_of_the_reference():
    with torch.device("meta"):
        thin, wide = ThinResNet34(), WideResNet34()
    assert sum(p.numel() for p in thin.parameters()) == 3_690_240
    statistics = [b for name, b in thin.named_buffers() if "running" in name]
    assert sum(b.numel() for b in statistics) == 14_016
    assert (
        sum(b.numel() for name, b in wide.named_buffers() if "running" in name)
        + sum(p.numel() for p in wide.parameters())
        == 19_912_512
    )


def test_batch_norm_has_kerass_epsilon_and_momentum():
    norms = [m for m in ThinResNet34(width=0.125).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 1 + 11 * 3 + 4
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_stride_sits_on_the_first_1x1_convolution():
    for name, module in ThinResNet34(width=0.125).named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride != (1, 1):
            assert name.endswith(("0.reduce", "0.shortcut.0"))
            assert module.kernel_size == (1, 1)


@pytest.mark.parametrize(("rows", "frames"), [(257, 10), (257, 11), (128, 11), (129, 8)])
def test_strided_stem_pads_like_keras_same(rows, frames):
    """total = (ceil(n / 2) - 1) * 2 + 7 - n, and the odd one goes to the end."""
    trunk = WideResNet34(rows, width=0.125).eval()
    seen = {}
    trunk.stem.register_forward_hook(lambda _m, _i, out: seen.update(stem=out))
    spectrogram = torch.randn(1, rows, frames)
    trunk(spectrogram)
    totals = [(math.ceil(n / 2) - 1) * 2 + 7 - n for n in (frames, rows)]
    padding = [part for total in totals for part in (total // 2, total - total // 2)]
    padded = F.pad(spectrogram[:, None], padding)
    torch.testing.assert_close(seen["stem"], F.conv2d(padded, trunk.stem.weight, stride=2))
