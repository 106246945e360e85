"""ActionVLAD in small: generated clips of moving patterns, accuracy beside average pooling.

    python recipes/actions/train.py --out runs/actions

Needs ``pip install -e ".[train]"``; the clips are drawn, nothing is downloaded.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from speakervlad import ActionVLAD, GlobalAveragePooling
from speakervlad.cli.console import console
from speakervlad.cli.recipe import run_recipe
from speakervlad.files import atomic_path
from speakervlad.models.pooling import Pooling

FRAMES, SIDE = 16, 32
# What a pattern does from frame to frame: pixels to the right and down, growth.
ACTIONS = {
    "right": (1.2, 0.0, 0.0),
    "left": (-1.2, 0.0, 0.0),
    "down": (0.0, 1.2, 0.0),
    "up": (0.0, -1.2, 0.0),
    "grow": (0.0, 0.0, 0.05),
    "shrink": (0.0, 0.0, -0.05),
}
DIM, CLUSTERS = 24, 8
TRAIN, TEST, BATCH = 768, 384, 32
NUM_FRAMES = 8000


def main(
    out: Annotated[Path, typer.Option(help="Folder of results.json.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of every training.")] = 200,
    num_clips: Annotated[int, typer.Option(min=BATCH, help="Clips to train on.")] = TRAIN,
) -> None:
    """Train and test both poolings on the same clips; print the table."""
    results: dict[str, list[float]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        train, test = draw_clips(num_clips, rng), draw_clips(TEST, rng)
        for name, network in recognisers(seed, train[0][:64]).items():
            fit(network, *train, steps, rng)
            results.setdefault(name, []).append(accuracy(network, *test))
            console.print(f"seed {seed}: {name}: {results[name][-1]:.1%}")
    console.print(table(results))
    with atomic_path(out / "results.json") as path:
        path.write_text(json.dumps(results))


class Recogniser(nn.Module):
    """Two layers of convolutions over time, height and width, a pooling, a linear classifier."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(1, 8, (3, 5, 5), (1, 2, 2), (1, 2, 2)), nn.BatchNorm3d(8), nn.ReLU(),
            nn.Conv3d(8, DIM, 3, (1, 2, 2), 1), nn.BatchNorm3d(DIM), nn.ReLU(),
            nn.Conv3d(DIM, pooling.dim, 1),
        )  # fmt: skip
        self.pooling = pooling
        # Pooled vectors of all kinds come to the classifier at one scale.
        self.classifier = nn.Sequential(
            nn.BatchNorm1d(pooling.out_dim), nn.Linear(pooling.out_dim, len(ACTIONS))
        )

    def descriptors(self, clips: Tensor) -> Tensor:
        """(batch, 16, 32, 32) to unit descriptors (batch, dim, 16, 8, 8)."""
        return F.normalize(self.convolutions(clips[:, None]), dim=1)

    def forward(self, clips: Tensor) -> Tensor:
        return self.classifier(self.pooling(self.descriptors(clips)))


