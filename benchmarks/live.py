"""Live: error rate beside that of whole recordings, delay of labels, corrections, time, memory.

    python benchmarks/live.py conversations DIR [--encoder small] [--limit 7]
    python benchmarks/live.py streams DIR [--encoder small] [--count 50] [--seconds 60]
    python benchmarks/live.py memory DIR [--encoder small] [--hours 4]

DIR holds WAV files and ``reference.rttm``, as ``recipes/diarization/simulate.py`` writes them.
``conversations`` plays them in pieces of 0.1 s and diarizes them whole; ``streams`` hears so many
at once, as fast as it can, with a thread for each core; ``memory`` prints the resident set of one
stream that never ends. Times are of the processor, one core where ``taskset -c 0`` is before it.
"""

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from speakervlad import diarization_errors, diarize, diarize_live, load_audio, load_turns
from speakervlad.diarization.der import DiarizationErrors
from speakervlad.diarization.turns import Turns
from speakervlad.encoder.backends import available_cores
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.sound import SAMPLE_RATE

PIECE = SAMPLE_RATE // 10
# Turns of the reference that are shorter tell nothing of how soon somebody is labelled.
LONG_TURN = 2.0

app = typer.Typer(add_completion=False)
Folder = Annotated[Path, typer.Argument(help="Conversations and reference.rttm.")]


class Played(NamedTuple):
    """One conversation: turns, delays of labels, corrections, labels, seconds of the processor."""

    turns: Turns
    delays: list[float]
    corrections: int
    labels: int
    seconds: float


def played(encoder: Encoder, samples: np.ndarray, reference: Turns) -> Played:
    """Hear a conversation as it comes."""
    diarizer, began = diarize_live(encoder), time.process_time()
    labelled: list[tuple[float, float, float]] = []
    corrections = labels = 0
    for at in range(0, len(samples), PIECE):
        for said in diarizer.add(samples[at : at + PIECE]):
            labels, corrections = labels + 1, corrections + said.corrects
            labelled.append((said.start, said.end, (at + PIECE) / SAMPLE_RATE))
    diarizer.finish()
    seconds = time.process_time() - began
    turns = diarizer.turns(reference.recording)
    return Played(turns, delays_of(reference, labelled), corrections, labels, seconds)


def delays_of(reference: Turns, labelled: list[tuple[float, float, float]]) -> list[float]:
    """Seconds from the begin of each long turn to the first label of any of its speech."""
    found = []
    for turn in reference.turns:
        if turn.seconds >= LONG_TURN:
            times = [at for start, end, at in labelled if start < turn.end and end > turn.start]
            found += [min(times) - turn.start] if times else []
    return found


@app.command()
def conversations(folder: Folder, encoder: str = "default", limit: int = 1000) -> None:
    """Live against whole recordings."""
    loaded, references = load_encoder(encoder), load_turns(folder / "reference.rttm")
    live, whole, alone = DiarizationErrors(), DiarizationErrors(), DiarizationErrors()
    delays, labels, corrections, busy, heard = [], 0, 0, 0.0, 0.0
    for path in sorted(folder.glob("*.wav"))[:limit]:
        reference, samples = references[path.stem], load_audio(path)
        one = played(loaded, samples, reference)
        live += diarization_errors(reference, one.turns)
        whole += diarization_errors(reference, diarize(path, encoder=loaded))
        alone += diarization_errors(reference, diarize(path, encoder=loaded, overlap=False))
        delays += one.delays
        labels, corrections = labels + one.labels, corrections + one.corrections
        busy, heard = busy + one.seconds, heard + len(samples) / SAMPLE_RATE
        print(f"{path.stem}: {one.seconds:.1f} s for {len(samples) / SAMPLE_RATE:.1f}", flush=True)
    for name, errors in {"live": live, "whole": whole, "whole, one at a time": alone}.items():
        missed, alarm, confusion = errors.rates
        print(f"{name}: DER {errors.der:.1%} ({missed:.1%}, {alarm:.1%}, {confusion:.1%})")
    middle, late = np.percentile(delays, [50, 95])
    print(f"delay of {len(delays)} turns: median {middle:.2f} s, 95 % {late:.2f} s")
    print(f"{corrections} corrections of {labels} labels; real-time factor {busy / heard:.3f}")


@app.command()
def streams(folder: Folder, encoder: str = "small", count: int = 50, seconds: float = 60.0) -> None:
    """How many can be heard at once."""
    loaded, files = load_encoder(encoder), sorted(folder.glob("*.wav"))
    length = round(seconds * SAMPLE_RATE)
    sounds = [np.resize(load_audio(path), length) for path in files[:8]]
    each = [(diarize_live(loaded), samples) for samples in islice(cycle(sounds), count)]
    cores = available_cores()
    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(cores) as pool, loaded.backend.streams(cores):
        for at in range(0, length, PIECE):
            part = slice(at, at + PIECE)
            list(pool.map(lambda one, part=part: one[0].add(one[1][part]), each))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{count} streams of {seconds:g} s: {wall:.1f} s, {cpu:.1f} of the processor, on {cores} "
        f"cores: {seconds * count / wall:.0f} could keep up"
    )


@app.command()
def memory(folder: Folder, encoder: str = "small", hours: float = 4.0) -> None:
    """What a stream that never ends needs, every ten minutes."""
    loaded = load_encoder(encoder)
    diarizer = diarize_live(loaded)
    sounds = cycle([load_audio(path) for path in sorted(folder.glob("*.wav"))[:4]])
    done, shown = 0.0, 0.0
    while done < 3600 * hours:
        for said in (diarizer.add(part) for part in np.array_split(next(sounds), 100)):
            del said
        done = diarizer.stream.seconds
        if done >= shown:
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"{done / 60:.0f} min: {kilobytes / 1000:.0f} MB at most", flush=True)
            shown += 600


if __name__ == "__main__":
    app()
