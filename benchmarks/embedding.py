"""Seconds per embedding, files per second, memory and start-up, beside other toolkits.

    python benchmarks/embedding.py                                # all
    python benchmarks/embedding.py --encoder default --parts one_core all_cores
    python benchmarks/embedding.py --clock cpu --rounds 9         # on a machine that others use too

Systems of a table take turns in one process, round by round; a ratio is the median over the rounds
of a system's time over that of the first row, with its smallest and largest. Every length is
computed once before it is timed. Weights are random where no encoder is named: time does not
depend on them. Resemblyzer and SpeechBrain (``pip install --no-deps speechbrain hyperpyyaml
ruamel.yaml``) are measured when they are installed.
"""

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from material import voice, write_files, write_int8, write_published_size
from own_process import in_own_process

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
# Backend and precision of ours; the first is what the others are compared with.
OURS = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)
EmbedWave = Callable[[np.ndarray], object]
EmbedFiles = Callable[[list[Path]], object]


class System(NamedTuple):
    """One row: float32 samples (samples,) in, or files in."""

    embed: EmbedWave
    embed_files: EmbedFiles


class Plan(NamedTuple):
    """What is measured, and with what."""

    encoders: dict[str, Path]
    int8: dict[str, Path]
    seconds: list[float]
    rounds: int
    clock: str
    files: int
    folder: Path


def ours(encoder: Path, backend: str, precision: str) -> System:
    """An encoder of this toolkit, on the CPU."""
    from speakervlad import load_encoder

    embedder = load_encoder(encoder, device="cpu", precision=precision, backend=backend)
    return System(embedder.embed, embedder.embed_files)


def resemblyzer() -> System:
    """Resemblyzer: GE2E LSTM, its own weights, with its own preparation of the samples."""
    from resemblyzer import VoiceEncoder, preprocess_wav  # pyright: ignore[reportMissingImports]

    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(samples: np.ndarray) -> object:
        return encoder.embed_utterance(preprocess_wav(samples))

    return System(embed, one_by_one(embed))


def speechbrain() -> System:
    """SpeechBrain: ECAPA-TDNN of 1,024 channels as in its VoxCeleb recipe, random weights."""
    import torch
    from speechbrain.lobes.features import Fbank  # pyright: ignore[reportMissingImports]
    from speechbrain.lobes.models.ECAPA_TDNN import (  # pyright: ignore[reportMissingImports]
        ECAPA_TDNN,
    )

    channels = [1024, 1024, 1024, 1024, 3072]
    front_end, network = Fbank(n_mels=80), ECAPA_TDNN(80, channels=channels, lin_neurons=192).eval()

    @torch.inference_mode()
    def embed(samples: np.ndarray) -> object:
        features = front_end(torch.from_numpy(samples)[None])
        return network(features - features.mean(dim=1, keepdim=True))

    return System(embed, one_by_one(embed))


def one_by_one(embed: EmbedWave) -> EmbedFiles:
    """Files in a loop, as toolkits without a file engine are used."""
    import soundfile

    return lambda paths: [embed(soundfile.read(path, dtype="float32")[0]) for path in paths]


PEERS = {"resemblyzer": resemblyzer, "speechbrain": speechbrain}


def systems_of(plan: Plan) -> dict[str, Callable[[], System]]:
    """Rows by their names; each is opened when it is called."""
    rows: dict[str, Callable[[], System]] = {}
    for name, where in plan.encoders.items():
        for backend, precision in OURS:
            rows[f"{name}, {backend} {precision}"] = partial(ours, where, backend, precision)
        rows[f"{name}, onnxruntime int8"] = partial(ours, plan.int8[name], "onnxruntime", "float32")
    return rows | PEERS


def opened(rows: dict[str, Callable[[], System]]) -> dict[str, System]:
    """Those that run here; the reason is printed for the others."""
    found = {}
    for name, open_system in rows.items():
        try:
            found[name] = open_system()
        except (ImportError, ValueError) as error:
            print(f"  {name}: {reason(name, error)}", flush=True)
    return found


def reason(name: str, error: Exception) -> str:
    """``not installed``, or what else is in the way."""
    absent = name in PEERS and importlib.util.find_spec(name) is None
    return "not installed" if absent else str(error).splitlines()[0]


def one_core(plan: Plan) -> None:
    """Milliseconds per recording on one core."""
    with suppress(AttributeError):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    time_lengths(plan)


