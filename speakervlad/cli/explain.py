"""The command that shows what a VLAD encoder does with a recording: ``explain``."""

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
    JsonOption,
    JsonOutOption,
    write_json,
)
from speakervlad.errors import InputError
from speakervlad.files import STANDARD_OUTPUT, check_writable

if TYPE_CHECKING:
    import numpy as np

    from speakervlad.encoder.explain import Explanation


def explain(
    recording: Annotated[Path, typer.Argument(help="A recording.")],
    other: Annotated[
        Path | None, typer.Argument(help="Another: what each cluster adds to their cosine.")
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    out: Annotated[
        Path | None, typer.Option(help="Draw spectrogram and weights (.png, .svg, .pdf).")
    ] = None,
    as_json: JsonOption = False,
    json_out: JsonOutOption = None,
    noise: Annotated[
        float | None,
        typer.Option(help="First put so many seconds of white noise into the recording."),
    ] = None,
    noise_at: Annotated[
        float | None, typer.Option(help="Where, in seconds; in the middle by default.")
    ] = None,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
) -> None:
    """Show which clusters and ghosts take which part of a recording.

    Example: speakervlad explain a.wav --noise 2 --out a.png
    """
    from speakervlad.audio.recording import Recording
    from speakervlad.encoder import explain as library
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.figures import save_figure

    check_options(out, json_out, noise, noise_at)
    embedder = load_encoder(encoder, device=device, backend=backend)
    embedder.check_clusters()
    paths = [recording] if other is None else [recording, other]
    audio = [library.samples_of(Recording(path, channel=channel)) for path in paths]
    spans = []
    if noise is not None:
        audio[0], span = library.with_noise(audio[0], noise, at=noise_at)
        spans = [span]
    explained = [library.explain(embedder, samples) for samples in audio]
    parts = None
    if other is not None:
        sums = (embedder.frames.sums(each.wave) for each in map(Recording.of, audio))
        parts = library.contributions(embedder, *sums)
    is_printed = as_json or json_out == STANDARD_OUTPUT
    if not is_printed:
        print_shares(list(zip(paths, explained, strict=True)), spans)
        if parts is not None:
            print_parts(parts)
    numbers = numbers_of(dict(zip(map(str, paths), explained, strict=True)), parts, spans)
    write_json(numbers, json_out, printed=as_json)
    if out is not None:
        names = [path.name for path in paths]
        figure = library.explanation_figure(list(zip(names, explained, strict=True)), parts, spans)
        save_figure(figure, out)


def check_options(
    out: Path | None, json_out: Path | None, noise: float | None, noise_at: float | None
) -> None:
    """Refuse, before the work, what cannot be drawn or written.

    Raises:
        InputError: an output that cannot be written, or a place for no noise.
    """
    from speakervlad.figures import check_drawable, check_picture

    if noise is None and noise_at is not None:
        raise InputError("--noise-at goes with --noise.")
    if out is not None:
        check_picture(out)
        check_drawable()
    for path in filter(None, (out, json_out)):
        check_writable(path)


def print_shares(
    explained: "list[tuple[Path, Explanation]]", spans: list[tuple[float, float]]
) -> None:
    """Counts and the weight of the ghosts, a few lines a recording."""
    for path, each in explained:
        num_ghosts = len(each.shares) - each.num_clusters
        console.print(
            f"{path}: {each.num_clusters} clusters, ghosts: {num_ghosts}, "
            f"{each.shares.shape[1]} frames in {each.seconds:.2f} s"
        )
        console.print(f"ghosts     {each.ghost_share():.1%} of the weight")
    _, first = explained[0]
    for begin, end in spans:
        console.print(
            f"noise      {begin:.2f} to {end:.2f} s: ghosts have "
            f"{first.ghost_share(begin, end):.1%} inside, "
            f"{first.ghost_share(begin, end, inside=False):.1%} outside"
        )


def print_parts(parts: "np.ndarray") -> None:
    """The cosine, and what adds up to it."""
    console.print(f"cosine     {parts.sum():.4f}")
    for number, part in enumerate(parts[:-1], 1):
        console.print(f"cluster {number:<3d}{part:+.4f}")
    console.print(f"rest       {parts[-1]:+.4f} (bias and mean of the encoder)")


def numbers_of(
    explained: "dict[str, Explanation]",
    parts: "np.ndarray | None",
    spans: list[tuple[float, float]],
) -> dict[str, object]:
    """The numbers of the picture, but the spectrograms."""
    return {
        "recordings": {name: each.to_json() for name, each in explained.items()},
        "noise": spans,
        "contributions": None if parts is None else parts.tolist(),
    }
