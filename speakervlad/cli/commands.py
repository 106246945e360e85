"""Every command in the order of the work: each reads, calls one library function, writes."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo

from speakervlad import __version__
from speakervlad.cli import (
    adapt,
    adopt,
    calibrate_encoder,
    calibration,
    convert,
    data,
    der,
    diarization,
    embed,
    evaluation,
    examples,
    explain,
    export,
    info,
    label,
    listen,
    people,
    plda,
    quickstart,
    serve,
    speech,
    train,
    trials,
    verify,
)
from speakervlad.cli.console import be_quiet, notes, run
from speakervlad.errors import InputError
from speakervlad.remote import allow_private

app = typer.Typer(
    name="speakervlad",
    help="Speaker recognition with NetVLAD and GhostVLAD: train, embed, score, judge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "First steps": (
        quickstart.quickstart,
        examples.examples,
        verify.verify,
        info.info,
        serve.serve,
    ),
    "People": (people.identify,),
    "Recordings": (speech.speech, data.prepare, data.convert_audio, data.pack),
    "Training": (
        train.train,
        adapt.adapt,
        train.average,
        convert.convert,
        adopt.adopt,
        calibrate_encoder.calibrate_encoder,
        export.export,
    ),
    "Embeddings": (embed.embed, explain.explain, calibration.convert_embeddings),
    "Trials and scores": (
        evaluation.score,
        evaluation.metrics,
        evaluation.compare,
        evaluation.report,
        calibration.calibrate,
        calibration.fuse,
        plda.plda,
        calibration.convert_scores,
    ),
    "Who speaks when": (diarization.diarize, listen.listen, label.label, der.der),
}
# Commands of earlier versions, and what does their work in the repository now.
MOVED = {
    "bench-data": "python benchmarks/training_stages.py",
    "rooms": "python recipes/augmentation/rooms.py",
}
people_app = typer.Typer(help="Who is enrolled.", no_args_is_help=True)
PEOPLE = {
    "add": people.add,
    "list": people.list_people,
    "show": people.show,
    "recordings": people.recordings,
    "rename": people.rename,
    "forget": people.forget,
    "export": people.export_people,
    "import": people.import_people,
    "cohort": people.cohort,
}
trials_app = typer.Typer(help="Check and make trial lists.", no_args_is_help=True)
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors alone.")
]


class Command(TyperCommand):
    """A command that refuses an option which is given twice but holds one value."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore
        if any("--json-out" in each.opts for each in self.params):
            args = renamed_json(args)
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            # Switches may be repeated; one that has an opposite may not.
            holds_one = not (getattr(parameter, "is_flag", False) or parameter.multiple)
            if order.count(parameter) > 1 and (holds_one or parameter.secondary_opts):
                raise InputError(f"{parameter.opts[0]}: is given twice. Give it once.")
        return super().parse_args(ctx, args)


def renamed_json(words: list[str]) -> list[str]:
    """``--json FILE`` of earlier versions as ``--json-out FILE``; ``--json`` alone is a switch."""
    renamed = []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        is_old = word.startswith("--json=") or (
            word == "--json" and (after == "-" or after.endswith(".json"))
        )
        if is_old:
            notes.print("--json FILE is --json-out FILE now; --json prints")
        renamed.append(word.replace("--json", "--json-out", 1) if is_old else word)
    return renamed


def presentable(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with ``--quiet``, if it has none of its own, and arguments in capitals."""
    signature = inspect.signature(command)
    given = list(signature.parameters.values())
    for parameter in given:
        for described in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(described, ArgumentInfo):
                described.metavar = described.metavar or parameter.name.upper()
    if "quiet" in signature.parameters:
        return command

    @functools.wraps(command)
    def called(*, quiet: bool, **values: object) -> None:
        be_quiet(quiet)
        command(**values)

    quiet = inspect.Parameter(
        "quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet
    )
    vars(called)["__signature__"] = signature.replace(parameters=[*given, quiet])
    return called


def moved(name: str) -> Callable[[], None]:
    """A command that says where it is now, whatever it is given."""

    def command() -> None:
        raise InputError(f"{name}: is no command any more. In the repository: {MOVED[name]}")

    return command


for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(presentable(command))
for name in MOVED:
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(name, hidden=True, context_settings=settings)(moved(name))
for command in (trials.check, trials.make):
    trials_app.command(cls=Command)(presentable(command))
for name, command in PEOPLE.items():
    people_app.command(name, cls=Command)(presentable(command))
app.add_typer(people_app, name="people", rich_help_panel="People")
app.add_typer(trials_app, name="trials", rich_help_panel="Trials and scores")


def print_version(wanted: bool) -> None:
    """Answer ``--version`` and end."""
    if wanted:
        typer.echo(f"speakervlad {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_version, help="Print it and exit."),
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--allow-private",
            help="Let URLs lead to this machine and to private networks.",
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error too.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Options that come before any command."""
    allow_private(private)
    be_quiet(quiet)


def main() -> None:
    """Run the command line."""
    run(app)
