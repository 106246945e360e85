"""Writes ``docs/reference/commands.md``, every command with its options, from the command line.

Run it after a change of a command: ``python docs/make_commands.py``. A test compares.
"""

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

from speakervlad.cli import app
from speakervlad.cli.commands import MOVED

PAGE = Path(__file__).parent / "reference" / "commands.md"
HEAD = """# Every command

Made from the command line by `python docs/make_commands.py`; `speakervlad COMMAND --help` prints
the same. The [overview](../commands.md) has exit codes and what all commands share.
"""
# Options of every command.
SHARED = {"--help", "--quiet"}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *lines_of(typer.main.get_command(app), ())])


def lines_of(command: Any, names: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - of click
    """A command, or those below it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield from section(command, names)
        return
    for name, each in below.items():
        if name not in MOVED:
            yield from lines_of(each, (*names, name))


def section(command: Any, names: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - of click
    """The help of one command: what it does, an example, its arguments and options."""
    title = " ".join(names)
    *text, example = inspect.cleandoc(command.help).splitlines()
    arguments, options = split(command.params)
    usage = " ".join(argument_usage(each) for each in arguments)
    yield from (f"## {title}", "", *text)
    yield from ("```sh", f"speakervlad {title} [OPTIONS] {usage}".rstrip())
    yield from (example.removeprefix("Example: "), "```", "")
    yield from table("argument", [argument_row(each) for each in arguments])
    yield from table("option", [option_row(each) for each in options])


def argument_usage(argument: Any) -> str:  # noqa: ANN401 - of click
    """An argument as a line of usage has it."""
    name = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def value_of(option: Any) -> str:  # noqa: ANN401 - of click
    """What an option takes, with a space before it; nothing for a switch."""
    if option.is_flag:
        return ""
    if isinstance(option.default, Enum):
        return f" {{{','.join(each.value for each in type(option.default))}}}"
    return f" {option.metavar or option.opts[0].lstrip('-').upper()}"


def split(parameters: list[Any]) -> tuple[list[Any], list[Any]]:
    """Arguments, and the options that not every command has."""
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    options = [each for each in parameters if each.param_type_name != "argument"]
    return arguments, [each for each in options if not SHARED & set(each.opts)]


def argument_row(argument: Any) -> str:  # noqa: ANN401 - of click
    """An argument, and whether it may be left out."""
    words = [cell(argument.help or "")]
    if not argument.required and argument.default not in (None, ()):
        words.append(f"Default: `{argument.default}`.")
    return f"| `{argument.metavar or argument.name.upper()}` | {' '.join(words).strip()} |"


def option_row(option: Any) -> str:  # noqa: ANN401 - of click
    """An option, its value, what it does and its default."""
    spelt = " / ".join([*option.opts, *option.secondary_opts])
    words = [cell(option.help or "")]
    if option.required:
        words.append("Required.")
    elif option.secondary_opts:
        words.append(f"Default: `{(option.opts if option.default else option.secondary_opts)[0]}`.")
    elif not option.is_flag and option.default not in (None, ()):
        words.append(f"Default: `{getattr(option.default, 'value', option.default)}`.")
    if option.envvar:
        words.append(f"Environment: `{option.envvar}`.")
    return f"| `{spelt}{value_of(option)}` | {' '.join(words).strip()} |"


def table(head: str, rows: list[str]) -> Iterator[str]:
    """A table of Markdown and an empty line, if there is anything in it."""
    if rows:
        yield from (f"| {head} | meaning |", "|---|---|", *rows, "")


def cell(text: str) -> str:
    """One line for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
