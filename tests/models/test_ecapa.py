import pytest
import torch

from speakervlad.models.ecapa import ECAPATDNN, SERes2Block
from speakervlad.models.pooling import AttentiveStatisticsPooling


@pytest.mark.parametrize(("channels", "millions"), [(512, 6.2), (1024, 14.7)])
def test_parameters_of_the_paper(channels, millions):
    """Table 1, for the whole network: with its pooling, batch norm, and 192 dimensions."""
    with torch.device("meta"):
        trunk = ECAPATDNN(80, channels=channels)
        pooling = AttentiveStatisticsPooling(trunk.channels, context=True)
        norms = torch.nn.BatchNorm1d(pooling.out_dim), torch.nn.BatchNorm1d(192)
        parts = (trunk, pooling, *norms, torch.nn.Linear(pooling.out_dim, 192))
    count = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("num_frames", [1, 4, 5, 64, 101])
def test_shape_of_the_feature_map(num_frames):
    trunk = ECAPATDNN(40, channels=16, out_channels=24, squeeze_dim=4).eval()
    assert trunk(torch.randn(2, 40, num_frames)).shape == (2, 24, 1, num_frames)
    assert (trunk.channels, trunk.num_rows, trunk.frame_stride) == (24, 1, 1)


def block(dilation=3):
    torch.manual_seed(0)
    made = SERes2Block(16, dilation, 4, momentum=0.5, padding="zeros")
    made(3 * torch.randn(8, 16, 40))
    return made.eval()


def test_a_block_is_its_formulas():
    made = block()
    x = torch.randn(1, 16, 30)
    dense, res2, second, gate = made.body
    groups = dense(x).unflatten(1, (8, 2))
    outputs = [groups[:, 0]]
    for group in range(1, 8):
        seen = groups[:, group] + (0 if group == 1 else outputs[-1])
        convolution, _, norm = res2.layers[group - 1]
        padded = torch.nn.functional.pad(seen, (3, 3))
        taps = [padded[:, :, 3 * tap : 3 * tap + 30] for tap in range(3)]
        sums = sum(convolution.weight[:, :, t] @ taps[t] for t in range(3))
        outputs.append(norm((sums + convolution.bias[:, None]).relu()))
    y = second(torch.cat(outputs, dim=1))
    hidden = (gate.reduce.weight[:, :, 0] @ y.mean(dim=2)[0] + gate.reduce.bias).relu()
    scale = torch.sigmoid(gate.expand.weight[:, :, 0] @ hidden + gate.expand.bias)
    torch.testing.assert_close(made(x), x + y * scale[:, None])


def test_a_block_is_speechbrains_but_for_zeros_at_the_ends():
    reason = "speechbrain is not installed: pip install speechbrain"
    module = pytest.importorskip("speechbrain.lobes.models.ECAPA_TDNN", reason=reason)
    theirs = module.SERes2NetBlock(16, 16, se_channels=4, kernel_size=3, dilation=3).eval()
    ours = block()
    values = iter(ours.state_dict().values())
    theirs.load_state_dict({name: next(values) for name in theirs.state_dict()})
    for layer in theirs.modules():
        if isinstance(layer, module.Conv1d):
            layer.padding_mode = "constant"
    x = torch.randn(2, 16, 50)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_a_block_sees_the_sum_of_all_layers_before_it():
    trunk = ECAPATDNN(20, channels=16, out_channels=24, squeeze_dim=4).eval()
    seen, given = [], []
    for layer in (trunk.stem, *trunk.blocks):
        layer.register_forward_hook(lambda _, i, o: seen.append(i[0]) or given.append(o))
    feature_map = trunk(torch.randn(1, 20, 30))
    for number in range(1, 4):
        torch.testing.assert_close(seen[number], sum(given[:number]))
    expected = trunk.aggregate(torch.cat(given[1:], dim=1)).relu()
    torch.testing.assert_close(feature_map[:, :, 0], expected)


def test_every_frame_sees_the_whole_recording():
    trunk = ECAPATDNN(20, channels=16, out_channels=24, squeeze_dim=4).eval()
    spectrogram = torch.randn(1, 20, 300, requires_grad=True)
    trunk(spectrogram)[0, :, 0, 7].sum().backward()
    assert (spectrogram.grad[0].abs().sum(dim=0) > 0).all()
    assert trunk.frame_context is None
