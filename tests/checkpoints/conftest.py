"""Networks of others, written naively, and random weights by their names."""

import pytest
import torch
import torch.nn.functional as F


class Weights(dict):
    """A state dict that draws what is asked for the first time."""

    def __init__(self, seed):
        super().__init__()
        self.rng = torch.Generator().manual_seed(seed)

    def draw(self, name, shape, scale, offset=0.0):
        if name not in self:
            self[name] = offset + scale * torch.randn(shape, generator=self.rng)
        return self[name]

    def conv(self, name, x, out, kernel, bias=False, **options):
        kernel = kernel if isinstance(kernel, tuple) else (kernel,)
        fan_in = x.shape[1] * torch.Size(kernel).numel()
        weight = self.draw(f"{name}.weight", (out, x.shape[1], *kernel), (2 / fan_in) ** 0.5)
        biases = self.draw(f"{name}.bias", (out,), 0.1) if bias else None
        return (F.conv2d if len(kernel) == 2 else F.conv1d)(x, weight, biases, **options)

    def norm(self, name, x, affine=True):
        size = (x.shape[1],)
        mean = self.draw(f"{name}.running_mean", size, 0.1)
        variance = self.draw(f"{name}.running_var", size, 0.1, 1.0).abs()
        self[f"{name}.running_var"] = variance
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)
        weight = self.draw(f"{name}.weight", size, 0.1, 1.0) if affine else None
        bias = self.draw(f"{name}.bias", size, 0.1) if affine else None
        return F.batch_norm(x, mean, variance, weight, bias)


def campplus(weights, features, layers=(2, 1, 1), dim=24, floor=0.0):
    """CAM++ as 3D-Speaker names it: features (batch, mels, frames) to (batch, dim)."""
    x = F.relu(
        weights.norm(
            "head.bn1", weights.conv("head.conv1", features[:, None], 32, (3, 3), padding=1)
        )
    )
    for layer in (1, 2):
        for block in (0, 1):
            name, stride = f"head.layer{layer}.{block}", (2 - block, 1)
            out = weights.conv(f"{name}.conv1", x, 32, (3, 3), stride=stride, padding=1)
            out = F.relu(weights.norm(f"{name}.bn1", out))
            out = weights.norm(
                f"{name}.bn2", weights.conv(f"{name}.conv2", out, 32, (3, 3), padding=1)
            )
            if block == 0:
                x = weights.conv(f"{name}.shortcut.0", x, 32, (1, 1), stride=stride)
                x = weights.norm(f"{name}.shortcut.1", x)
            x = F.relu(out + x)
    x = weights.conv("head.conv2", x, 32, (3, 3), stride=(2, 1), padding=1)
    x = F.relu(weights.norm("head.bn2", x)).flatten(1, 2)
    x = weights.conv("xvector.tdnn.linear", x, 128, 5, stride=2, padding=2)
    x = F.relu(weights.norm("xvector.tdnn.nonlinear.batchnorm", x))
    for block, (count, dilation) in enumerate(zip(layers, (1, 2, 2), strict=True), 1):
        for layer in range(1, count + 1):
            name = f"xvector.block{block}.tdnnd{layer}"
            h = F.relu(weights.norm(f"{name}.nonlinear1.batchnorm", x))
            h = weights.conv(f"{name}.linear1", h, 128, 1)
            h = F.relu(weights.norm(f"{name}.nonlinear2.batchnorm", h))
            local = weights.conv(
                f"{name}.cam_layer.linear_local", h, 32, 3, padding=dilation, dilation=dilation
            )
            segments = [part.mean(2, keepdim=True).expand_as(part) for part in h.split(100, dim=2)]
            context = h.mean(2, keepdim=True) + torch.cat(segments, dim=2)
            mask = F.relu(weights.conv(f"{name}.cam_layer.linear1", context, 64, 1, bias=True))
            mask = weights.conv(f"{name}.cam_layer.linear2", mask, 32, 1, bias=True).sigmoid()
            x = torch.cat([x, local * mask], dim=1)
        x = F.relu(weights.norm(f"xvector.transit{block}.nonlinear.batchnorm", x))
        x = weights.conv(f"xvector.transit{block}.linear", x, x.shape[1] // 2, 1)
    x = F.relu(weights.norm("xvector.out_nonlinear.batchnorm", x))
    pooled = torch.cat([x.mean(2), (x.var(2, correction=1) + floor).sqrt()], dim=1)[:, :, None]
    dense = weights.conv("xvector.dense.linear", pooled, dim, 1)[:, :, 0]
    return weights.norm("xvector.dense.nonlinear.batchnorm", dense, affine=False)


def ecapa(weights, features, channels=32, out_channels=48, attention=12, squeeze=8, dim=24):
    """ECAPA-TDNN as SpeechBrain names it: features (batch, mels, frames) to (batch, dim)."""

    def same(name, x, out, kernel=1, dilation=1):
        reach = dilation * (kernel - 1) // 2
        return weights.conv(
            f"{name}.conv",
            F.pad(x, (reach, reach), "reflect"),
            out,
            kernel,
            bias=True,
            dilation=dilation,
        )

    def tdnn(name, x, out, kernel=1, dilation=1):
        return weights.norm(
            f"{name}.norm.norm", F.relu(same(f"{name}.conv", x, out, kernel, dilation))
        )

    x, outputs = tdnn("blocks.0", features, channels, 5), []
    for block, dilation in ((1, 2), (2, 3), (3, 4)):
        name = f"blocks.{block}"
        first, *groups = tdnn(f"{name}.tdnn1", x, channels).chunk(8, dim=1)
        parts, before = [first], 0.0
        for number, group in enumerate(groups):
            before = tdnn(
                f"{name}.res2net_block.blocks.{number}", group + before, channels // 8, 3, dilation
            )
            parts.append(before)
        y = tdnn(f"{name}.tdnn2", torch.cat(parts, dim=1), channels)
        gate = F.relu(same(f"{name}.se_block.conv1", y.mean(2, keepdim=True), squeeze))
        x = x + y * same(f"{name}.se_block.conv2", gate, channels).sigmoid()
        outputs.append(x)
    x = tdnn("mfa", torch.cat(outputs, dim=1), out_channels)
    mean = x.mean(2, keepdim=True).expand_as(x)
    deviation = x.var(2, correction=0, keepdim=True).clamp(1e-12).sqrt().expand_as(x)
    seen = tdnn("asp.tdnn", torch.cat([x, mean, deviation], dim=1), attention).tanh()
    shares = same("asp.conv", seen, out_channels).softmax(dim=2)
    mean = (shares * x).sum(2)
    variance = (shares * (x - mean[:, :, None]) ** 2).sum(2)
    pooled = torch.cat([mean, variance.clamp(1e-12).sqrt()], dim=1)[:, :, None]
    return same("fc", weights.norm("asp_bn.norm", pooled), dim)[:, :, 0]


@pytest.fixture(scope="session")
def networks():
    """Name of a network to its naive function, and what holds random weights for it."""
    return {"campplus": campplus, "ecapa": ecapa}, Weights
