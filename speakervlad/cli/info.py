"""``info``: what an encoder is, and what is known about it."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import console

CARD_NAME = "MODEL_CARD.md"


def info(
    encoder: Annotated[
        Path, typer.Argument(help="default, small, an encoder folder, or an .onnx file.")
    ] = Path("default"),
    card: Annotated[bool, typer.Option(help="Print the whole model card, if there is one.")] = True,
) -> None:
    """Print an encoder's parts, size, thresholds and model card.

    Example: speakervlad info runs/mine/encoder
    """
    from speakervlad.encoder.card import describe_encoder
    from speakervlad.encoder.location import find_encoder
    from speakervlad.verification.known import describe_thresholds

    path = find_encoder(encoder)
    for name, text in (describe_encoder(path) | describe_thresholds(path)).items():
        console.print(f"{name:12}{text}")
    if card and (path / CARD_NAME).is_file():
        console.print()
        for line in (path / CARD_NAME).read_text(encoding="utf-8").splitlines():
            console.print(line)
