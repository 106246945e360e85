"""Photographs that packages carry, places in them, and views of a place under other conditions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speakervlad.errors import InputError
from speakervlad.extras import require

# Side of a view in the photograph and in the network, in pixels.
CROP, SIDE = 112, 64
# Centres of places are so far apart that no two places share a pixel, however a view is moved.
SPACING, SHIFT = 160, 20
MAX_PLACES = 12
# A place with less contrast than this (standard deviation of values in [0, 1]) shows nothing.
LEAST_CONTRAST = 0.06
SKIMAGE = (
    *("astronaut", "brick", "chelsea", "coins", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "page", "retina", "rocket"),
)
TEST_SKIMAGE = ("camera", "coffee", "stereo_motorcycle", "cell")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class Views(NamedTuple):
    """What one seed trains and tests on; views are (count, 3, 64, 64), places their numbers."""

    train: Tensor
    train_places: np.ndarray
    database: Tensor
    database_places: np.ndarray
    queries: Tensor
    query_places: np.ndarray
    empty: Tensor


class Place(NamedTuple):
    """A square of a photograph.

    Attributes:
        photo: which photograph.
        x: of its centre, in pixels.
        y: of its centre, in pixels.
    """

    photo: int
    x: int
    y: int


class Photographs(NamedTuple):
    """Photographs, float32 (3, height, width) in [0, 1]; the last ``num_test`` are for testing."""

    images: list[Tensor]
    num_test: int


def load_photographs(folder: Path | None) -> Photographs:
    """Those of scikit-image and scikit-learn, or all of a folder, of which the last third tests.

    Raises:
        InputError: scikit-image, the folder or its photographs are not there.
    """
    if folder is not None:
        return from_folder(folder)
    require("skimage", "train", "the recipe (recipes/images/requirements.txt)")
    from skimage import data  # pyright: ignore[reportMissingImports]
    from sklearn.datasets import load_sample_images

    def load(name: str) -> np.ndarray:
        image = getattr(data, name)()
        return image[0] if isinstance(image, tuple) else image

    tests = [*map(load, TEST_SKIMAGE), *load_sample_images().images]
    return Photographs([to_tensor(image) for image in [*map(load, SKIMAGE), *tests]], len(tests))


def from_folder(folder: Path) -> Photographs:
    """All photographs of a folder.

    Raises:
        InputError: there are fewer than three, or one cannot be read.
    """
    from PIL import Image

    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if len(paths) < 3:
        raise InputError(f"{folder}: {len(paths)} photographs ({', '.join(SUFFIXES)}). Give three.")
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(to_tensor(np.asarray(image.convert("RGB"))))
        except OSError as error:
            raise InputError(f"{path}: no photograph that can be read.") from error
    return Photographs(images, len(paths) // 3)


def to_tensor(image: np.ndarray) -> Tensor:
    """(height, width[, 3]) of 0 to 255 as float32 (3, height, width) of 0 to 1."""
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return pixels.expand(3, -1, -1) if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def find_places(photo: Tensor, number: int) -> list[Place]:
    """Places of one photograph on a grid, at most 12, evenly spread, without blank ones."""
    _, height, width = photo.shape
    margin = CROP // 2 + SHIFT
    grid = [
        Place(number, x, y)
        for y in range(margin, height - margin + 1, SPACING)
        for x in range(margin, width - margin + 1, SPACING)
    ]
    half = CROP // 2
    shown = [
        place
        for place in grid
        if photo[:, place.y - half : place.y + half, place.x - half : place.x + half].std()
        > LEAST_CONTRAST
    ]
    chosen = np.linspace(0, len(shown) - 1, min(MAX_PLACES, len(shown))).round().astype(int)
    return [shown[row] for row in chosen]


def views_of(
    images: list[Tensor], places: list[Place], count: int, rng: np.random.Generator, *, easy: bool
) -> Tensor:
    """float32 (places * count, 3, 64, 64): views of the first place, then of the second ..."""
    return torch.stack(
        [view(images[place.photo], place, rng, easy) for place in places for _ in range(count)]
    )


def view(photo: Tensor, place: Place, rng: np.random.Generator, easy: bool) -> Tensor:
    """One view: moved, turned, blurred, in another light, noisy.

    Args:
        photo: (3, height, width).
        place: its middle.
        rng: all randomness.
        easy: only moved by up to 4 pixels and turned by up to 5 degrees, as a database has it.
    """
    shift, angle = (4, 5) if easy else (SHIFT, 25)
    dx, dy = rng.integers(-shift, shift + 1, 2).tolist()
    seen = turned(photo, place.x + dx, place.y + dy, rng.uniform(-angle, angle))
    if easy:
        return seen
    seen = blurred(seen, rng.uniform(0, 1.5))
    light, tint, gamma = rng.uniform(0.5, 1.3), rng.uniform(0.85, 1.15, 3), rng.uniform(0.7, 1.4)
    seen = light * torch.from_numpy(tint).float()[:, None, None] * seen.clamp(min=0) ** gamma
    noise = torch.from_numpy(rng.standard_normal(seen.shape)).float()
    return (seen + rng.uniform(0, 0.08) * noise + noisy_corner(rng)).clamp(0, 1)


def noisy_corner(rng: np.random.Generator) -> Tensor:
    """Strong noise over a rectangle that covers up to a quarter of the view, (3, 64, 64)."""
    noise = torch.zeros(3, SIDE, SIDE)
    height, width = rng.integers(0, SIDE // 2, 2).tolist()
    top, left = rng.integers(0, SIDE // 2, 2).tolist()
    noise[:, top : top + height, left : left + width] = torch.from_numpy(
        rng.normal(0, 0.5, (3, height, width))
    ).float()
    return noise


def turned(photo: Tensor, x: float, y: float, degrees: float) -> Tensor:
    """A square of 112 pixels around a point, turned, scaled to 64; mirrored at the border."""
    _, height, width = photo.shape
    angle = np.deg2rad(degrees)
    cosine, sine = CROP * np.cos(angle), CROP * np.sin(angle)
    matrix = torch.tensor(
        [
            [cosine / width, -sine / width, 2 * x / width - 1],
            [sine / height, cosine / height, 2 * y / height - 1],
        ],
        dtype=torch.float32,
    )
    grid = F.affine_grid(matrix[None], [1, 3, SIDE, SIDE], align_corners=False)
    return F.grid_sample(photo[None], grid, padding_mode="reflection", align_corners=False)[0]


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of so many pixels."""
    places = torch.arange(-4, 5, dtype=torch.float32)
    kernel = (-places.square() / (2 * max(sigma, 0.1) ** 2)).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, 9)
    rows = F.conv2d(image[None], kernel[:, :, :, None], padding=(4, 0), groups=3)
    return F.conv2d(rows, kernel[:, :, None, :], padding=(0, 4), groups=3)[0]


def nothing_to_see(images: list[Tensor], count: int, rng: np.random.Generator) -> Tensor:
    """Views that show no place: noise, and blur beyond recognition; where ghosts start from."""
    noise = torch.from_numpy(rng.normal(0.5, 0.35, (count, 3, SIDE, SIDE))).float().clamp(0, 1)
    flat = torch.stack([images[row % len(images)].mean(dim=(1, 2)) for row in range(count)])
    light = torch.from_numpy(rng.uniform(0.3, 1.2, (count, 1, 1, 1))).float()
    smooth = (light * flat[:, :, None, None]).expand_as(noise) + 0.05 * (noise - 0.5)
    return torch.cat([noise, smooth.clamp(0, 1)])
