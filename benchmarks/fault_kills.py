"""Kills of commands at random moments, for ``faults.py``: what is left is all or nothing."""

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
from fault_readers import RATE, tiny_encoder, voice
from fault_state import load_state, note, save_state, show

# What a store without people holds, and a folder without a store.
NOBODY = "nobody"


class Command(NamedTuple):
    """What is killed; it runs in a folder of its own.

    Attributes:
        words: of the command line.
        store: a file of people that is there at the start.
        gone: parts of what it removes; no file may hold one in the end.
    """

    words: list[str]
    store: Path | None = None
    gone: tuple[bytes, ...] = ()


def corpus(folder: Path) -> None:
    """Recordings of two speakers, a manifest, an encoder, an experiment."""
    from speakervlad.corpus.prepare import prepare
    from speakervlad.tables.manifest import save_manifest

    for speaker in range(2):
        (folder / "wav" / f"s{speaker}").mkdir(parents=True)
        for number in range(4):
            path = folder / "wav" / f"s{speaker}" / f"{number}.wav"
            soundfile.write(path, voice(2.0, 4 * speaker + number), RATE)
    save_manifest(folder / "m.csv", prepare(folder / "wav", layout="speaker-folders").manifest)
    tiny_encoder(folder / "encoder")
    experiment = {
        "run_dir": "run",
        "resume": True,
        "encoder": {"trunk": {"kind": "thin_resnet34", "width": 0.0625}, "descriptor_dim": 8,
                    "embedding_dim": 6, "embedding_relu": False,
                    "pooling": {"kind": "netvlad", "num_clusters": 2, "num_ghosts": 1}},
        "data": {"train_manifest": str(folder / "m.csv"), "crop_seconds": 0.4, "num_workers": 0},
        "train": {"steps": 6, "batch_size": 4, "device": "cpu", "log_every": 1, "save_every": 1},
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(json.dumps(experiment))
    enrolled(folder)


def enrolled(folder: Path) -> None:
    """Stores of one person and of two, and an export of three."""
    from speakervlad.people.people import PeopleStore

    wav, encoder = folder / "wav", folder / "encoder"
    people = {"Ada": [wav / "s0/0.wav", wav / "s0/1.wav"], "Bob": [wav / "s1/0.wav"],
              "Cy": [wav / "s1/1.wav", wav / "s1/2.wav"]}  # fmt: skip
    for count, name in enumerate(("one.db", "two.db", "three.db"), 1):
        with PeopleStore(folder / name, encoder, create=True) as store:
            for person in list(people)[:count]:
                store.add(person, people[person])
    with PeopleStore(folder / "three.db", encoder) as store:
        store.export(folder / "people.safetensors")


def commands(source: Path) -> dict[str, Command]:
    """All that write more than a file of text."""
    wav, encoder = str(source / "wav"), ["--encoder", str(source / "encoder")]
    one, two = source / "one.db", source / "two.db"
    store = [*encoder, "--store", "people.db"]
    ada, bob = blobs(two, "Ada"), blobs(two, "Bob")
    ((digest,),) = _rows(two, "SELECT digest FROM recordings WHERE sums = ?", ada[:1])
    return {
        "convert-audio": Command(["convert-audio", wav, "flac", "--workers", "0"]),
        "pack": Command(["pack", str(source / "m.csv"), "packed", "--workers", "0"]),
        "prepare": Command(["prepare", wav, "m.csv", "--workers", "0"]),
        "embed": Command(["embed", wav, *encoder, "--out", "E.npz"]),
        "train": Command(["train", str(source / "tiny.yaml")]),
        "people add": Command(["people", "add", "Ada", wav, "--yes", *store]),
        "people add again": Command(["people", "add", "Ada", f"{wav}/s0", "--yes", *store], two),
        "people rename": Command(["people", "rename", "Ada", "Ava", "--store", "people.db"], two),
        "people forget": Command(["people", "forget", "Bob", *store], two, parts_of(bob, ada)),
        "people forget --recording": Command(
            ["people", "forget", "Ada", "--recording", digest, *store],
            two,
            parts_of(ada[:1], ada[1:] + bob),
        ),
        "people import": Command(
            ["people", "import", str(source / "people.safetensors"), *store], one
        ),
        "people export": Command(["people", "export", "out.safetensors", *store[2:]], two),
    }


def _rows(path: Path, statement: str, values: tuple = ()) -> list[tuple]:
    """What SQLite itself finds in a store."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def blobs(path: Path, name: str) -> tuple[bytes, ...]:
    """All sums of a person, to the bit."""
    statement = "SELECT sums FROM recordings r JOIN people p ON p.id = r.person WHERE p.name = ?"
    return tuple(sums for (sums,) in _rows(path, statement, (name,)))


def stored(path: Path) -> object:
    """Names, recordings with their sums, and voices of a store, to the bit; without dates."""
    if not _rows(path, "SELECT 1 FROM sqlite_master WHERE name = 'people'"):
        return NOBODY
    recordings = _rows(
        path,
        "SELECT p.name, r.digest, r.seconds, r.note, r.voice, r.sums FROM people p "
        "LEFT JOIN recordings r ON p.id = r.person ORDER BY p.name, r.digest",
    )
    voices = _rows(
        path,
        "SELECT p.name, v.number, v.vector FROM voices v JOIN people p ON p.id = v.person "
        "ORDER BY p.name, v.number",
    )
    # A new store is made before the first of its people.
    return (recordings, voices) if recordings or voices else NOBODY


def run_forked(words: list[str], folder: Path, kill_after: float | None) -> int:
    """One command in a child that has everything imported; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            os.chdir(folder)
            with Path(os.devnull).open("w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            from speakervlad.cli import main
            from speakervlad.encoder import shares

            shares.PART_SECONDS = 0.0
            sys.argv = ["speakervlad", *words]
            main()
            os._exit(0)
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 0)
        finally:
            os._exit(3)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


# These tell of the interruptions.
LOGS = ("stderr.txt", "train.log")


def outcome_of(folder: Path) -> dict[str, object]:
    """What a command has left, without what differs from run to run."""
    left: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and path.name not in LOGS and "tensorboard" not in name:
            left[name] = _content(path)
    return left


def _plain_state(value: Any) -> object:  # noqa: ANN401 - whatever a state holds
    """Tensors as bytes; the file itself remembers its temporary name."""
    if isinstance(value, dict):
        return {key: _plain_state(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain_state(one) for one in value]
    return value.numpy().tobytes() if hasattr(value, "numpy") else value


def _content(path: Path) -> object:
    from speakervlad.training.state import TrainingState

    if path.suffix == ".jsonl":
        records = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in one.items() if k != "crops_per_second"} for one in records]
    if path.suffix == ".db":
        return stored(path)
    if path.suffix == ".pt":
        return _plain_state(vars(TrainingState.load(path)))
    return path.read_bytes()


