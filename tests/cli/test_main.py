"""No failure looks like an answer: exit codes of everything that can end a command."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speakervlad.cli import main
from speakervlad.cli.commands import MOVED
from speakervlad.scoring.metrics import OperatingPoint

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


@pytest.mark.parametrize("words", [(), ("mine.yaml", "--batches", "3"), ("--help",)])
@pytest.mark.parametrize("name", MOVED)
def test_a_command_that_has_moved_says_where_it_is(run, capsys, name, words):
    assert run(name, *words) == 2
    message = capsys.readouterr().err
    script = MOVED[name].removeprefix("python ")
    assert message == f"error: {name}: is no command any more. In the repository: {MOVED[name]}\n"
    assert (Path(__file__).parents[2] / script).is_file()
