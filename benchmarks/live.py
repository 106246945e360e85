"""Live: error rate beside that of whole recordings, delays, corrections, time, memory.

    python benchmarks/live.py conversations DIR [--encoder small] [--limit 7] [--no-whole]
    python benchmarks/live.py names DIR [--encoder small] [--limit 7]
    python benchmarks/live.py streams DIR [--encoder small] [--count 50] [--seconds 60] [--names]
    python benchmarks/live.py memory DIR [--encoder small] [--hours 4]

DIR holds WAV files and ``reference.rttm``, as ``recipes/diarization/simulate.py`` writes them.
``conversations`` plays them in pieces of 0.1 s and diarizes them whole; ``names`` enrols two of
three speakers by what they say alone in the first halves, and listens to the second ones, with the
people of all conversations in one store; ``streams`` diarizes so many at once, as fast as it can,
with a thread for each core, or with ``--names`` says who of a store speaks in them; ``memory``
prints the resident set and the time of one stream that never ends. Times are of the processor, one
core where ``taskset -c 0`` is before it.
"""

import math
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import typer

from speakervlad import (
    PeopleStore,
    diarization_errors,
    diarize,
    diarize_live,
    load_audio,
    load_turns,
)
from speakervlad.audio.recording import Recording
from speakervlad.diarization.der import DiarizationErrors
from speakervlad.diarization.live import LiveDiarizer
from speakervlad.diarization.turns import Turns
from speakervlad.encoder.backends import available_cores
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.hops import HOP
from speakervlad.errors import InputError
from speakervlad.people.live import Listener, Speaking
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
            if said.speaker:
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
def conversations(
    folder: Folder, encoder: str = "default", limit: int = 1000, whole: bool = True
) -> None:
    """Live against whole recordings."""
    loaded, references = load_encoder(encoder), load_turns(folder / "reference.rttm")
    live, offline = DiarizationErrors(), DiarizationErrors()
    delays, labels, corrections, busy, heard = [], 0, 0, 0.0, 0.0
    for path in sorted(folder.glob("*.wav"))[:limit]:
        reference, samples = references[path.stem], load_audio(path)
        one = played(loaded, samples, reference)
        live += diarization_errors(reference, one.turns)
        if whole:
            offline += diarization_errors(reference, diarize(path, encoder=loaded))
        delays += one.delays
        labels, corrections = labels + one.labels, corrections + one.corrections
        busy, heard = busy + one.seconds, heard + len(samples) / SAMPLE_RATE
        print(
            f"{path.stem}: {one.seconds:.1f} s for {len(samples) / SAMPLE_RATE:.1f}; DER so far "
            f"{live.der:.1%}",
            flush=True,
        )
    for name, errors in ({"live": live} | ({"whole": offline} if whole else {})).items():
        missed, alarm, confusion = errors.rates
        print(f"{name}: DER {errors.der:.1%} ({missed:.1%}, {alarm:.1%}, {confusion:.1%})")
    middle, late = np.percentile(delays, [50, 95])
    print(f"delay of {len(delays)} turns: median {middle:.2f} s, 95 % {late:.2f} s")
    print(f"{corrections} corrections of {labels} labels; real-time factor {busy / heard:.3f}")


