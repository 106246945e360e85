"""The tutorials: their commands run in order, and print what stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("[!i]*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DATE = r"\d{4}-\d\d-\d\d"
# A number, and white space around it, whose width depends on it.
NUMBER = re.compile(rf" *(?:{DATE}|-?\d+(?:[.,:]\d+)*)")
# How far a number with a decimal point may be from what is shown: processors differ.
RELATIVE, ABSOLUTE = 0.02, 0.015
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
        else f"({NUMBER.pattern})".join(map(re.escape, NUMBER.split(line))) + r" *\n"
        for line in shown.splitlines()
    ]
    return re.compile("".join(lines))


def is_as_shown(shown, printed):
    """Whether the words are the same, and each number is near the one that is shown."""
    found = pattern(shown).fullmatch(printed)
    return found is not None and all(map(is_near, NUMBER.findall(shown), found.groups()))


def is_near(shown, printed):
    """Whole numbers are equal, others near, and any day is right for a day."""
    if re.fullmatch(f" *{DATE}", shown):
        return re.fullmatch(f" *{DATE}", printed) is not None
    distance = abs(number(shown) - number(printed))
    if not re.search("[.,:]", shown):
        return distance == 0
    least = 1.0 if re.fullmatch(" *[0-9:]+", shown) else ABSOLUTE
    return distance <= max(least, RELATIVE * abs(number(shown)))


def number(text):
    """1:02:03.5, of a clock, in seconds; a comma is a decimal point, as in subtitles."""
    value = 0.0
    for part in text.strip().replace(",", ".").split(":"):
        value = 60 * value + float(part)
    return value


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
            assert is_as_shown(shown, printed), f"{code}\n{printed}"


def test_there_are_tutorials_with_outputs():
    assert len(TUTORIALS) >= 6
    for path in TUTORIALS:
        shown = [shown for _, _, shown in blocks(path.read_text("utf-8")) if shown]
        assert shown, path.name


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("score       0.65\n", "score       0.66\n", True),
        ("score       0.65\n", "score       0.67\n", False),
        ("score       0.65\n", "score       -0.65\n", False),
        ("EER 12.0% [0.3, 24.5]\n", "EER 12.2% [0.31, 24.1]\n", True),
        ("EER 12.0% [0.3, 24.5]\n", "EER 12.2% [0.31, 25.1]\n", False),
        ("on 2026-11-30, 3\n", "on 2027-01-02, 3\n", True),
        ("on 2026-11-30, 3\n", "on 2026-11-30, 4\n", False),
        ("00:01:08,544 --> 1:02\n", "00:01:09,544 --> 1:03\n", True),
        ("00:01:08,544 --> 1:02\n", "00:02:08,544 --> 1:02\n", False),
        ("a\n...\nb\n", "a\nx\ny\nb\n", True),
        ("a\n...\n", "a\n", True),
        ("a  1.0 x\n", "a 1.005 x\n", True),
        ("a 100 x\n", "a 101 x\n", False),
        ("decision same\n", "decision different\n", False),
        ("a\n", "a\nb\n", False),
        ("a\n1\n", "a\n", False),
    ],
)
def test_outputs_are_compared_word_by_word_and_their_numbers_nearly(shown, printed, is_same):
    assert is_as_shown(shown, printed) == is_same
