"""A recording that is to be enrolled or identified: read once, as sums, digest and voices."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speakervlad.audio.recording import AudioLike, Recording
from speakervlad.audio.waves import blocks_of
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.models.sums import PoolingSums
from speakervlad.people.mixture import Mixture, find_mixture, listen
from speakervlad.people.records import Person
from speakervlad.sound import SAMPLE_RATE


@dataclass(frozen=True)
class Heard:
    """A recording that was read.

    Attributes:
        name: how messages call it.
        digest: SHA-256 of its samples.
        sums: of its frames, or of those of its speech.
        seconds: of audio, or of speech where only speech was summed.
        mixture: two voices, if it has them.
    """

    name: str
    digest: str
    sums: PoolingSums
    seconds: float
    mixture: Mixture | None = None


def hear(encoder: FrameEncoder, audio: AudioLike, apart: float) -> Heard:
    """Read a recording.

    Args:
        encoder: makes its sums.
        audio: as ``Recording`` takes it.
        apart: cosine below which two voices are two people's; -1 where it is not known.

    Raises:
        InputError: it cannot be embedded, or hardly anybody speaks in it.
    """
    recording = Recording.of(audio)
    digest = hashlib.sha256()
    for block in blocks_of(recording.whole):
        digest.update(np.ascontiguousarray(block, "<f4").data)
    sums, frames = listen(encoder, recording)
    seconds = recording.wave.num_samples / SAMPLE_RATE
    mixture = find_mixture(frames, apart)
    return Heard(recording.name, digest.hexdigest(), sums, seconds, mixture)


def not_known(person: Person, heard: Sequence[Heard]) -> tuple[list[Heard], list[Heard]]:
    """Recordings that a person does not have yet, each once, and the others."""
    digests = {recording.digest for recording in person.recordings}
    fresh: dict[str, Heard] = {}
    known = []
    for each in heard:
        if each.digest in digests or each.digest in fresh:
            known.append(each)
        else:
            fresh[each.digest] = each
    return list(fresh.values()), known
