"""``convert``: weights of the published Keras models to an encoder folder."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import notes
from speakervlad.extras import require


def convert(
    weights: Annotated[
        list[Path],
        typer.Argument(help="Keras weights (.h5); layers of later files replace earlier ones."),
    ],
    out: Annotated[Path, typer.Option(help="Encoder folder to write.")],
) -> None:
    """Turn the published GhostVLAD weights (Keras, .h5) into an encoder folder.

    Example: speakervlad convert weights.h5 --out ghostvlad/
    """
    require("torch", "train", "convert")
    require("h5py", "convert", "convert")
    from speakervlad.checkpoints.keras import convert_keras

    model = convert_keras(weights, out)
    config, pooling = model.config, model.config.pooling
    counts = pooling.options.get("num_clusters"), pooling.options.get("num_ghosts")
    clusters = "" if None in counts else ", {}+{} clusters".format(*counts)
    classes = f", classifier of {model.num_classes} classes kept" if model.num_classes else ""
    notes.print(
        f"{config.trunk.kind}, {model.aggregation}{clusters}, "
        f"{config.embedding_dim} dimensions{classes}: {out}"
    )
