"""The command that compares two recordings: ``verify``."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
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
    SpeechOnlyOption,
)
from speakervlad.errors import InputError

if TYPE_CHECKING:
    from speakervlad.audio.recording import AudioLike
    from speakervlad.scoring.points import OperatingPoint
    from speakervlad.verification.rules import Verification

STANDARD_INPUT = "-"
Names = tuple[str, str]


def verify(
    first: Annotated[
        str | None, typer.Argument(help="A recording; `call.wav:1` is its second channel.")
    ] = None,
    second: Annotated[
        str | None, typer.Argument(help="Another. `-` in place of one: standard input.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Compare the pairs of this list instead: two names in every line."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the list's names, if not that of the list.")
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    threshold: Annotated[
        float | None, typer.Option(help="Decide at this cosine, not by the calibration.")
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(help="Decide at the encoder's threshold for this false-acceptance rate."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Decide by this calibration.json, not by the encoder's.")
    ] = None,
    p_target: Annotated[
        float | None, typer.Option(help="Prior that the calibration decides at.  [default: 0.5]")
    ] = None,
    c_miss: Annotated[
        float | None, typer.Option(help="Cost of taking one speaker for two.  [default: 1]")
    ] = None,
    c_fa: Annotated[
        float | None, typer.Option(help="Cost of taking two speakers for one.  [default: 1]")
    ] = None,
    speech_only: SpeechOnlyOption = False,
    any_sound: Annotated[
        bool, typer.Option("--any-sound", help="Compare recordings without speech, too.")
    ] = False,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing: exit code only.")
    ] = False,
) -> None:
    """Say whether two recordings are of one speaker: exit code 0 same, 1 different, 2 error.

    The encoder's calibration decides, at a prior and costs, or a threshold if one is asked for.
    Synthetic, converted and replayed voices are not detected.

    Example: speakervlad verify a.wav b.wav --far 0.001
    """
    from speakervlad.audio.recording import Recording
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.scoring.calibration import load_calibration
    from speakervlad.verification.verifier import Verifier

    names = pairs_of(first, second, pairs)
    point = operating_point(p_target, c_miss, c_fa)
    own = None if calibration is None else load_calibration(calibration)
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    verifier = Verifier(embedder, own)
    rule = verifier.rule(threshold=threshold, far=far, point=point)
    folder = (root or pairs.parent) if pairs is not None else None
    recordings = {
        name: Recording(place(name, folder), channel=channel, speech_only=speech_only)
        for name in dict.fromkeys(name for pair in names for name in pair)
    }
    compared = [(recordings[one], recordings[other]) for one, other in names]
    answers = list(verifier.verify_pairs(compared, rule, any_sound=any_sound))
    if pairs is None and isinstance(answers[0], InputError):
        raise answers[0]
    if not quiet:
        show(names, answers, as_json=json_out, in_list=pairs is not None)
    raise typer.Exit(exit_code(answers))


def pairs_of(first: str | None, second: str | None, listed: Path | None) -> list[Names]:
    """The names of the recordings to compare.

    Raises:
        InputError: not two recordings or a list, or standard input twice.
    """
    from speakervlad.scoring.lists import read_pairs

    if listed is not None:
        if first is not None:
            raise InputError(f"{first}: give two recordings, or --pairs alone.")
        return read_pairs(listed)
    if first is None or second is None:
        raise InputError("give two recordings to compare, or --pairs with a list of them.")
    if first == second == STANDARD_INPUT:
        raise InputError("standard input holds one recording. Give a file for the other.")
    return [(first, second)]


def operating_point(
    p_target: float | None, c_miss: float | None, c_fa: float | None
) -> "OperatingPoint | None":
    """Prior and costs, where any of them is given.

    Raises:
        InputError: impossible ones.
    """
    from speakervlad.scoring.points import OperatingPoint

    given = {"p_target": p_target, "c_miss": c_miss, "c_fa": c_fa}
    given = {name: value for name, value in given.items() if value is not None}
    return OperatingPoint(**({"p_target": 0.5} | given)) if given else None


def place(name: str, folder: Path | None) -> "AudioLike":
    """Where a name's recording is: in the list's folder, or, for ``-``, in standard input."""
    if folder is None and name == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    return name if folder is None else str(folder / name)


def show(
    names: Sequence[Names],
    answers: "Iterable[Verification | InputError]",
    *,
    as_json: bool,
    in_list: bool,
) -> None:
    """Print the answers: as JSON, one a line, or at length where there is one."""
    for (one, other), answer in zip(names, answers, strict=True):
        if as_json:
            found = {"error": str(answer)} if isinstance(answer, InputError) else asdict(answer)
            typer.echo(json.dumps({"first": one, "second": other} | found, ensure_ascii=False))
        elif in_list:
            reason = str(answer) if isinstance(answer, InputError) else "; ".join(answer.doubts)
            typer.echo("\t".join([*columns(answer), one, other, *([reason] if reason else [])]))
        elif not isinstance(answer, InputError):
            for line in describe(answer):
                console.print(line)


def columns(answer: "Verification | InputError") -> list[str]:
    """Decision, score, and probability if there is one."""
    if isinstance(answer, InputError):
        return ["error", "", ""]
    chance = "" if answer.probability is None else f"{answer.probability:.2%}"
    return ["same" if answer.same else "different", f"{answer.score:.4f}", chance]


def describe(answer: "Verification") -> list[str]:
    """What is known of one pair, and what decided."""
    lines = [
        f"score       {answer.score:.4f}",
        f"threshold   {answer.threshold:.4f}",
        f"decision    {'same speaker' if answer.same else 'different speakers'}"
        f"{', but not to be trusted' if answer.doubts else ''}",
        *(f"doubt       {doubt}" for doubt in answer.doubts),
    ]
    if answer.probability is not None:
        lines.append(f"probability {answer.probability:.2%} of the same speaker")
    if answer.log_likelihood_ratio is not None:
        lines.append(
            f"evidence    {answer.log_likelihood_ratio:.3f} (log-likelihood ratio, natural)"
        )
    return [*lines, f"decided by  {answer.rule}"]


def exit_code(answers: "Sequence[Verification | InputError]") -> int:
    """2 if some have no answer, 1 if some are of different speakers, else 0."""
    if any(isinstance(answer, InputError) for answer in answers):
        return 2
    return 0 if all(answer.same for answer in answers if not isinstance(answer, InputError)) else 1
