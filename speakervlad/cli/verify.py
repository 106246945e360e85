"""The command that compares two recordings: ``verify``."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import console
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    BackendOption,
    ChannelOption,
    DeviceOption,
    EncoderOption,
    PrecisionOption,
)
from speakervlad.errors import InputError

if TYPE_CHECKING:
    from speakervlad.evaluation.calibration import Calibration

logger = logging.getLogger(__name__)

CALIBRATION_NAME = "calibration.json"
# What the model card calls too short to be fit for.
SHORT_SECONDS = 2.0


def verify(
    first: Annotated[Path, typer.Argument(help="A recording.")],
    second: Annotated[Path, typer.Argument(help="Another recording.")],
    encoder: EncoderOption = DEFAULT_ENCODER,
    threshold: Annotated[
        float | None, typer.Option(help="Decide here instead of at the encoder's EER threshold.")
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(help="Decide at the encoder's threshold for this false-acceptance rate."),
    ] = None,
    p_target: Annotated[
        float, typer.Option(help="Prior of the probability that a calibrated encoder states.")
    ] = 0.5,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
) -> None:
    """Say whether two recordings are of one speaker: exit code 0 same, 1 different, 2 error.

    With the file that `calibrate` writes beside the encoder, also how likely that is.
    """
    from speakervlad.inference.card import read_threshold
    from speakervlad.inference.engine import load_encoder

    check_options(threshold, far, p_target)
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    folder = embedder.folder or encoder
    if threshold is None:
        threshold = read_threshold(folder, embedder.backend.notes, far)
    calibration = find_calibration(folder)
    paths = (first, second)
    one, other = (embedder.embed_each([path], channel=channel)[0] for path in paths)
    score = float(one.vectors[0] @ other.vectors[0])
    said = [] if calibration is None else describe_calibrated(calibration, score, p_target)
    warn_of_short(dict(zip(paths, (one.seconds, other.seconds), strict=True)))
    same = score >= threshold
    console.print(f"score      {score:.4f}")
    console.print(f"threshold  {threshold:.4f}")
    console.print(f"decision   {'same speaker' if same else 'different speakers'}")
    for line in said:
        console.print(line)
    raise typer.Exit(0 if same else 1)


def check_options(threshold: float | None, far: float | None, p_target: float) -> None:
    """Refuse what no decision can be made by.

    Raises:
        InputError: two thresholds, one that is no number, or an impossible prior.
    """
    from speakervlad.evaluation.metrics import OperatingPoint

    if threshold is not None and far is not None:
        raise InputError("--threshold and --far both say where to decide. Give one of them.")
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold {threshold}: is not finite. Give a cosine, such as 0.5.")
    OperatingPoint(p_target)


def find_calibration(encoder: Path) -> "Calibration | None":
    """The calibration that lies beside an encoder, if there is one.

    Raises:
        InputError: it is damaged.
    """
    from speakervlad.evaluation.calibration import load_calibration
    from speakervlad.inference.card import companion

    path = companion(encoder, CALIBRATION_NAME)
    return load_calibration(path) if path.is_file() else None


def describe_calibrated(calibration: "Calibration", score: float, p_target: float) -> list[str]:
    """What a calibration makes of one score."""
    ratio = float(calibration.log_likelihood_ratio(score))
    probability = float(calibration.probability(ratio, p_target))
    return [
        f"log-likelihood ratio {ratio:.3f} (natural logarithm)",
        f"probability {probability:.2%} of the same speaker, at a prior of {p_target:g}",
    ]


def warn_of_short(seconds: dict[Path, float]) -> None:
    """A warning for every recording that is too short to tell much."""
    for path, length in seconds.items():
        if length < SHORT_SECONDS:
            logger.warning(
                "%s: %.2f s of audio: below %g s, errors are far more frequent than it seems.",
                path,
                length,
                SHORT_SECONDS,
            )
