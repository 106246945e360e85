"""Place recognition in small: train the last layers of a small network, print recall@1 and @5.

    python recipes/images/train.py --out runs/images

Needs ``pip install -e ".[train,plots]" -r recipes/images/requirements.txt``; nothing is downloaded.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from encoder import DIM, Describe, Encoder
from pictures import draw_map, draw_neighbours
from retrieval import recall_at, whiten
from torch import Tensor, nn
from views import (
    Photographs,
    Place,
    Views,
    find_places,
    load_photographs,
    nothing_to_see,
    views_of,
)

from speakervlad import (
    GhostVLAD,
    GlobalAveragePooling,
    NetVLAD,
    WeaklySupervisedRankingLoss,
    fit_centers,
    vlad,
)
from speakervlad.cli.console import console
from speakervlad.cli.recipe import run_recipe
from speakervlad.files import atomic_path

CLUSTERS, GHOSTS = 16, 2
TRAIN_VIEWS, DATABASE_VIEWS, QUERY_VIEWS = 12, 2, 4
PLACES_A_STEP, VIEWS_A_STEP = 16, 4
# Whitened vectors have as many dimensions as the average has, whatever the method.
WHITE_DIMS = 60
NUM_FRAMES = 8000


def main(
    out: Annotated[Path, typer.Option(help="Folder of results.json and the pictures.")],
    photos: Annotated[
        Path | None, typer.Option(help="Folder of your photographs instead of the packaged ones.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = 3,
    pretrain_steps: Annotated[int, typer.Option(min=1, help="Of the classifier.")] = 200,
    steps: Annotated[int, typer.Option(min=1, help="Of every method's ranking loss.")] = 400,
) -> None:
    """Train and test all methods; print the table, draw the pictures."""
    photographs = load_photographs(photos)
    results: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        views = make_views(photographs, np.random.default_rng(seed))
        base = pretrain(views, pretrain_steps)
        trained = fine_tuned(base, views, steps, seed)
        for name, describe in {**untrained(base, views, seed), **described(trained)}.items():
            results.setdefault(name, []).append(recalls(describe, views))
            console.print(f"seed {seed}: {name}: recall@1 {results[name][-1][0]:.1%}")
        if seed == 0:
            tests = photographs.images[-photographs.num_test :]
            draw_neighbours(trained["NetVLAD, k-means start"].describe, views, out)
            draw_map(trained["GhostVLAD"], tests, out)
    console.print(table(results, len(views.query_places)))  # pyright: ignore
    with atomic_path(out / "results.json") as path:
        path.write_text(json.dumps(results))


def make_views(photographs: Photographs, rng: np.random.Generator) -> Views:
    """Views of the places of all photographs; queries show those of the test photographs."""
    images, num_test = photographs
    places = [place for n, photo in enumerate(images) for place in find_places(photo, n)]
    tests = [n for n, place in enumerate(places) if place.photo >= len(images) - num_test]
    trains = [n for n in range(len(places)) if n < tests[0]]

    def draw(numbers: list[int], count: int, *, easy: bool = False) -> tuple[Tensor, np.ndarray]:
        chosen: list[Place] = [places[n] for n in numbers]
        return views_of(images, chosen, count, rng, easy=easy), np.repeat(numbers, count)

    return Views(
        *draw(trains, TRAIN_VIEWS),
        *draw(trains + tests, DATABASE_VIEWS, easy=True),
        *draw(tests, QUERY_VIEWS),
        nothing_to_see(images[: len(images) - num_test], 30, rng),
    )


def pretrain(views: Views, steps: int) -> Encoder:
    """An encoder that tells the training places apart by the mean of its descriptors."""
    encoder = Encoder(GlobalAveragePooling(DIM))
    head = nn.Linear(DIM, int(views.train_places.max()) + 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 3e-3)
    labels = torch.from_numpy(views.train_places)
    for _ in range(steps):
        rows = torch.randint(len(labels), (64,))
        logits = head(encoder.pooling(F.relu(encoder.last(encoder.first(views.train[rows])))))
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[rows]).backward()
        optimizer.step()
    encoder.first.requires_grad_(False)
    return encoder.eval()


def untrained(base: Encoder, views: Views, seed: int) -> dict[str, Describe]:
    """The mean and hard VLAD of the same descriptors, as pretraining left them."""
    centers = fit_centers(base.frames(views.train)[:: len(views.train) * 64 // NUM_FRAMES].numpy(),
                          CLUSTERS, seed=seed)  # fmt: skip

    def hard_vlad(images: Tensor) -> np.ndarray:
        return vlad(base.frames(images).unflatten(0, (len(images), -1)).numpy(), centers)

    return {"average, not trained": base.describe, "hard VLAD, not trained": hard_vlad}


def fine_tuned(base: Encoder, views: Views, steps: int, seed: int) -> dict[str, Encoder]:
    """An encoder for every pooling, its last layers trained by the ranking loss."""
    frames = base.frames(views.train)[:: len(views.train) * 64 // NUM_FRAMES]
    poolings = {
        "average": GlobalAveragePooling(DIM),
        "NetVLAD, random start": NetVLAD(DIM, num_clusters=CLUSTERS, vector_norm=True),
        "NetVLAD, k-means start": NetVLAD(DIM, num_clusters=CLUSTERS, vector_norm=True),
        "GhostVLAD": GhostVLAD(DIM, num_clusters=CLUSTERS, num_ghosts=GHOSTS, vector_norm=True),
    }
    poolings["NetVLAD, k-means start"].init_from(frames, seed=seed)
    poolings["GhostVLAD"].init_from(frames, base.frames(views.empty), seed=seed)
    with torch.no_grad():
        maps = torch.cat([base.first(part) for part in views.train.split(256)])
    encoders = {name: base.with_pooling(pooling) for name, pooling in poolings.items()}
    for encoder in encoders.values():
        rank(encoder, maps, views.train_places, steps, np.random.default_rng(seed))
    return encoders


def described(encoders: dict[str, Encoder]) -> dict[str, Describe]:
    """What each makes of images."""
    return {name: encoder.describe for name, encoder in encoders.items()}


def rank(
    encoder: Encoder, maps: Tensor, places: np.ndarray, steps: int, rng: np.random.Generator
) -> None:
    """Train the last layers: all other views of a query's place in the batch are its positives."""
    loss = WeaklySupervisedRankingLoss(margin=0.1, hardest=10)
    optimizer = torch.optim.Adam([*encoder.last.parameters(), *encoder.pooling.parameters()], 2e-3)
    for _ in range(steps):
        chosen = rng.choice(
            np.unique(places), min(PLACES_A_STEP, len(np.unique(places))), replace=False
        )
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(places == place), VIEWS_A_STEP, replace=False)
                for place in chosen
            ]
        )
        vectors = encoder(maps[torch.from_numpy(rows)])
        count = np.arange(len(rows))
        same = places[rows][:, None] == places[rows]
        others = same & (count[:, None] != count)
        positives, negatives = (
            vectors[torch.from_numpy(np.nonzero(mask)[1].reshape(len(rows), -1))]
            for mask in (others, ~same)
        )
        optimizer.zero_grad()
        loss(vectors, positives, negatives).backward()
        optimizer.step()


def recalls(describe: Describe, views: Views) -> list[float]:
    """Recall@1 and @5 without whitening, then with."""
    train, database, queries = map(describe, (views.train, views.database, views.queries))
    matches = views.query_places[:, None] == views.database_places
    white_dims = min(WHITE_DIMS, len(train) - 1)
    white_queries, white_database = (
        unit(whiten(vectors, train, white_dims)) for vectors in (queries, database)
    )
    return [
        recall_at(n, asked, searched, matches)
        for asked, searched in ((queries, database), (white_queries, white_database))
        for n in (1, 5)
    ]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table(results: dict[str, list[list[float]]], num_queries: int) -> str:
    """Means over the seeds, and the lowest and highest, in per cent, as Markdown."""
    lines = [
        f"recall of {num_queries} queries in %, mean [lowest, highest] of the seeds",
        "",
        "| pooling | @1 | @5 | whitened @1 | whitened @5 |",
        "|---|---|---|---|---|",
    ]
    for name, seeds in results.items():
        columns = 100 * np.array(seeds).T
        cells = [f"{c.mean():.1f} [{c.min():.1f}, {c.max():.1f}]" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_recipe(main)
