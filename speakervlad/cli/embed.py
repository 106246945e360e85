"""Commands that turn audio into embeddings and decisions: ``embed``, ``verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console, track
from speakervlad.errors import InputError
from speakervlad.extras import require

if TYPE_CHECKING:
    from speakervlad.inference.recordings import Recordings

CALIBRATION_NAME = "calibration.json"

EncoderOption = Annotated[Path, typer.Option(help="Encoder folder, as `train` writes.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
ChannelOption = Annotated[int | None, typer.Option(help="Channel to take; the mean by default.")]


@app.command()
def embed(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="A manifest (.csv), a folder, audio files, or a trial list."),
    ],
    encoder: EncoderOption,
    out: Annotated[Path, typer.Option(help="E.npz: `ids` and unit `vectors`.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder that a manifest's or trial list's paths are in.")
    ] = None,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Write one embedding per recording."""
    require("torch", "train", "embed")
    import numpy as np

    from speakervlad.evaluation.embeddings import Embeddings
    from speakervlad.files import check_writable
    from speakervlad.inference.engine import load_encoder

    check_writable(out)
    embedder = load_encoder(encoder, device=device)
    recordings = find_recordings(inputs, root)
    vectors = embedder.embed_files(recordings.paths, channel=channel, track=track)
    Embeddings(np.asarray(recordings.ids), vectors).save(out)
    console.print(f"{len(vectors)} embeddings of {embedder.dim} dimensions: {out}")


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(help="A recording.")],
    second: Annotated[Path, typer.Argument(help="Another recording.")],
    encoder: EncoderOption,
    threshold: Annotated[
        float | None, typer.Option(help="Decide here instead of at the encoder's EER threshold.")
    ] = None,
    p_target: Annotated[
        float, typer.Option(help="Prior of the probability that a calibrated encoder states.")
    ] = 0.5,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Say whether two recordings are of one speaker: exit code 0 same, 1 different, 2 error.

    With the file that `calibrate` writes beside the encoder, also how likely that is.
    """
    require("torch", "train", "verify")
    from speakervlad.inference.engine import load_encoder
    from speakervlad.inference.thresholds import read_threshold

    embedder = load_encoder(encoder, device=device)
    if threshold is None:
        threshold = read_threshold(encoder)
    score = float(embedder.embed(first, channel=channel) @ embedder.embed(second, channel=channel))
    same = score >= threshold
    console.print(f"score      {score:.4f}")
    console.print(f"threshold  {threshold:.4f}")
    console.print(f"decision   {'same speaker' if same else 'different speakers'}")
    if (encoder / CALIBRATION_NAME).is_file():
        print_calibrated(encoder / CALIBRATION_NAME, score, p_target)
    raise typer.Exit(0 if same else 1)


def print_calibrated(path: Path, score: float, p_target: float) -> None:
    """What a calibration makes of one score."""
    from speakervlad.evaluation.calibration import load_calibration

    calibration = load_calibration(path)
    ratio = float(calibration.log_likelihood_ratio(score))
    probability = float(calibration.probability(ratio, p_target))
    console.print(f"log-likelihood ratio {ratio:.3f} (natural logarithm)")
    console.print(f"probability {probability:.2%} of the same speaker, at a prior of {p_target:g}")


def find_recordings(inputs: list[Path], root: Path | None) -> "Recordings":
    """Tell a manifest, a folder, a trial list and audio files apart.

    Raises:
        InputError: something is missing, or kinds are mixed.
    """
    from speakervlad.evaluation.trials import read_trials
    from speakervlad.inference.recordings import (
        AUDIO_SUFFIXES,
        from_folder,
        from_manifest,
        from_names,
    )

    for path in inputs:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder.")
    first = inputs[0]
    if all(path.suffix.lower() in AUDIO_SUFFIXES and path.is_file() for path in inputs):
        return from_names([path.as_posix() for path in inputs], Path())
    if len(inputs) > 1:
        raise InputError(f"{first}: give one manifest, folder or trial list, or audio files only.")
    if first.is_dir():
        return from_folder(first)
    if first.suffix.lower() == ".csv":
        return from_manifest(first, root)
    return from_names(read_trials(first).names.tolist(), root or first.parent)
