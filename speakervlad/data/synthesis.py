"""A small corpus of generated voices: speakers with several sessions, each over its own channel."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speakervlad.data.channel import Channel
from speakervlad.data.encoding import write_audio
from speakervlad.data.manifest import Manifest
from speakervlad.data.parallel import map_parallel
from speakervlad.data.voice import Voice, synthesise
from speakervlad.files import check_writable
from speakervlad.progress import Track, silent

__all__ = ["Channel", "Voice", "make_corpus", "synthesise"]


class _Utterance(NamedTuple):
    speaker: int
    session: int
    number: int


def make_corpus(
    folder: str | Path,
    *,
    num_speakers: int,
    num_sessions: int = 3,
    utterances_per_session: int = 5,
    min_seconds: float = 2.0,
    max_seconds: float = 4.0,
    seed: int = 0,
    speaker_prefix: str = "speaker",
    num_workers: int | None = 0,
    track: Track = silent,
) -> Manifest:
    """Write ``speaker/session/utterance.wav`` (16 kHz, 16 bit) below a folder.

    Everything depends on ``(seed, speaker_prefix, speaker, session, utterance)`` only: other
    prefixes are other people, and a larger corpus contains the smaller one.

    Args:
        folder: Made when missing; the root of the manifest.
        num_speakers: Voices.
        num_sessions: Recording sessions per speaker, each with its own channel.
        utterances_per_session: Files per session.
        min_seconds: Shortest utterance.
        max_seconds: Longest utterance.
        seed: Key of all randomness.
        speaker_prefix: Begins the speakers' names.
        num_workers: Spawned processes; None for one per core, 0 to work in this one.
        track: Reports progress.

    Raises:
        InputError: ``folder`` cannot be written.
    """
    folder = Path(folder)
    check_writable(folder / "utterance.wav")
    shape = (num_speakers, num_sessions, utterances_per_session)
    utterances = [_Utterance(*map(int, index)) for index in np.ndindex(shape)]
    names = [
        f"{speaker_prefix}{speaker:03d}/session{session}/{number:03d}"
        for speaker, session, number in utterances
    ]
    write = partial(_write_utterance, folder, seed, speaker_prefix, (min_seconds, max_seconds))
    num_samples = map_parallel(
        write,
        list(zip(utterances, names, strict=True)),
        num_workers=num_workers,
        description="Generating voices",
        track=track,
    )
    return Manifest.of(
        folder,
        utterance_ids=names,
        paths=[f"{name}.wav" for name in names],
        speakers=[name.split("/")[0] for name in names],
        sessions=[name.rsplit("/", 1)[0] for name in names],
        num_samples=num_samples,
    )


def _write_utterance(
    folder: Path,
    seed: int,
    prefix: str,
    seconds: tuple[float, float],
    named: tuple[_Utterance, str],
) -> int:
    """Generate one file; return its number of samples."""
    (speaker, session, number), name = named
    key = [seed, int.from_bytes(prefix.encode()), speaker + 1]
    voice = Voice.draw(np.random.default_rng(key))
    channel = Channel.draw(np.random.default_rng([*key, session + 1]))
    rng = np.random.default_rng([*key, session + 1, number + 1])
    waveform = channel.apply(synthesise(voice, rng, rng.uniform(*seconds)), rng)
    write_audio(folder / f"{name}.wav", waveform)
    return len(waveform)