class Whole(NamedTuple):
    """An undisturbed run: what was there before and after it, and how long it took."""

    before: object
    after: dict[str, object]
    seconds: float


def try_kills(count: int, seed: int, state: Path) -> None:
    """Kill and run on until there were so many kills; compare whenever a command has ended."""
    import torch

    import speakervlad.cli.commands
    import speakervlad.encoder.encoder
    import speakervlad.people.doubts
    import speakervlad.training.run  # noqa: F401 - imported before the forks

    torch.set_num_threads(1)
    found = load_state(state, seed)
    with tempfile.TemporaryDirectory() as scratch:
        source, place = Path(scratch) / "source", Path(scratch) / "run"
        corpus(source)
        known = commands(source)
        whole = {name: run_whole(command, place) for name, command in known.items()}
        while found["done"].get("kills", 0) < count:
            name = list(whole)[found["done"].get("runs", 0) % len(whole)]
            kill_one(found, name, known[name], whole[name], place)
            save_state(state, found)
            show(found)


def begin(command: Command, folder: Path) -> None:
    """The folder as it is before the command."""
    folder.mkdir()
    if command.store is not None:
        shutil.copy(command.store, folder / "people.db")


def run_whole(command: Command, folder: Path) -> Whole:
    """Let a command run undisturbed; its folder is gone after that."""
    begin(command, folder)
    before, began = store_in(folder), time.monotonic()
    assert run_forked(command.words, folder, None) == 0, (folder / "stderr.txt").read_text()
    seconds = time.monotonic() - began
    whole = Whole(before, outcome_of(folder), seconds)
    assert not traces(folder, command.gone), "what was removed is there still"
    shutil.rmtree(folder)
    return whole


def store_in(folder: Path) -> object:
    """The content of a store of people; ``NOBODY`` where there is none."""
    path = folder / "people.db"
    return stored(path) if path.is_file() and path.stat().st_size else NOBODY


def parts_of(gone: tuple[bytes, ...], kept: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Parts of what is removed, of 64 bytes, that nothing holds which is kept: not its header."""
    parts = {blob[start : start + 64] for blob in gone for start in range(0, len(blob) - 64, 64)}
    found = tuple(sorted(part for part in parts if not any(part in blob for blob in kept)))
    assert found, "nothing tells the removed from the kept"
    return found


def traces(folder: Path, gone: tuple[bytes, ...]) -> list[str]:
    """Files that hold a part of what was removed."""
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [path.name for path, content in contents.items() if any(p in content for p in gone)]


def kill_one(
    found: dict[str, Any], name: str, command: Command, whole: Whole, folder: Path
) -> None:
    """Kill a command one to five times at random moments, let it end, and compare."""
    run = found["done"].get("runs", 0)
    rng = random.Random(f"{found['seed']} {run}")
    begin(command, folder)
    for _ in range(rng.randint(1, 5)):
        moment = rng.uniform(0, 1.1 * whole.seconds)
        killed = run_forked(command.words, folder, moment) == signal.SIGKILL
        found["done"]["kills"] = found["done"].get("kills", 0) + killed
        if killed:
            note(found, name, in_between(folder, whole), run)
    status = run_forked(command.words, folder, None)
    note(found, name, compared(command, whole, folder, status), run)
    found["done"]["runs"] = run + 1
    shutil.rmtree(folder)


def in_between(folder: Path, whole: Whole) -> str:
    """What a kill has left in a store: what was there before it, or all of what it does."""
    if "people.db" not in whole.after:
        return "killed"
    copy = folder.with_name("look")
    shutil.copytree(folder, copy)
    try:
        held = store_in(copy)
    except sqlite3.Error as error:
        return f"the store cannot be read after a kill: {error}"
    finally:
        shutil.rmtree(copy)
    is_whole = held in (whole.before, whole.after["people.db"])
    return "killed" if is_whole else "the store holds a part of a change after a kill"


def compared(command: Command, whole: Whole, folder: Path, status: int) -> str:
    """What a run that was killed has left in the end, beside what an undisturbed one leaves."""
    left = outcome_of(folder)
    # Verbs of `people` refuse what is done already, as where a kill came too late.
    if status and not (command.words[0] == "people" and left == whole.after):
        return f"status {status}: {(folder / 'stderr.txt').read_text()[:300]}"
    if left != whole.after:
        names = {*left, *whole.after}
        differ = [one for one in names if left.get(one) != whole.after.get(one)]
        return f"differs in {', '.join(sorted(differ))}"
    held = traces(folder, command.gone)
    return f"what was removed is left in {', '.join(held)}" if held else "same"
