"""Documents name commands, options, experiments and files that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from speakervlad.cli import app
from speakervlad.cli.commands import MOVED

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"^\| command \|.*\n.*\n((?:\|.*\n)+)", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CONFIG = re.compile(r"\bconf/\w+\.yaml")
ENDS_COMMAND = {"&&", "||", "|", ";", "(", ")"}
COMES_BEFORE = {*ENDS_COMMAND, "do", "-m"}
ENVIRONMENT = re.compile(r"\w+=.*")
COMMAND = typer.main.get_command(app)
for moved in MOVED:
    # Documents name where they are now.
    del COMMAND.commands[moved]


def documents():
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    return sorted(ROOT / name for name in listed) or sorted(ROOT.rglob("*.md"))


def commands_in(text):
    """The words after ``speakervlad`` of every command in the fenced blocks."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&")
            lexer.whitespace_split = True
            words = list(lexer)
            for start, word in enumerate(words):
                before = words[start - 1] if start else "do"
                if word != "speakervlad" or not (
                    before in COMES_BEFORE or ENVIRONMENT.fullmatch(before)
                ):
                    continue
                rest = words[start + 1 :]
                end = next((at for at, word in enumerate(rest) if word in ENDS_COMMAND), None)
                yield rest[:end]


def commands_in_table(text):
    """The words of every command in the first column, and with each option in the second."""
    for table in TABLE.findall(text):
        for row in table.splitlines():
            _, first, second, _ = row.split("|")
            commands = [
                code.replace("[", "").replace("]", "").split() for code in CODE.findall(first)
            ]
            options = [code.split() for code in CODE.findall(second) if code.startswith("-")]
            yield from commands
            yield from ([*command, *option] for command in commands for option in options)


def wrong_with(words):
    """What the command line would not understand, or nothing."""
    command, rest = COMMAND, list(words)
    while subcommands := getattr(command, "commands", None):
        if rest and rest[0].startswith("-"):
            break
        name = rest.pop(0) if rest else ""
        if name not in subcommands:
            return f"no command {name!r}"
        command = subcommands[name]
    known = {"--help", "-"}  # - is standard input
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    options = [word.partition("=")[0] for word in rest if word.startswith("-")]
    unknown = [option for option in options if option not in known]
    return f"{words[0]} has no {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_what_exists(path):
    text = path.read_text(encoding="utf-8")
    commands = [*commands_in(text), *commands_in_table(text)]
    wrong = {" ".join(words): wrong_with(words) for words in commands}
    assert {command: reason for command, reason in wrong.items() if reason} == {}
    assert [name for name in CONFIG.findall(text) if not (ROOT / name).is_file()] == []
    links = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("speakervlad convert-audio a b --to wav", "convert-audio has no --to"),
        ("torchrun -m speakervlad trane a.yaml", "no command 'trane'"),
        ("speakervlad trials draw m.csv", "no command 'draw'"),
        ("(speakervlad score a \\\n    --top=3 --best 4 | cat -n)", "score has no --best"),
        ("speakervlad --version", ""),
        ("speakervlad --verson", "--verson has no --verson"),
        ("A=1 speakervlad info && ls --no-such", ""),
        ("for a in b; do speakervlad average a $(ls -d b); done", ""),
        ("speakervlad prepare a b --no-decode  # --not-an-option", ""),
    ],
)
def test_mistakes_are_found(text, reason):
    (words,) = commands_in(f"```sh\n{text}\n```\n")
    assert wrong_with(words) == reason


def test_the_page_of_commands_lists_every_command():
    page = (ROOT / "docs/commands.md").read_text("utf-8")
    listed = [words[0] for words in commands_in_table(page)]
    assert set(listed) == COMMAND.commands.keys()


def every_command(command, *names):
    for name, below in getattr(command, "commands", {}).items():
        yield from every_command(below, *names, name)
    if not hasattr(command, "commands"):
        yield names, command


@pytest.mark.parametrize(("names", "command"), [*every_command(COMMAND)], ids=str)
def test_the_help_of_every_command_ends_with_an_example_that_can_be_typed(names, command):
    example = command.help.splitlines()[-1]
    start, *words = shlex.split(example.removeprefix("Example: "))
    assert start == "speakervlad"
    assert tuple(words[: len(names)]) == names
    assert command.make_context(names[-1], words[len(names) :])
    assert len(example) <= 78
    assert {"--quiet", "-q"} <= {name for option in command.params for name in option.opts}


def test_mistakes_in_a_table_are_found():
    text = (
        "| command | what it does |\n|---|---|\n"
        "| `score TRIALS [--embedings E.npz]`, `fuse` | scores |\n"
        "| `export DIR` | `--int9 RECORDINGS` computes in `int8` |\n"
    )
    found = [wrong_with(words) for words in commands_in_table(text)]
    assert found == ["score has no --embedings", "", "", "export has no --int9"]


def test_the_page_of_vlad_quotes_code_that_exists():
    """Every line of its Python blocks stands in the file that is named last before the block."""
    page = (ROOT / "docs/vlad.md").read_text("utf-8")
    quoted = 0
    for block in re.finditer(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        source = re.findall(r"`((?:speakervlad|recipes)/[\w/]+\.py)`", page[: block.start()])[-1]
        lines = set((ROOT / source).read_text("utf-8").splitlines())
        missing = [line for line in block[1].splitlines() if line not in lines]
        assert missing == [], source
        quoted += len(block[1].splitlines())
    assert quoted > 20


@pytest.mark.parametrize(
    ("name", "count"),
    [("README.md", 1), ("docs/people.md", 1), ("docs/page.md", 1), ("docs/security.md", 1),
     ("docs/embedding.md", 2)],  # of `verify`, and of live audio
)  # fmt: skip
def test_who_relies_on_a_voice_reads_what_is_not_detected(name, count):
    said = "Nothing here detects synthetic, converted or replayed voices."
    assert (ROOT / name).read_text().count(said) >= count
