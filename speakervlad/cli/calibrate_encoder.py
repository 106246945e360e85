"""``calibrate-encoder``: where an encoder decides, learnt from recordings of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import console
from speakervlad.cli.options import BackendOption, DeviceOption, ManifestOption, read_manifest

if TYPE_CHECKING:
    from speakervlad.verification.listed import Learnt


def calibrate_encoder(
    encoder: Annotated[
        Path, typer.Argument(help="default, small, an encoder folder, or an .onnx file.")
    ],
    trials: Annotated[
        list[Path], typer.Argument(help="Trial lists with labels; each has the same weight.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for a copy of the encoder; the default one needs it."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the recordings, if not that of the list.")
    ] = None,
    manifest: ManifestOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
) -> None:
    """Learn an encoder's thresholds and calibration from trials of recordings it did not train on.

    Example: speakervlad calibrate-encoder default L.trials --out mine
    """
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.verification.listed import TrialList, calibrate_encoder

    known = read_manifest(manifest)
    lists = [TrialList.read(path, root, known) for path in trials]
    embedder = load_encoder(encoder, device=device, backend=backend)
    for line in describe(calibrate_encoder(embedder, lists, out)):
        console.print(line)


def describe(learnt: "Learnt") -> list[str]:
    """What was learnt, and where it is."""
    from speakervlad.verification.known import SHOWN_RATES

    thresholds, calibration = learnt.thresholds, learnt.calibration
    counts = f"{calibration.num_target} target and {calibration.num_nontarget} impostor trials"
    told = [rate for rate in SHOWN_RATES if rate in thresholds.false_accept_rate]
    rates = sorted(thresholds.false_accept_rate)
    return [
        f"{len(thresholds.eer_by_list)} lists, {counts}",
        f"threshold   {thresholds.eer:.4f} at the equal error rate",
        *(f"FAR {100 * rate:g} %".ljust(12) + f"{thresholds.at(rate):.4f}" for rate in told),
        f"--far       {f'any rate from {rates[0]:g} to {rates[-1]:g}' if rates else 'none'}",
        f"calibration log-likelihood ratio = {calibration.weights[0]:.4g} x cosine "
        f"{calibration.bias:+.4g}",
        f"encoder     {learnt.encoder}",
    ]
