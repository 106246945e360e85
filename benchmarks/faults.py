"""Faults on purpose: mutated inputs for every reader, and kills of commands at random moments.

    python benchmarks/faults.py inputs --count 100000 --state inputs.json
    python benchmarks/faults.py kills --count 1000 --state kills.json

Mutated inputs: a reader may read a file or refuse it by `InputError`; any other exception, the end
of its process, more than 20 s of processor time or of a gigabyte above what it takes for the good
file is a finding. Kills: a command is killed by SIGKILL again and again and then runs to its end;
what it leaves must be, bit for bit and file for file, what an undisturbed run leaves.

Case ``i`` of a seed is always the same. A state file keeps counts and findings; the same command
goes on from there. Linux only.
"""

import argparse
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000
CPU_SECONDS = 20
STARVED_SECONDS = 600
MORE_BYTES = 10**9
BATCH = 5000
Read = Callable[[Path], object]

WORDS = [
    b"nan", b"inf", b"-1", b"0", b"1e400", b"99999999999999999999", b"\0", b"\n", b"\t", b" ",
    b"\xff\xfe", "ü".encode(), b"..", b"/", b"null", b"true", b"[", b"{", b'"', b",", b":", b"%",
    b"${oc.env:HOME}", b"!!python/object:os.system", b"\r", b"target", b"-", b"x" * 5000,
]  # fmt: skip
VALUES = [
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\0", "a" * 3000, [], {},
    [[]], {"a": 1}, [1, "x", None], "-1", 2**31, 65_536, 1e9,
]  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, put in, repeated, or taken for extreme numbers."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        near_start = rng.random() < 0.5
        place = rng.randrange(min(len(data), 120) if near_start else len(data)) if data else 0
        length, put = rng.choice(EDITS)(data[place:], rng)
        data[place : place + length] = put
    return bytes(data)


