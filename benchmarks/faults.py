"""Faults on purpose: damaged inputs for every reader, kills of commands, odd requests to the page.

    python benchmarks/faults.py inputs --count 100000 --state inputs.json
    python benchmarks/faults.py kills --count 1000 --state kills.json
    python benchmarks/faults.py requests --count 5000 --state requests.json

Damaged inputs: a reader may read a file or refuse it by `InputError`; any other exception, the end
of its process, more than 20 s of processor time or of a gigabyte above what it takes for the good
file is a finding, and so is a value that cannot be (`fault_checks.py`): a number that is none, a
vector of another length, a cosine above 1, a list that is another one when it is written and read
again. Stores of people are asked whose a voice is. "otherwise" counts what was read, is possible,
and is not what the good file holds.

Kills: a command is killed by SIGKILL again and again and then runs to its end; what it leaves must
be, bit for bit and file for file, what an undisturbed run leaves; of a store, its names, sums and
vectors as SQLite has them. A verb of `people` leaves the store at every moment as before it or
after it, and nothing of what is forgotten.

Requests: an HTTP client sends damaged requests to a server of the page. A failure of the server
(5xx but "busy"), a traceback on its terminal, no answer and no end of the connection, an answer
without the token, or the path of a file of the server is a finding; at the end it must answer as
before, with as many open files.

Case ``i`` of a seed is always the same. A state file keeps counts and findings; the same command
goes on from there. Linux only.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from fault_checks import Read, picture
from fault_kills import try_kills
from fault_mutations import mutate
from fault_readers import KINDS
from fault_requests import try_requests
from fault_state import load_state, note, save_state, show

CPU_SECONDS = 20
STARVED_SECONDS = 600
MORE_BYTES = 10**9
# Cases of all kinds in turn.
ROUND = 10_000


class Stuck(BaseException):
    """Raised where a reader has taken too long."""


def work_on(kind: str, seed: int, first: int, last: int) -> None:
    """Try the cases, and print a line of JSON for each: where it is, and what came of it."""
    signal.signal(signal.SIGPROF, _stuck)
    # What libraries print is not for whoever counts.
    counter = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        readers = list({one.__name__: one for one in KINDS}[kind](folder).items())
        good = {path: path.read_bytes() for path, _ in readers}
        usual = {path: picture(read(path)) for path, read in readers}
        known = {path for path in folder.rglob("*") if path.is_file()}
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + MORE_BYTES, used + MORE_BYTES))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for case in range(first, last):
            path, read = readers[case % len(readers)]
            about = {"case": case, "name": f"{kind}/{path.relative_to(folder)}"}
            counter.write(f"{json.dumps(about)}\n")
            path.write_bytes(mutate(good[path], path.suffix, random.Random(f"{seed} {case}")))
            outcome = try_one(read, path, usual[path])
            path.write_bytes(good[path])
            for left in {each for each in folder.rglob("*") if each.is_file()} - known:
                left.unlink()
            counter.write(f"{json.dumps(about | {'outcome': outcome})}\n")


def try_one(read: Read, path: Path, usual: object) -> str:
    """What a reader makes of a file; ``usual`` is what the good file holds."""
    from speakervlad.errors import InputError

    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        found = picture(read(path))
    except InputError as error:
        return "MemoryError" if "MemoryError" in str(error) else "refused"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__}: {str(error)[:200]} ({place})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read" if found == usual else "otherwise"


def _stuck(*_: object) -> None:
    raise Stuck(f"more than {CPU_SECONDS} s of processor time")


def try_inputs(count: int, seed: int, state: Path, kinds: list[str]) -> None:
    """All cases that the state does not have yet, in processes that may die; kinds take turns."""
    found = load_state(state, seed)
    for until in (*range(ROUND, count, ROUND), count):
        for kind, share in KINDS.items():
            cases = round(share * until)
            while kind.__name__ in kinds and found["done"].get(kind.__name__, 0) < cases:
                try_batch(found, kind.__name__, cases)
                save_state(state, found)
                show(found)


def try_batch(found: dict[str, Any], kind: str, last: int) -> None:
    """Cases in one process; one that it ends in is a finding."""
    first = found["done"].get(kind, 0)
    command = [sys.executable, __file__, "work", kind, *map(str, (found["seed"], first, last))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        at = _follow(process, found, kind)
    if at is None:
        sys.exit(f"{kind}: the readers cannot be set up")
    if found["done"][kind] < last:
        note(found, at["name"], f"process ended with {process.returncode}", at["case"])
        found["done"][kind] = at["case"] + 1


def _follow(
    process: "subprocess.Popen[str]", found: dict[str, Any], kind: str
) -> dict[str, Any] | None:
    """Count outcomes until the process ends; return the last case."""
    assert process.stdout is not None
    watchdog, at = _Watchdog(process), None
    for line in process.stdout:
        watchdog.pat()
        at = json.loads(line)
        if "outcome" in at:
            note(found, at["name"], at["outcome"], at["case"])
        found["done"][kind] = at["case"] + ("outcome" in at)
    watchdog.stop()
    return at


class _Watchdog:
    """Kills a process that says nothing for long: it waits for something."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.seen = time.monotonic()
        self.ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def pat(self) -> None:
        """It is alive."""
        self.seen = time.monotonic()

    def stop(self) -> None:
        """It need not be watched any more."""
        self.ended.set()

    def _watch(self) -> None:
        while not self.ended.wait(10):
            if time.monotonic() - self.seen > STARVED_SECONDS:
                self.process.kill()


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == ["work"]:
        work_on(sys.argv[2], *map(int, sys.argv[3:]))
        return
    parser = argparse.ArgumentParser(description="Damaged inputs, kills, odd requests.")
    parser.add_argument("what", choices=["inputs", "kills", "requests"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, required=True)
    names = [kind.__name__ for kind in KINDS]
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, help="of inputs")
    asked = parser.parse_args()
    if asked.what == "inputs":
        try_inputs(asked.count, asked.seed, asked.state, asked.kinds)
    elif asked.what == "kills":
        try_kills(asked.count, asked.seed, asked.state)
    else:
        try_requests(asked.count, asked.seed, asked.state)


if __name__ == "__main__":
    main()
