"""Imports follow the layers of the packages, and scoring needs no torch."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_contracts_hold():
    # In a process of its own: import-linter configures logging and disables our loggers.
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    done = run(code)
    assert done.returncode == 0, done.stdout


MODULES = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "torch" not in sys.modules, name
"""


def test_modules_are_imported_without_torch():
    modules = (
        "speakervlad",
        "speakervlad.cli",
        "speakervlad.config",
        "speakervlad.audio.reading",
        "speakervlad.tables.manifest",
        "speakervlad.scoring.metrics",
        "speakervlad.scoring.scoring",
        "speakervlad.scoring.lists",
    )
    done = run(MODULES, *modules)
    assert done.returncode == 0, done.stderr


HELP = """
import sys
from speakervlad.cli import main
for command in ("", *sys.argv[1:]):
    sys.argv = ["speakervlad", *command.split(), "--help"]
    try:
        main()
    except SystemExit as done:
        assert not done.code, command
    assert not {"torch", "numpy", "sklearn"} & sys.modules.keys(), command
"""


def test_help_imports_neither_torch_nor_numpy():
    commands = ("train", "embed", "score", "metrics", "verify")
    done = run(HELP, *commands)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage") == 1 + len(commands)


NAMES = """
import sys
sys.modules["torch"] = None
import speakervlad
for name in sys.argv[1:]:
    try:
        getattr(speakervlad, name)
    except ImportError as error:
        print(error)
"""


def test_public_names_say_which_extra_they_need():
    names = ("NetVLAD", "SpeakerEncoder", "train")
    done = run(NAMES, *names)
    wanted = 'needs torch: pip install "speakervlad[train]"'
    assert done.stdout.splitlines() == [f"speakervlad.{name} {wanted}" for name in names]


METRICS = """
FORBIDDEN = ("speakervlad.audio", "speakervlad.encoder", "speakervlad.models")
import sys
from speakervlad.cli import main
sys.argv = ["speakervlad", "metrics", "S.txt", "--resamples", "2"]
try:
    main()
except SystemExit as done:
    assert not done.code
    heavy = {"torch", "soundfile", "soxr", "onnxruntime", "av"} & sys.modules.keys()
    assert not heavy, heavy
    ours = [name for name in sys.modules if name.startswith(FORBIDDEN)]
    assert not ours, ours
"""


def test_metrics_loads_neither_audio_nor_encoders(tmp_path):
    (tmp_path / "S.txt").write_text("a b 0.5 1\na c 0.4 1\na d 0.1 0\nb d 0.2 0\n")
    done = subprocess.run(
        [sys.executable, "-c", METRICS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "EER" in done.stdout
