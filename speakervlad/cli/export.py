"""``export``: an encoder folder to one file that runs without torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import console, notes
from speakervlad.cli.embed import find_recordings
from speakervlad.cli.evaluation import embed_trials
from speakervlad.errors import InputError
from speakervlad.extras import require

if TYPE_CHECKING:
    import numpy as np

# More recordings hardly change the ranges of the activations.
CALIBRATION_RECORDINGS = 64


def export(
    encoder: Annotated[Path, typer.Argument(help="Encoder folder, as `train` writes.")],
    out: Annotated[
        Path,
        typer.Argument(
            help="ONNX file to write. It takes a padded spectrogram, gives frame descriptors and "
            "pooling weights; speakervlad computes what comes before and after."
        ),
    ],
    int8: Annotated[
        Path | None,
        typer.Option(
            help="Compute the trunk in 8-bit integers, calibrated on recordings of this manifest, "
            "folder or trial list."
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="For a runtime of others: sherpa-onnx, wespeaker or 3d-speaker. The file takes "
            "their features (batch, frames, 80) and gives unit vectors.",
        ),
    ] = None,
    trials: Annotated[
        list[Path] | None,
        typer.Option(help="With --int8: measure the EER before and after on these lists."),
    ] = None,
) -> None:
    """Write an encoder as one ONNX file that `embed` and `verify` run without torch.

    Example: speakervlad export runs/mine/encoder mine.onnx
    """
    require("torch", "train", "export")
    require("onnx", "export", "export")
    from speakervlad.encoder.export import CHECK_SECONDS, export_onnx
    from speakervlad.encoder.location import find_encoder
    from speakervlad.files import check_writable

    if out.suffix != ".onnx":
        raise InputError(f"{out}: name it .onnx.")
    if trials and int8 is None:
        raise InputError("--trials goes with --int8: nothing else changes the scores.")
    if platform is not None and int8 is not None:
        raise InputError("--int8 goes without --as: other runtimes compute in float32.")
    check_writable(out)
    if platform is not None:
        export_elsewhere(find_encoder(encoder), out, platform)
        return
    waveforms = None if int8 is None else calibration_waveforms(int8)
    worst = export_onnx(find_encoder(encoder), out, calibration=waveforms)
    if int8 is None:
        notes.print(
            f"{out}: equals torch within {worst:.1e} at {len(CHECK_SECONDS)} lengths "
            f"from {CHECK_SECONDS[0]:g} to {CHECK_SECONDS[-1]:g} s"
        )
    else:
        notes.print(f"{out}: {worst:.2g} away from torch on such recordings (median)")
    if trials:
        print_cost(encoder, out, trials)


def export_elsewhere(encoder: Path, out: Path, platform: str) -> None:
    """Write the file, and say how alike the embeddings of both features are."""
    from speakervlad.audio.examples import examples
    from speakervlad.audio.spans import load_audio
    from speakervlad.encoder.elsewhere import cosines_on, export_for

    worst = export_for(encoder, out, platform)
    clips = {name: load_audio(path) for name, path in examples().items()}
    cosines = cosines_on(out, platform, clips)
    notes.print(
        f"{out}: equals torch within {worst:.1e}; on the features of {platform}, embeddings have a "
        f"cosine of {cosines.mean():.4f} to those of the encoder's own, {cosines.min():.4f} at "
        f"least ({len(cosines)} recordings of the package)"
    )


def calibration_waveforms(source: Path) -> "list[np.ndarray]":
    """Some recordings of a manifest, folder or trial list, the same ones every time."""
    import numpy as np

    from speakervlad.audio.spans import load_audio

    paths = find_recordings([source], None).paths
    order = np.random.default_rng(0).permutation(len(paths))
    return [load_audio(paths[place]) for place in order[:CALIBRATION_RECORDINGS].tolist()]


def print_cost(encoder: Path, exported: Path, lists: list[Path]) -> None:
    """The equal error rates of both on each list, whose recordings lie beside it."""
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.scoring.lists import load_trials
    from speakervlad.scoring.metrics import equal_error_rate
    from speakervlad.scoring.scoring import cosine_scores

    embedders = load_encoder(encoder), load_encoder(exported)
    for path in lists:
        pairs = load_trials(path)
        tables = (embed_trials(pairs, path.parent, embedder) for embedder in embedders)
        before, after = (
            equal_error_rate(cosine_scores(table, pairs), pairs.labels()) for table in tables
        )
        console.print(f"{path.name}: EER {before:.3%} in float32, {after:.3%} in int8")