def _number(rng: random.Random, size: int) -> bytes:
    largest = 2 ** (8 * size)
    number = rng.choice([0, 1, largest // 2 - 1, largest - 1])
    return number.to_bytes(size, rng.choice(["big", "little"]))


# Each takes the bytes from a place on, and says how many of them become what.
EDITS: list[Callable[[bytearray, random.Random], tuple[int, bytes]]] = [
    lambda rest, rng: (1, bytes([rng.randrange(256)])),
    lambda rest, rng: (1, bytes([(rest[0] if rest else 0) ^ 1 << rng.randrange(8)])),
    lambda rest, rng: (rng.choice([1, 2, 9, 100]), b""),
    lambda rest, rng: (0, rng.choice(WORDS)),
    lambda rest, rng: (8, _number(rng, 8)),
    lambda rest, rng: (4, _number(rng, 4)),
    lambda rest, rng: (0, bytes(rest[: rng.choice([1, 10, 200])]) * rng.choice([1, 3])),
    lambda rest, rng: (len(rest), b""),
]


def mutate_tree(tree: Any, rng: random.Random) -> Any:  # noqa: ANN401 - any JSON value
    """One value somewhere in nested containers replaced, left out, renamed, or nested deeply."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        if rng.random() < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        if rng.random() < 0.1:
            return {(name + "x" if name == key else name): value for name, value in tree.items()}
        return tree | {key: mutate_tree(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        place = rng.randrange(len(tree))
        return [*tree[:place], mutate_tree(tree[place], rng), *tree[place + 1 :]]
    return rng.choice(VALUES)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """The text of a changed tree; now and then it is nested 100,000 deep."""
    if rng.random() < 0.01:
        return b"[" * 100_000
    return json.dumps(mutate_tree(json.loads(content), rng)).encode()


def mutate_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header's tree changed, its length right."""
    size = int.from_bytes(content[:8], "little")
    header = mutate_json(content[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def mutate_zip(content: bytes, rng: random.Random) -> bytes:
    """One member changed, its checksum right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            data = old.read(name)
            new.writestr(name, mutate_bytes(data, rng) if name == chosen else data)
    return out.getvalue()


def mutate_gzip(content: bytes, rng: random.Random) -> bytes:
    """The text inside changed."""
    return gzip.compress(mutate_bytes(gzip.decompress(content), rng), 1)


INSIDE = {
    ".json": mutate_json,
    ".yaml": mutate_json,
    ".safetensors": mutate_safetensors,
    ".npz": mutate_zip,
    ".pt": mutate_zip,
    ".gz": mutate_gzip,
}


def mutate(content: bytes, suffix: str, rng: random.Random) -> bytes:
    """Half of the time inside the container, where the suffix is that of one."""
    is_tree = suffix not in (".json", ".yaml") or content[:1] in b"[{"
    if suffix in INSIDE and is_tree and rng.random() < 0.6:
        return INSIDE[suffix](content, rng)
    return mutate_bytes(content, rng)


def voice(seconds: float, seed: int) -> np.ndarray:
    """A generated voice, (samples,)."""
    from speakervlad.corpus.voices import Voice, synthesise

    rng = np.random.default_rng(seed)
    return synthesise(Voice.draw(rng), rng, seconds)


def lists(folder: Path) -> dict[Path, Read]:
    """Every text list."""
    from speakervlad.diarization import turns
    from speakervlad.scoring import lists as readers
    from speakervlad.scoring import scores as score_files
    from speakervlad.scoring.enrolment import load_enrolment
    from speakervlad.scoring.systems import load_scores
    from speakervlad.tables.manifest import load_manifest

    trials = b"1 a/1.wav b/2.wav\n0 a/1.wav c/3.wav\n" * 3
    scores = b"a/1.wav b/2.wav 0.5 1\na/1.wav c/3.wav 0.25 0\n" * 3
    heading = "utterance_id,path,speaker,session,num_samples,corpus\n"
    rows = "".join(f"u{i},s/{i}.wav,s{i % 2},x,{16000 + i},c\n" for i in range(4))
    shards = "".join(f"u{i},s.pcm16@{i * 9}+9,s{i % 2},x,9,c\n" for i in range(4))
    rttm = "SPEAKER call 1 0.00 2.50 <NA> <NA> ada <NA> <NA>\n" * 2
    srt = "1\n00:00:01,000 --> 00:00:02,500\n[ada] x\n\n2\n00:00:03,000 --> 00:00:04,000\nbob: x\n"
    turn_list = [turns.Turn(0.0, 2.5, "ada"), turns.Turn(2.0, 4.0, "bob")]
    turns.save_turns(folder / "turns.json", turns.Turns("call", tuple(turn_list)), "json")
    texts: dict[str, tuple[bytes, Read]] = {
        "trials.txt": (trials, readers.load_trials),
        "trials.gz": (gzip.compress(trials), readers.load_trials),
        "nist.tsv": (
            b"modelid\tsegmentid\tside\ttargettrial\n1\tx\ta\ttarget\n2\ty\tb\tnontarget\n",
            readers.load_trials,
        ),
        "pairs.txt": (b"a/1.wav b/2.wav\nc.wav d.wav\n", readers.read_pairs),
        "scores.txt": (scores, load_scores),
        "voxsrc.txt": (b"0.5 a/1.wav b/2.wav\n0.25 a/1.wav c/3.wav\n", score_files.read_scores),
        "long.txt": (scores, score_files.read_long_scores),
        "enrol.map": (b"m a b c\nk d e\n", load_enrolment),
        "manifest.csv": ((heading + rows).encode(), load_manifest),
        "packed.csv": ((heading + shards).encode(), load_manifest),
        "turns.rttm": (rttm.encode(), turns.load_turns),
        "labels.txt": (b"0.0\t2.5\tada\n2.0\t4.0\tbob\n", turns.load_turns),
        "turns.srt": (srt.encode(), turns.load_turns),
    }
    for name, (content, _) in texts.items():
        (folder / name).write_bytes(content)
    return {folder / name: read for name, (_, read) in texts.items()} | {
        folder / "turns.json": turns.load_turns
    }


def tables(folder: Path) -> dict[Path, Read]:
    """Embeddings, arrays of scores, calibrations, parts of a run."""
    from speakervlad.encoder.shares import FinishedParts
    from speakervlad.scoring import calibration
    from speakervlad.scoring.lists import load_trials
    from speakervlad.scoring.systems import load_scores
    from speakervlad.tables import interchange as readers

    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    table = readers.Embeddings(np.array(["a", "b", "cc"]), vectors)
    found: dict[Path, Read] = {}
    for suffix in (".npz", ".ark", ".scp", ".parquet"):
        readers.save_embeddings(folder / f"E{suffix}", table)
        found[folder / f"E{suffix}"] = readers.load_embeddings
    (folder / "text.ark").write_text("a  [ 1 2 3 ]\nb  [ 4 5 6 ]\n")
    found[folder / "text.ark"] = readers.load_embeddings
    (folder / "key.txt").write_text("1 a b\n0 a c\n1 b c\n")
    key = load_trials(folder / "key.txt")
    np.save(folder / "S.npy", np.array([0.5, 0.25, 0.75]))
    found[folder / "S.npy"] = lambda path: load_scores(path, key)
    calibration.save_calibration(folder / "calibration.json", calibration.Calibration((1.0,), 0.0))
    found[folder / "calibration.json"] = calibration.load_calibration
    whole, run = folder / "whole", folder / "P.npz.parts"
    for place in (whole, run):
        place.mkdir()
    (run / "run.json").write_text('{"encoder": "x", "windows": null}')
    found[run / "run.json"] = lambda path: FinishedParts(
        folder / "P.npz", {"encoder": "x", "windows": None}
    )
    np.savez(
        run / "part.npz",
        keys=np.array(["k", "l"]),
        counts=np.array([1, 2]),
        seconds=np.array([1.0, 2.0]),
        vectors=np.ones((3, 4), np.float32),
        spans=np.ones((3, 2)),
    )
    found[run / "part.npz"] = lambda path: _parts(folder / "P.npz", FinishedParts)
    return found


def _parts(out: Path, parts: type) -> None:
    opened = parts(out, {})
    opened.load(sorted(opened.found))


def recordings(folder: Path) -> dict[Path, Read]:
    """Audio of every container: its header, and all of it."""
    from speakervlad.audio.recording import Recording
    from speakervlad.audio.spans import audio_info, load_audio

    def read(path: Path) -> None:
        audio_info(path)
        load_audio(path)
        Recording(path).wave.read(0, 400)

    forms = {
        "wav": "PCM_16",
        "flac": "PCM_16",
        "ogg": "VORBIS",
        "mp3": "MPEG_LAYER_III",
        "aiff": "PCM_16",
        "caf": "ALAC_16",
        "au": "ULAW",
        "w64": "FLOAT",
    }
    found: dict[Path, Read] = {}
    for form, subtype in forms.items():
        path = folder / f"a.{form}"
        soundfile.write(path, voice(0.3, 1), RATE, subtype=subtype)
        found[path] = read
    return found | _encoded(folder, read)


def _encoded(folder: Path, read: Read) -> dict[Path, Read]:
    """What libsndfile does not read."""
    import av

    found: dict[Path, Read] = {}
    for name, codec in (("a.m4a", "aac"), ("a.webm", "libopus"), ("a.mka", "ac3")):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            samples = np.resize(voice(0.5, 2), (1, 24000)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 48000
            for packet in [*stream.encode(frame), *stream.encode(None)]:  # pyright: ignore
                container.mux(packet)
        found[folder / name] = read
    return found


def tiny_encoder(folder: Path) -> Path:
    """An encoder folder of a few kilobytes."""
    from speakervlad.config import EncoderConfig
    from speakervlad.models.folder import build_encoder, save_encoder
    from speakervlad.schema import Part

    config = EncoderConfig(
        trunk=Part("thin_resnet34", width=0.0625),
        descriptor_dim=8,
        pooling=Part("netvlad", num_clusters=2, num_ghosts=1),
        embedding_dim=6,
        embedding_relu=False,
    )
    save_encoder(folder, build_encoder(config).eval(), config, {})
    return folder


def encoders(folder: Path) -> dict[Path, Read]:
    """Encoder folders, exported files, checkpoints of others, configs, training states, people."""
    import h5py
    import torch

    from speakervlad.checkpoints.hdf5 import read_layers
    from speakervlad.checkpoints.tensors import read_tensors
    from speakervlad.config import Config, load_config, to_yaml
    from speakervlad.encoder.backends import OnnxBackend
    from speakervlad.encoder.export import export_onnx
    from speakervlad.models.folder import load_encoder_folder
    from speakervlad.training.run_folder import read_metrics
    from speakervlad.training.state import TrainingState
    from speakervlad.verification.known import read_thresholds

    def run_exported(path: Path) -> None:
        OnnxBackend(path).check()

    tiny_encoder(folder / "encoder")
    (folder / "encoder" / "thresholds.json").write_text(
        '{"eer": 0.5, "eer_by_list": {"a": 0.5}, "false_accept_rate": {"0.01": 0.6}}'
    )
    export_onnx(folder / "encoder", folder / "e.onnx", check_seconds=(0.5,))
    (folder / "config.yaml").write_text(json.dumps(_plain(Config())))
    (folder / "text.yaml").write_text(to_yaml(Config()))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n')
    state = TrainingState(3, {"a": torch.ones(2)}, {"state": {}, "param_groups": []})
    state.save(folder / "last.pt")
    torch.save({"conv.weight": torch.ones(2, 2), "norm.count": torch.tensor(1)}, folder / "c.ckpt")
    with h5py.File(folder / "k.h5", "w") as file:
        layer = file.create_group("conv/conv")
        layer.create_dataset("kernel:0", data=np.ones((2, 2), np.float32))
        file.attrs["layer_names"] = [b"conv"]
        file["conv"].attrs["weight_names"] = [b"conv/kernel:0"]
    return {
        folder / "encoder" / "config.json": lambda path: load_encoder_folder(path.parent),
        folder / "encoder" / "model.safetensors": lambda path: load_encoder_folder(path.parent),
        folder / "encoder" / "thresholds.json": lambda path: read_thresholds(path.parent, {}),
        folder / "e.onnx": run_exported,
        folder / "config.yaml": load_config,
        folder / "text.yaml": load_config,
        folder / "metrics.jsonl": read_metrics,
        folder / "last.pt": TrainingState.load,
        folder / "k.h5": read_layers,
        folder / "c.ckpt": read_tensors,
    }


def _plain(config: object) -> object:
    from speakervlad.schema import to_dict

    return to_dict(config)


def people(folder: Path) -> dict[Path, Read]:
    """The store of people and its exported file."""
    from speakervlad.people.people import PeopleStore

    tiny_encoder(folder / "encoder")
    soundfile.write(folder / "a.wav", voice(2.0, 1), RATE)
    with PeopleStore(folder / "people.db", folder / "encoder", create=True) as store:
        store.add("Ada", [folder / "a.wav"])
        store.export(folder / "people.safetensors")

    def read_store(path: Path) -> None:
        with PeopleStore(path, folder / "encoder") as store:
            for person in store.people():
                store.show(person.name)

    def read_exported(path: Path) -> None:
        (folder / "other.db").unlink(missing_ok=True)
        with PeopleStore(folder / "other.db", folder / "encoder", create=True) as store:
            store.import_(path)

    return {folder / "people.db": read_store, folder / "people.safetensors": read_exported}


# Kinds of inputs, and their share of the cases: the slower, the fewer.
KINDS = {lists: 0.5, tables: 0.3, recordings: 0.14, encoders: 0.04, people: 0.02}


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
        for path, read in readers:
            read(path)
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + MORE_BYTES, used + MORE_BYTES))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for case in range(first, last):
            path, read = readers[case % len(readers)]
            about = {"case": case, "name": f"{kind}/{path.relative_to(folder)}"}
            counter.write(f"{json.dumps(about)}\n")
            path.write_bytes(mutate(good[path], path.suffix, random.Random(f"{seed} {case}")))
            outcome = try_one(read, path)
            path.write_bytes(good[path])
            counter.write(f"{json.dumps(about | {'outcome': outcome})}\n")


def try_one(read: Read, path: Path) -> str:
    """What a reader makes of a file."""
    from speakervlad.errors import InputError

    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        read(path)
    except InputError as error:
        return "MemoryError" if "MemoryError" in str(error) else "refused"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__}: {str(error)[:200]} ({place})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read"


def _stuck(*_: object) -> None:
    raise Stuck(f"more than {CPU_SECONDS} s of processor time")


def try_inputs(count: int, seed: int, state: Path, kinds: list[str]) -> None:
    """All cases that the state does not have yet, in processes that may die."""
    found = load_state(state, seed)
    for kind, share in KINDS.items():
        cases = round(share * count)
        while kind.__name__ in kinds and found["done"].get(kind.__name__, 0) < cases:
            try_batch(found, kind.__name__, cases)
            save_state(state, found)
            show(found)


def try_batch(found: dict[str, Any], kind: str, count: int) -> None:
    """Some cases in one process; one that it ends in is a finding."""
    first = found["done"].get(kind, 0)
    last = min(first + BATCH, count)
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


def load_state(path: Path, seed: int) -> dict[str, Any]:
    """Counts and findings so far."""
    if path.exists():
        found = json.loads(path.read_text())
        assert found["seed"] == seed, f"{path} is of seed {found['seed']}"
        return found
    return {"seed": seed, "done": {}, "counts": {}, "findings": []}


def save_state(path: Path, found: dict[str, Any]) -> None:
    """For the next time."""
    from speakervlad.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1))


def note(found: dict[str, Any], name: str, outcome: str, case: int) -> None:
    """Count an outcome; one that should not be is a finding."""
    usual = outcome in ("read", "refused", "same", "killed")
    counts = found["counts"].setdefault(name, {})
    word = outcome if usual else "finding"
    counts[word] = counts.get(word, 0) + 1
    if not usual:
        found["findings"].append({"case": case, "name": name, "outcome": outcome})


def show(found: dict[str, Any]) -> None:
    """A line of counts."""
    total: Counter[str] = Counter()
    for counts in found["counts"].values():
        total.update(counts)
    words = ", ".join(f"{count} {word}" for word, count in sorted(total.items()))
    print(words, flush=True)


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


def commands(source: Path) -> dict[str, list[str]]:
    """What is killed; it runs in a folder of its own."""
    wav, encoder = str(source / "wav"), str(source / "encoder")
    return {
        "convert-audio": ["convert-audio", wav, "flac", "--workers", "0"],
        "pack": ["pack", str(source / "m.csv"), "packed", "--workers", "0"],
        "prepare": ["prepare", wav, "m.csv", "--workers", "0"],
        "embed": ["embed", wav, "--encoder", encoder, "--out", "E.npz"],
        "train": ["train", str(source / "tiny.yaml")],
        "people": ["people", "add", "Ada", wav, "--encoder", encoder, "--store", "people.db"],
    }


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
        return _people(path)
    if path.suffix == ".pt":
        return _plain_state(vars(TrainingState.load(path)))
    return path.read_bytes()


def _people(path: Path) -> object:
    from speakervlad.people.people import PeopleStore

    with PeopleStore(path) as store:
        named = [store.show(person.name) for person in store.people()]
    return [(one.name, sorted((r.digest, r.seconds) for r in one.recordings)) for one in named]


def try_kills(count: int, seed: int, state: Path) -> None:
    """Kill and run on until there were so many kills; compare whenever a command has ended."""
    import torch

    import speakervlad.cli.commands
    import speakervlad.encoder.encoder
    import speakervlad.training.run  # noqa: F401 - imported before the forks

    torch.set_num_threads(1)
    found = load_state(state, seed)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        corpus(source)
        whole = {}
        for name, words in commands(source).items():
            folder, began = Path(scratch) / f"whole-{name}", time.monotonic()
            folder.mkdir()
            assert run_forked(words, folder, None) == 0, (folder / "stderr.txt").read_text()
            whole[name] = outcome_of(folder), time.monotonic() - began
        while found["done"].get("kills", 0) < count:
            name = list(whole)[found["done"].get("runs", 0) % len(whole)]
            kill_one(found, name, commands(source)[name], whole[name], Path(scratch) / "run")
            save_state(state, found)
            show(found)


def kill_one(
    found: dict[str, Any], name: str, words: list[str], whole: tuple[object, float], folder: Path
) -> None:
    """Kill a command one to five times at random moments, let it end, and compare."""
    expected, seconds = whole
    run = found["done"].get("runs", 0)
    rng = random.Random(f"{found['seed']} {run}")
    folder.mkdir()
    for _ in range(rng.randint(1, 5)):
        killed = run_forked(words, folder, rng.uniform(0, 1.1 * seconds)) == signal.SIGKILL
        found["done"]["kills"] = found["done"].get("kills", 0) + killed
        if killed:
            note(found, name, "killed", run)
    status = run_forked(words, folder, None)
    left = outcome_of(folder)
    outcome = "same"
    # `people add` refuses recordings that it has, as it does where a kill came too late.
    if status and not (name == "people" and left == expected):
        outcome = f"status {status}: {(folder / 'stderr.txt').read_text()[:300]}"
    elif left != expected:
        assert isinstance(expected, dict)
        differ = [one for one in {*left, *expected} if left.get(one) != expected.get(one)]
        outcome = f"differs in {', '.join(sorted(differ))}"
    note(found, name, outcome, run)
    found["done"]["runs"] = run + 1
    shutil.rmtree(folder)


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == ["work"]:
        work_on(sys.argv[2], *map(int, sys.argv[3:]))
        return
    parser = argparse.ArgumentParser(description="Mutated inputs, and kills.")
    parser.add_argument("what", choices=["inputs", "kills"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, required=True)
    names = [kind.__name__ for kind in KINDS]
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, help="of inputs")
    asked = parser.parse_args()
    if asked.what == "inputs":
        try_inputs(asked.count, asked.seed, asked.state, asked.kinds)
    else:
        try_kills(asked.count, asked.seed, asked.state)


if __name__ == "__main__":
    main()
