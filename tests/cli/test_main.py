"""No failure looks like an answer: exit codes of everything that can end a command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from speakervlad.cli import commands, main
from speakervlad.cli.commands import MOVED
from speakervlad.scoring.points import OperatingPoint

ENDLESS = """
import sys, time
from speakervlad.cli import commands
def slow() -> None:
    "Never ends."
    print("started", flush=True)
    time.sleep(60)
commands.app.command()(slow)
sys.argv = ["speakervlad", "slow"]
commands.main()
"""


@pytest.fixture
def broken_verify(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("nobody\nexpected this")

    monkeypatch.setattr(OperatingPoint, "__init__", fail)
    return ["verify", "a.wav", "b.wav"]


@pytest.mark.parametrize("debug", [False, True])
def test_an_unexpected_error_is_one_line_and_exit_code_2(broken_verify, monkeypatch, capfd, debug):
    words = ["--debug"] * debug + broken_verify
    monkeypatch.setattr(sys, "argv", ["speakervlad", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capfd.readouterr().err
    assert "error: nobody expected this (ZeroDivisionError; --debug" in shown
    assert ("Traceback" in shown) == debug
    assert debug or shown.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="closes a pipe as POSIX does")
def test_a_closed_pipe_is_no_answer():
    command = f"{sys.executable} -m speakervlad info | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_no_answer():
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.communicate()[1] == "interrupted\n"


@pytest.mark.parametrize("module", ["numpy", "rich", "typer"])
def test_a_dependency_that_cannot_be_imported_is_no_answer(tmp_path, module):
    (tmp_path / f"{module}.py").write_text("raise ImportError('its library\\nis broken')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    command = [sys.executable, "-m", "speakervlad", "verify", "a.wav", "b.wav"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "its library is broken" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_option_that_holds_one_value_is_given_once(run, capsys):
    assert (
        run("score", "x.trials", "--embeddings", "a.npz", "--embeddings=b.npz", "--out", "o") == 2
    )
    assert capsys.readouterr().err == "error: --embeddings: is given twice. Give it once.\n"


def commands_of(group, words=()):
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands_of(found, (*words, name))
        else:
            yield (*words, name), found


ALL = dict(commands_of(typer.main.get_command(commands.app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_refuses_a_repeated_option(run, capsys, words):
    single = [
        option.opts[0]
        for option in ALL[words].params
        if option.param_type_name == "option" and not option.is_flag and not option.multiple
    ]
    for option in single:
        assert run(*words, option, "1", option, "2") == 2
        assert f"{option}: is given twice" in capsys.readouterr().err


def test_an_override_is_given_once(run, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("train: {steps: 3}")
    assert run("train", tmp_path / "c.yaml", "train.steps=1", "train.steps=2") == 2
    assert "train.steps: given twice" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("mine.yaml", "--batches", "3"), ("--help",)])
@pytest.mark.parametrize("name", MOVED)
def test_a_command_that_has_moved_says_where_it_is(run, capsys, name, words):
    assert run(name, *words) == 2
    message = capsys.readouterr().err
    script = MOVED[name].removeprefix("python ")
    assert message == f"error: {name}: is no command any more. In the repository: {MOVED[name]}\n"
    assert (Path(__file__).parents[2] / script).is_file()
