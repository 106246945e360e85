import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speakervlad.corpus.work import map_parallel

SCRIPT = """
from functools import partial
from test_work import note
from speakervlad.corpus.work import map_parallel
if __name__ == "__main__":
    work = partial(note, folder={folder!r})
    map_parallel(work, [60] * 4, num_workers=2, min_items_per_worker=1, description="")
"""


def note(seconds, folder):
    (Path(folder) / f"{os.getpid()}.txt").touch()
    time.sleep(seconds)
    return os.getpid()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def lives(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_order_is_kept(tmp_path):
    found = map_parallel(abs, list(range(-9, 1)), min_items_per_worker=1, description="")
    assert found == list(range(9, -1, -1))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_leave_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path)))
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": path}) as main:
        assert until(lambda: len(list(tmp_path.glob("*.txt"))) == 2)
        main.send_signal(signal.SIGKILL)
    workers = [int(file.stem) for file in tmp_path.glob("*.txt")]
    assert until(lambda: not any(map(lives, workers)), seconds=20)
