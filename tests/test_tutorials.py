"""The tutorials: their commands run in order, and print what stands there, digits aside."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("[!i]*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A number, and white space around it, whose width depends on it.
NUMBER = re.compile(r" *-?\d+(?:[.,:]\d+)*")
TIMEOUT_SECONDS = 900


def blocks(text):
    """Pairs of what is run, as a language and its code, and of what stands there as its output."""
    found = BLOCK.findall(text)
    for (language, code), after in zip(found, [*found[1:], ("", "")], strict=True):
        if language in ("sh", "python"):
            yield language, code, after[1] if after[0] == "text" else None


def pattern(shown):
    """What an output matches: any number for a number, any lines for a line of three dots."""
    lines = [
        r"(?:.*\n)*?"
        if line == "..."
        else r" *-?\d+(?:[.,:]\d+)*".join(map(re.escape, NUMBER.split(line))) + r" *\n"
        for line in shown.splitlines()
    ]
    return re.compile("".join(lines))


def run(language, code, folder, exported):
    """Run a block as a reader would in one terminal; returns what is printed."""
    exports = "".join(f"export {each}\n" for each in exported)
    command = {
        "sh": ["bash", "-eu", "-o", "pipefail", "-c", exports + code],
        "python": [sys.executable, "-c", code],
    }[language]
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(folder / "data"),
        "COLUMNS": "200",
    }
    environment.pop("SPEAKERVLAD_STORE", None)
    done = subprocess.run(
        command, cwd=folder / "work", env=environment, capture_output=True, text=True,
        check=False, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """An empty folder to work in, and ``speakervlad`` of this checkout on the path."""
    for name in ("work", "bin", "data"):
        (tmp_path / name).mkdir()
    command = tmp_path / "bin/speakervlad"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m speakervlad "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="blocks of a shell")
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_prints_what_it_shows(path, folder):
    exported: list[str] = []
    for language, code, shown in blocks(path.read_text("utf-8")):
        printed = run(language, code, folder, exported)
        if language == "sh":
            exported += re.findall(r"^export (.*)$", code, re.MULTILINE)
        if shown is not None:
            assert pattern(shown).fullmatch(printed), f"{code}\n{printed}"


def test_there_are_tutorials_with_outputs():
    assert len(TUTORIALS) >= 6
    for path in TUTORIALS:
        shown = [shown for _, _, shown in blocks(path.read_text("utf-8")) if shown]
        assert shown, path.name


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("score       0.65\n", "score       -0.7\n", True),
        ("EER 1.0% [0.3, 2]\n", "EER 12.25% [0.31, 24.0]\n", True),
        ("a\n...\nb\n", "a\nx\ny\nb\n", True),
        ("a\n...\n", "a\n", True),
        ("a  1 x\n", "a 100 x\n", True),
        ("decision same\n", "decision different\n", False),
        ("a\n", "a\nb\n", False),
        ("a\n1\n", "a\n", False),
    ],
)
def test_outputs_are_compared_with_any_number_for_a_number(shown, printed, is_same):
    assert bool(pattern(shown).fullmatch(printed)) == is_same
