"""Odd requests to the page, for ``faults.py``: an HTTP client that damages what it sends."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import soundfile
from fault_mutations import WORDS, mutate_bytes
from fault_readers import RATE, tiny_encoder, voice
from fault_state import load_state, note, save_state, show

BATCH = 60
# Clients at once; the server answers so many bodies at a time.
CLIENTS = 6
# Seconds until a client that has no answer hangs up its side, and until it gives up.
PATIENCE, END = 5.0, 40.0
# Seconds in which the server ends at Ctrl-C: what it computes at that moment it ends first.
END_SECONDS = 60
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/#token=(\S+)")
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
BUSY = 503
BOUNDARY = "boundary"


class Target(NamedTuple):
    """A server: where it listens, its token, its process, and what it says on its terminal."""

    port: int
    token: str
    process: "subprocess.Popen[str]"
    terminal: Path


class Sent(NamedTuple):
    """A request by its name: head and body."""

    name: str
    head: bytes
    body: bytes


def requests(folder: Path, token: str) -> list[Sent]:
    """One good request of every kind that the page sends."""
    sounds = [(folder / f"{number}.wav").read_bytes() for number in range(3)]
    scores = "".join(f"s{i}/a s{j}/b {(i * 7 - j) % 11} {int(i == j)}\n"
                     for i in range(8) for j in range(8)).encode()  # fmt: skip
    turns = {"form": "rttm", "recording": "call", "turns": '[[0,1.5,"ada"],[1,2,"bob"]]',
             "seconds": "3"}  # fmt: skip
    posts: dict[str, tuple[dict[str, str], list[tuple[str, bytes]]]] = {
        "verify": ({}, [("first", sounds[0]), ("second", sounds[1])]),
        "people/add": ({"name": "Ada", "sure": "yes"}, [("recording", sounds[1])]),
        "people/rename": ({"name": "Ada", "new": "Ada"}, []),
        "people/recordings": ({"name": "Bob"}, []),
        "people/recordings/forget": ({"name": "Bob", "recording": "0"}, []),
        "people/forget": ({"name": "Ada"}, []),
        "identify": ({"fpir": "0.1"}, [("recording", sounds[0]), ("recording", b"none")]),
        "conversation": ({"speakers": "2", "names": "1"}, [("recording", sounds[2])]),
        "turns": (turns, []),
        "report": ({}, [("scores", scores)]),
    }
    gets = [Sent(path, head("GET", path, token), b"") for path in ("/", "/api/about")]
    gets.append(Sent("/api/people", head("GET", "/api/people", token), b""))
    return gets + [post(f"/api/{name}", token, *fields) for name, fields in posts.items()]


def head(method: str, path: str, token: str, more: str = "") -> bytes:
    """The lines before a body."""
    return (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://127.0.0.1\r\n"
        f"authorization: Bearer {token}\r\nconnection: close\r\n{more}\r\n"
    ).encode()


def post(path: str, token: str, texts: dict[str, str], files: list[tuple[str, bytes]]) -> Sent:
    """A form of texts and files."""
    begin = f"--{BOUNDARY}\r\ncontent-disposition: form-data; name="
    parts = [f'{begin}"{name}"\r\n\r\n{text}\r\n'.encode() for name, text in texts.items()]
    parts += [
        f'{begin}"{name}"; filename="{number}.wav"\r\n\r\n'.encode() + content + b"\r\n"
        for number, (name, content) in enumerate(files)
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return Sent(path, head("POST", path, token, form(len(body))), body)


def form(length: int) -> str:
    """The headers of a form."""
    kind = f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return f"{kind}content-length: {length}\r\n"


def damaged(sent: Sent, rng: random.Random) -> bytes:
    """The head, the body, a value of one of them, or where they end changed; now and then none."""
    way = rng.choice(["head", "body", "body", "value", "cut", "good"])
    start, body = sent.head, sent.body
    if way == "head":
        start = mutate_bytes(start, rng)
    elif way == "body" and body:
        body = mutate_bytes(body, rng)
    elif way == "value":
        place = rng.choice([match.end() for match in re.finditer(rb": |=|\r\n\r\n", start + body)])
        whole = start + body
        end = whole.find(b"\r\n", place)
        whole = whole[:place] + rng.choice(WORDS) + whole[max(end, place) :]
        start, _, body = whole.partition(b"\r\n\r\n")
        start += b"\r\n\r\n"
    if way in ("body", "value") and rng.random() < 0.8:
        right = f"content-length: {len(body)}".encode()
        start = re.sub(rb"content-length: \d+", right, start)
    whole = start + body
    return whole[: rng.randrange(len(whole))] if way == "cut" else whole


def answer(target: Target, data: bytes) -> bytes | None:
    """What comes back until the server closes; None if it does neither for long."""
    received = bytearray()
    try:
        with socket.create_connection(("127.0.0.1", target.port), 10) as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(data)
            is_whole = True
            while True:
                try:
                    block = connection.recv(1 << 16)
                except TimeoutError:
                    if not is_whole:
                        return None
                    # Whoever waits for the rest of a request hears that there is none.
                    is_whole = False
                    connection.settimeout(END)
                    connection.shutdown(socket.SHUT_WR)
                    continue
                if not block:
                    return bytes(received)
                received += block
    except ConnectionError:
        return bytes(received)


def judged(target: Target, data: bytes, folder: Path) -> str:
    """What became of a request."""
    found = answer(target, data)
    if found is None:
        return "no answer, and the connection stays open"
    status = STATUS.match(found)
    if status is None:
        return f"no HTTP: {found[:80]!r}" if found else "closed"
    code = int(status[1])
    if str(folder).encode() in found or b"/proc/self/fd" in found:
        return "an answer names a file of the server"
    if (code >= 500 and code != BUSY) or b"server failed" in found:
        return f"status {code}: {found[-200:]!r}"
    is_of_api = b"application/json" in found or b"text/plain" in found
    if code < 300 and is_of_api and target.token.encode() not in data:
        return f"status {code} without the token"
    return "answered" if code < 300 else "refused"


def open_files(target: Target) -> int:
    """How many files the server has open."""
    return len(list(Path(f"/proc/{target.process.pid}/fd").iterdir()))


@contextmanager
def serving(folder: Path) -> Iterator[Target]:
    """The page with a tiny encoder and a store of one."""
    from speakervlad.people.people import PeopleStore

    temporary = folder / "temporary"
    temporary.mkdir()
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", voice(2.0, number), RATE)
    tiny_encoder(folder / "encoder")
    with PeopleStore(folder / "people.db", folder / "encoder", create=True) as store:
        store.add("Bob", [folder / "2.wav"])
    command = [sys.executable, "-m", "speakervlad", "serve", "--port", "0", "--store", "people.db"]
    command += ["--encoder", str(folder / "encoder"), "--backend", "torch"]
    with (folder / "terminal.txt").open("w") as terminal:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=terminal, text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        )  # fmt: skip
    try:
        assert process.stdout is not None
        found = ADDRESS.search(process.stdout.readline())
        assert found, (folder / "terminal.txt").read_text()
        yield Target(int(found[1]), found[2], process, folder / "terminal.txt")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(END_SECONDS)


def try_requests(count: int, seed: int, state: Path) -> None:
    """All requests that the state does not have yet; a server for each batch of them."""
    found = load_state(state, seed)
    while found["done"].get("requests", 0) < count:
        first = found["done"].get("requests", 0)
        last = min(first + BATCH, count)
        with tempfile.TemporaryDirectory() as scratch, serving(Path(scratch)) as target:
            kinds = requests(Path(scratch), target.token)
            about = next(kind for kind in kinds if kind.name == "/api/about")
            assert judged(target, about.head, Path(scratch)) == "answered"
            files = open_files(target)

            def one(
                case: int,
                target: Target = target,
                kinds: list[Sent] = kinds,
                scratch: str = scratch,
            ) -> tuple[str, str]:
                sent = kinds[case % len(kinds)]
                data = damaged(sent, random.Random(f"{seed} {case}"))
                return sent.name, judged(target, data, Path(scratch))

            with ThreadPoolExecutor(CLIENTS) as clients:
                for case, (name, outcome) in zip(
                    range(first, last), clients.map(one, range(first, last)), strict=True
                ):
                    note(found, name, outcome, case)
            note(found, "server", left_behind(target, files, about, Path(scratch)), first)
        found["done"]["requests"] = last
        save_state(state, found)
        show(found)


def left_behind(target: Target, files: int, about: Sent, folder: Path) -> str:
    """Whether the server is as it was: "same", or in what it is not."""
    checks: dict[str, Callable[[], bool]] = {
        "it has ended": lambda: target.process.poll() is not None,
        "it does not answer": lambda: judged(target, about.head, folder) != "answered",
        "its terminal has a traceback": lambda: "Traceback" in target.terminal.read_text(),
        "it leaves temporary files": lambda: any((folder / "temporary").iterdir()),
        # A connection may not have been let go of yet; a store of people has its own.
        "it keeps files open": lambda: open_files(target) > files + 8,
    }
    wrong = [words for words, is_so in checks.items() if is_so()]
    said = target.terminal.read_text()[-400:] if wrong else ""
    return f"{', '.join(wrong)}: {said}" if wrong else "same"