@app.command()
def names(folder: Folder, encoder: str = "default", limit: int = 1000) -> None:
    """How soon known people are named, in seconds since their turns began."""
    loaded, references = load_encoder(encoder), load_turns(folder / "reference.rttm")
    paths, outside = sorted(folder.glob("*.wav"))[:limit], {}
    with TemporaryDirectory() as temporary, PeopleStore(Path(temporary) / "p.db", loaded) as people:
        for path in paths:
            enrol_some(people, path, references[path.stem], outside)
        known = {person.name for person in people.people()}
        total = Named([], [], 0, 0, 0, 0, 0, 0, 0.0, 0.0)
        for path in paths:
            total = total.plus(named(people, path, references[path.stem], known))
            print(f"{path.stem}: {len(total.delays)} turns so far", flush=True)
    print(f"{len(known)} people")
    for least, delays in ((LONG_TURN, total.delays), (2 * LONG_TURN, total.long_delays)):
        middle, late = np.percentile(delays, [50, 95], method="higher")
        soon = [np.mean(np.array(delays) <= limit) for limit in (2, 4)]
        print(
            f"{len(delays)} turns of {least:g} s and more of them: named within {middle:.2f} s in "
            f"the median, {late:.2f} s in 95 %; {soon[0]:.0%} in 2 s, {soon[1]:.0%} in 4 s; "
            f"{sum(map(math.isinf, delays))} never"
        )
    print(
        f"where one of them speaks for 1.5 s already {total.wrong} of {total.answers} names wrong; "
        f"of strangers {total.false} of {total.of_strangers} answers are a name"
    )
    print(
        f"strangers called unknown in {total.unknown} of {total.strangers} turns; real-time factor "
        f"{total.busy / total.heard:.3f}"
    )


class Named(NamedTuple):
    """What came of some conversations: delays, infinite for never; counts; seconds."""

    delays: list[float]
    long_delays: list[float]
    wrong: int
    answers: int
    false: int
    of_strangers: int
    unknown: int
    strangers: int
    busy: float
    heard: float

    def plus(self, other: "Named") -> "Named":
        return Named(
            self.delays + other.delays,
            self.long_delays + other.long_delays,
            self.wrong + other.wrong,
            self.answers + other.answers,
            self.false + other.false,
            self.of_strangers + other.of_strangers,
            self.unknown + other.unknown,
            self.strangers + other.strangers,
            self.busy + other.busy,
            self.heard + other.heard,
        )


def enrol_some(people: PeopleStore, path: Path, reference: Turns, outside: dict[str, bool]) -> None:
    """Enrol two of three of those who say 5 s alone in the first half, by 15 s at most.

    Somebody of several conversations is one person: ``outside`` says who stays out of the store.
    """
    samples = load_audio(path)
    half = len(samples) / SAMPLE_RATE / 2
    for speaker in reference.speakers:
        parts = [samples[slice(*span)] for span in alone(reference, speaker, half)]
        said = np.concatenate([np.zeros(0, np.float32), *parts])[: 15 * SAMPLE_RATE]
        if len(said) >= 5 * SAMPLE_RATE and not outside.setdefault(speaker, len(outside) % 3 == 2):
            with suppress(InputError):  # no speech is found in it
                people.add(speaker, [Recording(said)])


def alone(reference: Turns, speaker: str, until: float) -> list[tuple[int, int]]:
    """Samples from and to which somebody speaks alone, half a second at least each time."""
    found = []
    for turn in reference.turns:
        if turn.speaker != speaker or turn.start >= until:
            continue
        others = [
            each
            for each in reference.turns
            if each.speaker != speaker and each.start < turn.end and each.end > turn.start
        ]
        begin = max([turn.start, *(each.end for each in others if each.start <= turn.start)])
        later = [each.start for each in others if each.start > turn.start]
        end = min([turn.end, until, *later])
        if end - begin > 0.5:
            found.append((round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE)))
    return found


def named(people: PeopleStore, path: Path, reference: Turns, known: set[str]) -> Named:
    """Listen to a conversation; its second half counts."""
    samples, listener = load_audio(path), people.listen()
    began, answers = time.process_time(), []
    for at in range(0, len(samples), PIECE):
        answers += listener.add(samples[at : at + PIECE])
    busy, half = time.process_time() - began, len(samples) / SAMPLE_RATE / 2
    wrong, count, false, of_strangers = wrong_names(answers, reference, half, known)
    delays, long_delays, unknown, strangers = [], [], 0, 0
    for turn in reference.turns:
        if turn.seconds < LONG_TURN or turn.start < half:
            continue
        inside = [each for each in answers if turn.start < each.end <= turn.end + HOP]
        if turn.speaker in known:
            ends = [each.end for each in inside if each.name == turn.speaker]
            delays.append(min(ends) - turn.start if ends else math.inf)
            long_delays += delays[-1:] if turn.seconds >= 2 * LONG_TURN else []
        else:
            strangers, unknown = strangers + 1, unknown + any(each.name is None for each in inside)
    counts = (wrong, count, false, of_strangers, unknown, strangers)
    return Named(delays, long_delays, *counts, busy, len(samples) / SAMPLE_RATE)