def all_cores(plan: Plan) -> None:
    """Milliseconds per recording on all cores."""
    time_lengths(plan)


def time_lengths(plan: Plan) -> None:
    """One table: rows of systems, columns of lengths."""
    systems = opened(systems_of(plan))
    tables = [time_rounds(systems, seconds, plan) for seconds in plan.seconds]
    reference = next(iter(systems))
    print(f"  {'':44}" + "".join(f"{f'{seconds:g} s':>30}" for seconds in plan.seconds))
    for name in systems:
        cells = (describe(times[name], times[reference]) for times in tables)
        print(f"  {name:44}" + "".join(f"{cell:>30}" for cell in cells), flush=True)


def time_rounds(systems: dict[str, System], seconds: float, plan: Plan) -> dict[str, list[float]]:
    """Seconds by system, one per round; the systems take turns."""
    samples, clock = voice(seconds), CLOCKS[plan.clock]
    for system in systems.values():
        system.embed(samples)
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(plan.rounds):
        for name, system in systems.items():
            start = clock()
            system.embed(samples)
            times[name].append(clock() - start)
    return times


def describe(times: list[float], reference: list[float]) -> str:
    """``35.2 ms  0.25 (0.22-0.31)``: median, ratio to the first row, its range."""
    ratios = [time / other for time, other in zip(times, reference, strict=True)]
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    milliseconds = 1000 * statistics.median(times)
    return f"{milliseconds:8.1f} ms  {statistics.median(ratios):.2f} ({spread})"


def files(plan: Plan) -> None:
    """Files per second from short flac files of many lengths, all cores, a process for each."""
    paths = write_files(plan.folder / "audio", plan.files)
    for name in systems_of(plan):
        in_own_process(time_files, plan, name, paths)


def time_files(plan: Plan, name: str, paths: list[Path]) -> None:
    """One line: files per second and peak memory of one system."""
    for system in opened({name: systems_of(plan)[name]}).values():
        system.embed_files(paths[:2])
        start = time.perf_counter()
        system.embed_files(paths)
        elapsed = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"  {name:44}{len(paths) / elapsed:8.1f} files/s  {peak:6.2f} GB", flush=True)


def start_up(plan: Plan) -> None:
    """Seconds of whole commands: wall clock, and processor time in brackets."""
    from speakervlad import examples

    # Speech: `verify` refuses noise.
    pair = [str(path) for path in list(examples().values())[:2]]
    scores = plan.folder / "S.txt"
    scores.write_text("".join(f"a{n} b{n} {n % 7} {n % 2}\n" for n in range(1000)))
    encoder = next(iter(plan.encoders.values()))
    verify = ["verify", *pair, "--threshold", "0", "--encoder", str(encoder), "--backend"]
    commands = {
        "--help": ["--help"],
        "metrics": ["metrics", str(scores)],
        **{f"verify, {backend}": [*verify, backend] for backend in dict(OURS)},
    }
    for name, arguments in commands.items():
        runs = [run_command(arguments) for _ in range(plan.rounds)]
        wall, processor = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"  {name:44}{wall:8.2f} s  ({processor:.2f} s)", flush=True)


def run_command(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one run of the command line."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "speakervlad", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 1), done.stderr
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


PARTS: dict[str, Callable[[Plan], None]] = {
    "one_core": one_core,
    "all_cores": all_cores,
    "files": files,
    "start_up": start_up,
}


def main(arguments: Iterable[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--encoder", help="one more: a name that ships, or a folder")
    parser.add_argument("--seconds", type=float, nargs="+", default=[3, 10, 60])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="of the first two parts")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(None if arguments is None else list(arguments))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_own_process(write_published_size, folder / "published")
        encoders = {"thin ResNet-34 GhostVLAD": folder / "published"}
        if options.encoder:
            from speakervlad.encoder.location import find_encoder

            encoders[options.encoder] = find_encoder(options.encoder)
        int8 = {name: folder / f"{name}.onnx" for name in encoders}
        for name, where in encoders.items():
            in_own_process(write_int8, where, int8[name])
        plan = Plan(
            encoders, int8, options.seconds, options.rounds, options.clock, options.files, folder
        )
        for part in options.parts:
            print(f"{part}: {PARTS[part].__doc__}", flush=True)
            in_own_process(PARTS[part], plan)


if __name__ == "__main__":
    main()
