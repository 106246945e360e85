"""Conversations from the utterances of a manifest, with a reference of who speaks when.

    python recipes/diarization/simulate.py dev.csv OUT --noise noise.csv --count 21 --seed 1

Every conversation is of one corpus, so that channels do not tell its speakers apart. Turns last
2.5 s at the median (log-normal), pauses between them 0.3 s; a share of 0 to 20 % of the talk is two
speakers at once. All speakers stand in one simulated room, each in a place of their own; noise lies
10 to 20 dB below the speech. Conversation n depends on ``(seed, n)`` alone.

``--lively`` is nearer to life: longer turns, whose listeners put in a word now and then; the next
one begins 0.2 s after the end on average, often before it, and some interrupt.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.signal import fftconvolve

from speakervlad.audio.spans import load_audio
from speakervlad.audio.writing import write_audio
from speakervlad.diarization.turns import Turn, Turns, save_turns
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest, load_manifest

sys.path.append(str(Path(__file__).parents[1] / "augmentation"))
from rooms import simulate_places  # pyright: ignore[reportMissingImports]

NUM_SPEAKERS = range(2, 9)
CORPORA = ("librispeech_train", "speechocean762", "commonvoice_rsample")
MIN_UTTERANCES = 3
SECONDS = (150.0, 300.0)
TURN_MEDIAN, TURN_SPREAD, TURN_RANGE = 2.5, 0.9, (0.5, 20.0)
GAP_MEDIAN, GAP_SPREAD, GAP_RANGE = 0.3, 0.8, (0.05, 4.0)
PAUSE = (0.1, 0.5)
OVERLAP_SECONDS = (0.2, 1.5)
MAX_OVERLAP = 0.2
# Of lively talk: turns; from the end of a turn to the next (mean and spread of a normal
# distribution, near what Heldner and Edlund, "Pauses, gaps and overlaps in conversations", Journal
# of Phonetics 38, 2010, measured); how many interrupt, and by how much; words of listeners.
LIVELY_MEDIAN, LIVELY_SPREAD, LIVELY_RANGE = 4.0, 1.1, (0.5, 40.0)
TRANSFER, TRANSFER_RANGE = (0.2, 0.4), (-0.8, 3.0)
INTERRUPTIONS, INTERRUPTION_SECONDS = 0.1, (0.5, 2.0)
LISTENING_SECONDS, WORD_SECONDS = 6.0, (0.3, 1.0)
SNR_DB = (10.0, 20.0)
LEVEL_DB = 3.0
# A frame is speech above this below the loudest twentieth of its utterance; shorter pauses belong
# to the speech.
SPEECH_RANGE_DB, BRIDGED = 30.0, 0.5
HOP = 160
FADE = 320


@dataclass
class Speaker:
    """One who talks: what is left to say, the loudness, and the way to the microphone."""

    name: str
    paths: list[Path]
    response: np.ndarray
    gain: float
    weight: float
    rest: np.ndarray

    def say(self, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Up to so many samples of utterances with pauses between them."""
        parts, length = [], 0
        while length < num_samples and (len(self.rest) or self.paths):
            if not len(self.rest):
                self.rest = trimmed(load_audio(self.paths.pop()))
            part, self.rest = np.split(self.rest, [num_samples - length])
            if len(self.rest) < SAMPLE_RATE // 2:
                part, self.rest = np.concatenate([part, self.rest]), self.rest[:0]
            pause = np.zeros(round(rng.uniform(*PAUSE) * SAMPLE_RATE), np.float32)
            parts += [faded(part), pause]
            length += len(part) + len(pause)
        return np.concatenate([*parts[:-1], np.zeros(0, np.float32)])


def main(
    manifest: Annotated[Path, typer.Argument(help="Utterances, with a column `corpus`.")],
    out: Annotated[Path, typer.Argument(help="Folder for the recordings and reference.rttm.")],
    noise: Annotated[
        Path, typer.Option(help="Of `prepare --layout musan`; its speech and music are left out.")
    ],
    count: Annotated[int, typer.Option(help="Conversations.")] = 21,
    seed: Annotated[int, typer.Option(help="Key of all randomness.")] = 1,
    lively: Annotated[
        bool, typer.Option("--lively", help="Longer turns, words of listeners, interruptions.")
    ] = False,
) -> None:
    """Write ``count`` conversations of 2 to 8 people."""
    utterances, noises = load_manifest(manifest), load_manifest(noise)
    by_corpus = speakers_by_corpus(utterances)
    noise_paths = [
        noises.root / path
        for path, kind in zip(noises.paths, noises.speakers, strict=True)
        if kind == "noise"
    ]
    reference = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        size = NUM_SPEAKERS[number % len(NUM_SPEAKERS)]
        corpus = CORPORA[number % len(CORPORA)]
        name = f"{number:03d}-{corpus}-{size}"
        how = lively_talk if lively else talk
        samples, turns = conversation(by_corpus[corpus], size, noise_paths, rng, how)
        write_audio(out / f"{name}.wav", samples)
        reference.append(Turns(name, turns, len(samples) / SAMPLE_RATE))
        print(f"{name}: {reference[-1].seconds:.0f} s")
    save_turns(out / "reference.rttm", reference)