def wrong_names(
    answers: list[Speaking], reference: Turns, half: float, known: set[str]
) -> tuple[int, int, int, int]:
    """Wrong and all names of known people, names and all answers of others.

    They are counted where one speaks, for 1.5 s already, in the second half.
    """
    wrong = count = false = of_strangers = 0
    ends = [0.0, *(each.end for each in answers)]
    for before, each in zip(ends, answers, strict=False):
        middle = max(before, each.end - HOP / 2)
        speaking = [turn for turn in reference.turns if turn.start <= middle < turn.end]
        if each.end <= half or len(speaking) != 1 or middle <= speaking[0].start + 1.5:
            continue
        if speaking[0].speaker not in known:
            of_strangers, false = of_strangers + 1, false + (each.name is not None)
        elif each.name is not None:
            count, wrong = count + 1, wrong + (each.name != speaking[0].speaker)
    return wrong, count, false, of_strangers


@app.command()
def streams(
    folder: Folder,
    encoder: str = "small",
    count: int = 50,
    seconds: float = 60.0,
    names: bool = False,
) -> None:
    """How many can be heard at once."""
    loaded, files = load_encoder(encoder), sorted(folder.glob("*.wav"))
    if not names:
        hear_at_once(loaded, files, count, seconds, lambda: diarize_live(loaded))
        return
    references = load_turns(folder / "reference.rttm")
    with TemporaryDirectory() as temporary, PeopleStore(Path(temporary) / "p.db", loaded) as people:
        outside: dict[str, bool] = {}
        for path in files[:8]:
            enrol_some(people, path, references[path.stem], outside)
        hear_at_once(loaded, files, count, seconds, people.listen)


def hear_at_once(
    loaded: Encoder,
    files: list[Path],
    count: int,
    seconds: float,
    listener: Callable[[], LiveDiarizer | Listener],
) -> None:
    """Hear so many streams, and print how many could keep up."""
    length = round(seconds * SAMPLE_RATE)
    sounds = [np.resize(load_audio(path), length) for path in files[:8]]
    each = [(listener(), samples) for samples in islice(cycle(sounds), count)]
    cores = available_cores()
    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(cores) as pool, loaded.backend.streams(cores):
        for at in range(0, length, PIECE):
            part = slice(at, at + PIECE)
            list(pool.map(lambda one, part=part: one[0].add(one[1][part]), each))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{count} streams of {seconds:g} s: {wall:.1f} s, {cpu:.1f} of the processor, on {cores} "
        f"cores: {seconds * count / wall:.0f} could keep up, {seconds * count * cores / cpu:.0f} "
        "by the processor's time"
    )


@app.command()
def memory(folder: Folder, encoder: str = "small", hours: float = 4.0) -> None:
    """What a stream that never ends needs, every ten minutes."""
    loaded = load_encoder(encoder)
    diarizer = diarize_live(loaded)
    sounds = cycle([load_audio(path) for path in sorted(folder.glob("*.wav"))[:4]])
    done, shown, began = 0.0, 0.0, time.process_time()
    while done < 3600 * hours:
        for said in (diarizer.add(part) for part in np.array_split(next(sounds), 100)):
            del said
        done = diarizer.stream.seconds
        if done >= shown:
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            factor = (time.process_time() - began) / done
            print(
                f"{done / 60:.0f} min: {kilobytes / 1000:.0f} MB at most; real-time factor "
                f"{factor:.3f}",
                flush=True,
            )
            shown += 600


if __name__ == "__main__":
    app()
