"""Imports follow the layers of the packages, and scoring needs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_import_contracts_hold():
    # In a process of its own: import-linter configures logging and disables our loggers.
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "speakervlad",
        "speakervlad.cli",
        "speakervlad.config",
        "speakervlad.data.audio",
        "speakervlad.data.manifest",
        "speakervlad.evaluation.metrics",
        "speakervlad.evaluation.scoring",
        "speakervlad.evaluation.lists",
    ],
)
def test_module_is_imported_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", [[], ["train"], ["embed"], ["score"], ["metrics"], ["verify"]])
def test_help_imports_neither_torch_nor_numpy(command):
    code = (
        f"import sys; sys.argv = ['speakervlad', *{command!r}, '--help']\n"
        "from speakervlad.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "sys.exit(bool({'torch', 'numpy', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("name", ["NetVLAD", "SpeakerEncoder", "train"])
def test_public_name_says_which_extra_it_needs(name):
    code = f"import sys; sys.modules['torch'] = None\nfrom speakervlad import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'speakervlad.{name} needs torch: pip install "speakervlad[train]"' in done.stderr
