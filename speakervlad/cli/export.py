"""``export``: an encoder folder to one file that runs without torch."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console
from speakervlad.errors import InputError
from speakervlad.extras import require


@app.command()
def export(
    encoder: Annotated[Path, typer.Argument(help="Encoder folder, as `train` writes.")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write: waveform in, embedding out.")],
) -> None:
    """Write an encoder as one ONNX file that `embed` and `verify` run without torch."""
    require("torch", "train", "export")
    require("onnx", "export", "export")
    from speakervlad.files import check_writable
    from speakervlad.inference.export import CHECK_SECONDS, export_onnx

    if out.suffix != ".onnx":
        raise InputError(f"{out}: name it .onnx.")
    check_writable(out)
    worst = export_onnx(encoder, out)
    console.print(
        f"{out}: equals torch within {worst:.1e} at {len(CHECK_SECONDS)} lengths "
        f"from {CHECK_SECONDS[0]:g} to {CHECK_SECONDS[-1]:g} s"
    )