def recognisers(seed: int, some: Tensor) -> dict[str, Recogniser]:
    """One for every pooling; the average once with as many numbers as ActionVLAD has."""
    poolings = {
        f"average, {DIM} numbers": GlobalAveragePooling(DIM),
        f"average, {DIM * CLUSTERS} numbers": GlobalAveragePooling(DIM * CLUSTERS),
        f"ActionVLAD, {DIM} x {CLUSTERS} numbers": ActionVLAD(DIM, num_clusters=CLUSTERS),
    }
    networks = {}
    for name, pooling in poolings.items():
        torch.manual_seed(seed)
        networks[name] = network = Recogniser(pooling)
        if isinstance(pooling, ActionVLAD):
            with torch.no_grad():
                frames = network.descriptors(some).flatten(2).mT.flatten(0, 1)
            pooling.init_from(frames[:: max(1, len(frames) // NUM_FRAMES)], seed=seed)
    return networks


def fit(
    network: Recogniser, clips: Tensor, labels: Tensor, steps: int, rng: np.random.Generator
) -> None:
    """Cross entropy over the actions; the learning rate falls to zero."""
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(len(clips), BATCH, replace=False))
        optimizer.zero_grad()
        F.cross_entropy(network(clips[rows]), labels[rows]).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(network: Recogniser, clips: Tensor, labels: Tensor) -> float:
    """The share of the clips whose action is recognised."""
    network.eval()
    found = torch.cat([network(part).argmax(dim=1) for part in clips.split(128)])
    return float((found == labels).float().mean())


def draw_clips(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Clips float32 (count, 16, 32, 32), each before a background of its own, and their actions."""
    labels = rng.integers(0, len(ACTIONS), count)
    backgrounds = [(clouds, stripes)[number](rng) for number in rng.integers(0, 2, count)]
    patterns = [pattern(label, rng) for label in labels]
    return torch.from_numpy(np.stack(backgrounds) + np.stack(patterns)), torch.from_numpy(labels)


def pattern(label: int, rng: np.random.Generator) -> np.ndarray:
    """Rings of random width and place that do one action, (16, 32, 32)."""
    moves = np.outer(np.arange(FRAMES), list(ACTIONS.values())[label])
    x, y = (moves[:, axis] - moves[:, axis].mean() + rng.uniform(12, 20) for axis in (0, 1))
    size = rng.uniform(5, 7) * np.exp(moves[:, 2] - moves[:, 2].mean())
    rows, columns = np.mgrid[:SIDE, :SIDE]
    radius = np.hypot(columns - x[:, None, None], rows - y[:, None, None]) / size[:, None, None]
    rings = np.cos(rng.uniform(4, 7) * radius + rng.uniform(0, 6)) * np.exp(-(radius**4))
    return (rng.uniform(0.7, 1.3) * rings).astype(np.float32)


def clouds(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise that drifts by up to a pixel a frame, with flicker, (16, 32, 32)."""
    spectrum = np.fft.fft2(rng.standard_normal((2 * SIDE, 2 * SIDE)))
    distance = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(2 * SIDE)]))
    cloud = np.fft.ifft2(spectrum / (distance + 0.03) ** 1.5).real
    drift = rng.integers(-1, 2, 2)
    frames = [
        np.roll(cloud, tuple(t * drift), (0, 1))[:SIDE, :SIDE] / cloud.std() for t in range(FRAMES)
    ]
    return with_flicker(np.stack(frames), rng)


def stripes(rng: np.random.Generator) -> np.ndarray:
    """Stripes of random width and direction that drift, with flicker, (16, 32, 32)."""
    angle, speed = rng.uniform(0, np.pi), rng.uniform(-1, 1)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    along = rows * np.sin(angle) + columns * np.cos(angle)
    time = np.arange(FRAMES)[:, None, None]
    waves = np.sin(rng.uniform(0.3, 1.2) * (along + speed * time) + rng.uniform(0, 6))
    return with_flicker(waves, rng)


def with_flicker(background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At a random strength, lighter and darker from frame to frame, with noise of the sensor."""
    light = rng.normal(0, 0.2, (FRAMES, 1, 1))
    noise = rng.normal(0, 0.1, background.shape)
    return (rng.uniform(0.1, 0.6) * background + light + noise).astype(np.float32)


def table(results: dict[str, list[float]]) -> str:
    """Accuracies of the seeds and their mean, in per cent, as Markdown."""
    count = len(next(iter(results.values())))
    lines = [
        f"accuracy on {TEST} clips in %, {len(ACTIONS)} actions",
        "",
        "| pooling | " + " | ".join(f"seed {seed}" for seed in range(count)) + " | mean |",
        "|---" * (count + 2) + "|",
    ]
    for name, values in results.items():
        cells = [f"{100 * value:.1f}" for value in [*values, float(np.mean(values))]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_recipe(main)