def speakers_by_corpus(manifest: Manifest) -> dict[str, dict[str, list[Path]]]:
    """Paths by corpus and speaker, of speakers with enough to say."""
    found: dict[str, dict[str, list[Path]]] = {}
    for path, speaker in zip(manifest.paths, manifest.speakers, strict=True):
        corpus = str(speaker).split("/")[0]
        found.setdefault(corpus, {}).setdefault(str(speaker), []).append(manifest.root / path)
    return {
        corpus: {name: paths for name, paths in of_it.items() if len(paths) >= MIN_UTTERANCES}
        for corpus, of_it in found.items()
    }


def conversation(
    known: dict[str, list[Path]],
    size: int,
    noises: list[Path],
    rng: np.random.Generator,
    how: "Talk",
) -> tuple[np.ndarray, tuple[Turn, ...]]:
    """Samples and turns of one conversation."""
    names = rng.choice(sorted(known), size, replace=False).tolist()
    speakers = [
        Speaker(
            name,
            [known[name][at] for at in rng.permutation(len(known[name]))],
            response,
            10 ** (rng.uniform(-LEVEL_DB, LEVEL_DB) / 20),
            float(rng.gamma(2.0)),
            np.zeros(0, np.float32),
        )
        for name, response in zip(names, simulate_places(rng, size), strict=True)
    ]
    length = round(rng.uniform(*SECONDS) * SAMPLE_RATE)
    mixture = np.zeros(length + 30 * SAMPLE_RATE, np.float32)
    turns, end = [], 0
    for speaker, dry, start in how(speakers, length, rng):
        # The direct sound is at the response's peak.
        wet = fftconvolve(dry, speaker.response)[int(np.argmax(np.abs(speaker.response))) :]
        stop = min(start + len(wet), len(mixture))
        mixture[start:stop] += wet[: stop - start] * speaker.gain
        turns += [
            Turn(round(start / SAMPLE_RATE + a, 3), round(start / SAMPLE_RATE + b, 3), speaker.name)
            for a, b in spoken(dry)
        ]
        end = max(end, start + len(dry))
    mixture = mixture[: end + SAMPLE_RATE // 2]
    mixture += noise_for(mixture, noises, rng)
    joined = Turns("", tuple(turns)).joined(BRIDGED)
    return mixture * np.float32(0.5 / np.abs(mixture).max()), joined.turns


def talk(
    speakers: list[Speaker], length: int, rng: np.random.Generator
) -> Iterator[tuple[Speaker, np.ndarray, int]]:
    """Yield who says what from which sample on, until nobody has more to say or time is up."""
    overlap, overlapped, said = rng.uniform(0, MAX_OVERLAP), 0, 1
    end, last, before = SAMPLE_RATE // 2, 0, None
    waiting = list(speakers)
    while end < length:
        speaker = next_speaker(speakers, before, waiting, rng)
        if speaker is None:
            return
        waiting = [one for one in waiting if one is not speaker]
        seconds = np.clip(rng.lognormal(np.log(TURN_MEDIAN), TURN_SPREAD), *TURN_RANGE)
        dry = speaker.say(round(seconds * SAMPLE_RATE), rng)
        start = end + round(gap(rng) * SAMPLE_RATE)
        if before is not None and overlapped < overlap * said:
            shared = min(rng.uniform(*OVERLAP_SECONDS) * SAMPLE_RATE, 0.8 * min(last, len(dry)))
            start = end - round(shared)
            overlapped += round(shared)
        yield speaker, dry, start
        said += len(dry)
        end, last, before = max(end, start + len(dry)), len(dry), speaker


def lively_talk(
    speakers: list[Speaker], length: int, rng: np.random.Generator
) -> Iterator[tuple[Speaker, np.ndarray, int]]:
    """As ``talk``, nearer to life."""
    end, last, before = SAMPLE_RATE // 2, 0, None
    waiting = list(speakers)
    while end < length:
        speaker = next_speaker(speakers, before, waiting, rng)
        if speaker is None:
            return
        waiting = [one for one in waiting if one is not speaker]
        seconds = np.clip(rng.lognormal(np.log(LIVELY_MEDIAN), LIVELY_SPREAD), *LIVELY_RANGE)
        dry = speaker.say(round(seconds * SAMPLE_RATE), rng)
        offset = np.clip(rng.normal(*TRANSFER), *TRANSFER_RANGE)
        if rng.random() < INTERRUPTIONS:
            offset = -rng.uniform(*INTERRUPTION_SECONDS)
        start = end + max(round(offset * SAMPLE_RATE), -round(0.8 * min(last, len(dry))))
        yield speaker, dry, start
        yield from words(speakers, speaker, start, start + len(dry), rng)
        end, last, before = max(end, start + len(dry)), len(dry), speaker


def words(
    speakers: list[Speaker], talking: Speaker, start: int, stop: int, rng: np.random.Generator
) -> Iterator[tuple[Speaker, np.ndarray, int]]:
    """What listeners put in while somebody talks."""
    at = start + round(rng.exponential(LISTENING_SECONDS) * SAMPLE_RATE)
    while at < stop - SAMPLE_RATE:
        listener = next_speaker(speakers, talking, [], rng)
        if listener is None:
            return
        dry = listener.say(round(rng.uniform(*WORD_SECONDS) * SAMPLE_RATE), rng)
        yield listener, dry, at
        at += len(dry) + round(rng.exponential(LISTENING_SECONDS) * SAMPLE_RATE)


def next_speaker(
    speakers: list[Speaker],
    before: Speaker | None,
    waiting: list[Speaker],
    rng: np.random.Generator,
) -> Speaker | None:
    """One of those who have something left to say and did not just speak, if there is one."""
    able = [one for one in speakers if one is not before and (one.paths or len(one.rest))]
    if not able:
        return None
    # Everybody says something before the talk takes its course.
    first = [one for one in able if one in waiting] if rng.random() < 0.5 else []
    choice = first or able
    weights = np.array([one.weight for one in choice])
    return choice[rng.choice(len(choice), p=weights / weights.sum())]


Talk = Callable[
    [list[Speaker], int, np.random.Generator], Iterator[tuple[Speaker, np.ndarray, int]]
]


def gap(rng: np.random.Generator) -> float:
    """Seconds between two turns."""
    return float(np.clip(rng.lognormal(np.log(GAP_MEDIAN), GAP_SPREAD), *GAP_RANGE))


def noise_for(mixture: np.ndarray, noises: list[Path], rng: np.random.Generator) -> np.ndarray:
    """One noise, repeated, at a level below that of the mixture's louder half."""
    noise = load_audio(noises[rng.integers(len(noises))])
    noise = np.resize(np.roll(noise, rng.integers(len(noise))), len(mixture))
    powers = np.square(mixture[: len(mixture) // HOP * HOP].reshape(-1, HOP)).mean(axis=1)
    level = powers[powers > np.median(powers)].mean() / np.square(noise).mean()
    return noise * np.float32(np.sqrt(level) * 10 ** (-rng.uniform(*SNR_DB) / 20))


def frame_speech(samples: np.ndarray) -> np.ndarray:
    """Whether each 10 ms are speech, (frames,) bool, by their level in a clean utterance."""
    if len(samples) < HOP:
        return np.zeros(0, bool)
    frames = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
    decibels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    loud, quiet = np.percentile(decibels, [95, 10])
    return decibels > max(loud - SPEECH_RANGE_DB, quiet + 0.25 * (loud - quiet))


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Without the silence before and after the speech."""
    at = np.flatnonzero(frame_speech(samples)) * HOP
    return samples[at[0] : at[-1] + HOP] if len(at) else samples[:0]


def faded(samples: np.ndarray) -> np.ndarray:
    """With 20 ms of fading at both ends, as utterances are cut anywhere."""
    faded = samples.copy()
    ramp = np.linspace(0, 1, min(FADE, len(samples) // 2), dtype=np.float32)
    if len(ramp):
        faded[: len(ramp)] *= ramp
        faded[-len(ramp) :] *= ramp[::-1]
    return faded


def spoken(samples: np.ndarray) -> Iterator[tuple[float, float]]:
    """Begin and end of the stretches of speech in seconds."""
    change = np.flatnonzero(np.diff(np.pad(frame_speech(samples), 1).astype(int)))
    for start, stop in change.reshape(-1, 2).tolist():
        if stop - start > 3:
            yield start * HOP / SAMPLE_RATE, stop * HOP / SAMPLE_RATE


if __name__ == "__main__":
    typer.run(main)
