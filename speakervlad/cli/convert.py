"""``convert``: weights of other toolkits to an encoder folder."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import notes
from speakervlad.extras import require


def convert(
    weights: Annotated[
        list[Path],
        typer.Argument(
            help="The checkpoint; of Keras, several files, later layers replacing earlier ones."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Encoder folder to write.")],
    toolkit: Annotated[
        str,
        typer.Option(
            "--from",
            help="Whose: keras (the published GhostVLAD, .h5), 3d-speaker or wespeaker (CAM++), "
            "speechbrain (ECAPA-TDNN).",
        ),
    ] = "keras",
) -> None:
    """Turn a checkpoint of another toolkit into an encoder folder with its embeddings.

    Example: speakervlad convert campplus.bin --from 3d-speaker --out campplus/
    """
    require("torch", "train", "convert")
    from speakervlad.checkpoints.readers import convert_checkpoint

    notes.print(f"{convert_checkpoint(weights, out, toolkit).told}: {out}")
