"""The pictures of the recipe: what is retrieved, and which cluster claims which region."""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from encoder import Describe, Encoder
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from retrieval import nearest
from torch import Tensor
from views import Views

from speakervlad import NetVLAD
from speakervlad.encoder.explain import CLUSTER_COLOURS
from speakervlad.figures import new_figure
from speakervlad.files import atomic_path

QUERIES, NEIGHBOURS = 8, 5
GHOST_COLOUR = (1.0, 1.0, 1.0)


def draw_neighbours(describe: Describe, views: Views, folder: Path) -> None:
    """Some queries, and the nearest rows of the database: framed green where the place is right."""
    rows = np.linspace(0, len(views.queries) - 1, QUERIES).astype(int)
    found = nearest(describe(views.queries[rows]), describe(views.database), NEIGHBOURS)
    figure = new_figure(7, 9)
    axes = figure.subplots(QUERIES, 1 + NEIGHBOURS)
    for line, query, neighbours in zip(axes, rows, found, strict=True):
        show(line[0], views.queries[query], None)
        for axis, row in zip(line[1:], neighbours, strict=True):
            right = views.database_places[row] == views.query_places[query]
            show(axis, views.database[row], "#009E73" if right else "#D55E00")
    for axis, title in zip(axes[0], ("query", *range(1, NEIGHBOURS + 1)), strict=True):
        axis.set_title(str(title), fontsize=9)
    save(figure, folder / "neighbours.webp")


def draw_map(encoder: Encoder, images: list[Tensor], folder: Path) -> None:
    """Photographs, and beside each which cluster has the most weight where; ghosts in white."""
    shown = images[:2] + images[-2:]
    figure = new_figure(8, 2.6 * len(shown))
    axes = figure.subplots(len(shown), 2, squeeze=False)
    for (left, right), image in zip(axes, shown, strict=True):
        # The scale at which the network was trained: 112 pixels of a photograph are 64.
        small = F.interpolate(image[None], scale_factor=64 / 112, mode="area")
        show(left, small[0], None)
        show(right, claimed(encoder, small), None)
    save(figure, folder / "map.webp")


@torch.no_grad()
def claimed(encoder: Encoder, image: Tensor) -> Tensor:
    """An image (1, 3, height, width), half of its grey values under the colours of clusters."""
    assert isinstance(encoder.pooling, NetVLAD)
    descriptors = encoder.descriptors(encoder.first(image))
    weights = encoder.pooling.assign(descriptors)[0].unflatten(1, descriptors.shape[2:])
    num_clusters = encoder.pooling.num_clusters
    palette = [to_rgb(CLUSTER_COLOURS[k % len(CLUSTER_COLOURS)]) for k in range(num_clusters)]
    palette += [GHOST_COLOUR] * (len(weights) - num_clusters)
    colours = torch.tensor(palette)[weights.argmax(dim=0)].permute(2, 0, 1)
    colours = F.interpolate(colours[None], size=image.shape[2:], mode="nearest")[0]
    return 0.45 * image[0].mean(dim=0) + 0.55 * colours


def show(axes: Axes, image: Tensor, frame: str | None) -> None:
    """An image (3, height, width), in a frame."""
    axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=frame is not None, color=frame, linewidth=3)


def save(figure: Figure, path: Path) -> None:
    """Write a picture as WebP."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90)
    with atomic_path(path) as temporary:
        Image.open(buffer).convert("RGB").save(temporary, quality=80, method=6)
