"""What needs no torch works where modules and signals of POSIX are missing, as on Windows.

They are hidden in a process of their own; nothing was run on Windows itself.
"""

import subprocess
import sys

HIDDEN = """
import os, signal, sys

for name in ("fcntl", "resource", "torch", "torchaudio", "openvino"):
    sys.modules[name] = None
for name in ("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP",
             "SIGUSR1", "SIGUSR2", "alarm", "pthread_kill", "pthread_sigmask", "setitimer",
             "sigwait"):
    delattr(signal, name)
for name in ("fchown", "getuid", "geteuid", "mkfifo", "sched_getaffinity"):
    delattr(os, name)
"""
COMMANDS = """
from speakervlad import examples
from speakervlad.cli import main

clips = {name: str(path) for name, path in examples().items()}
store = ["--store", "people.db"]
for words in (
    ["verify", clips["alex-1"], clips["alex-2"]],
    ["people", "add", "Alex", clips["alex-1"], *store],
    ["identify", clips["alex-2"], *store],
    ["people", "list", *store],
):
    sys.argv = ["speakervlad", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


def test_recordings_are_compared_and_people_enrolled(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN + COMMANDS],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "decision    same speaker" in done.stdout
    assert "Alex: 1 recording added" in done.stdout
    assert "alex-2.opus  Alex" in done.stdout


def test_every_module_without_torch_can_be_imported(tmp_path):
    code = """
import importlib, pkgutil, speakervlad

for found in pkgutil.walk_packages(speakervlad.__path__, "speakervlad."):
    try:
        found.name.endswith("__main__") or importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        missing = error.name.partition(".")[0]
        assert missing in ("torch", "torchaudio", "openvino"), (found.name, error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HIDDEN + code],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
