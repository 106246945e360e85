"""A recording in, the turns of its speakers out."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.audio.local_speakers import network_file, scores_by
from speakervlad.audio.recording import AudioLike, Recording, takes_old_options
from speakervlad.audio.remarks import remark
from speakervlad.audio.waves import SpeechWave
from speakervlad.diarization.calls import turns_by_channel
from speakervlad.diarization.cells import Plan, SpeechCells, plan_cells, speech_cells
from speakervlad.diarization.clustering import Limits
from speakervlad.diarization.overlap import second_speakers
from speakervlad.diarization.speakers import Known, speakers_of_cells, strangers
from speakervlad.diarization.talk import Talk, listen
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.errors import InputError
from speakervlad.extras import require
from speakervlad.progress import track
from speakervlad.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from speakervlad.people.people import PeopleStore

logger = logging.getLogger(__name__)

# Speakers of a higher cosine are one: so much, or more if one pair of strangers in so many reaches
# more with the encoder. Between strangers in one room it is higher than between recordings.
ALIKE, STRANGERS = 0.65, 0.0002
# Turns of one speaker with a shorter pause between them are joined.
PAUSE = 0.5


@takes_old_options
def diarize(
    audio: AudioLike,
    *,
    encoder: Encoder | None = None,
    speakers: int | None = None,
    min_speakers: int = 1,
    max_speakers: int = 20,
    min_seconds: float = 2.0,
    store: "PeopleStore | None" = None,
    fpir: float = 0.01,
    separate: bool = False,
    overlap: bool = True,
    method: str = "spectral",
) -> Turns:
    """Find who speaks when. The same recording gives the same turns, every time.

    Args:
        audio: as for ``Encoder.embed``; hours of it are read piece by piece.
        encoder: makes the vectors; the one that ships by default.
        speakers: how many there are, if that is known.
        min_speakers: else, at least so many.
        max_speakers: else, at most so many.
        min_seconds: of speech that somebody must say; shorter sounds make no speaker of their own.
        store: of people: speakers whom it knows get their names (two who are the same person
            become one), others ``speaker_1`` and so on, in the order of their first turns.
        fpir: share of speakers unknown to the store who may get a name of it.
        separate: take each channel of a file for one speaker, as calls are recorded.
        overlap: whether two may speak at once; else the one who goes on or comes does.
        method: ``spectral`` or ``agglomerative`` clustering.

    Returns:
        The turns, none where nobody speaks. At every time two speakers speak at most, one without
        ``overlap``; with ``separate`` any number.

    Raises:
        InputError: the audio is missing, damaged or empty; there is less speech than so many
            speakers need; a channel is chosen beside ``separate``; scipy is not installed.
    """
    limits = Limits(speakers or min_speakers, speakers or max_speakers, min_seconds)
    encoder = encoder or load_encoder()
    if separate:
        if speakers is not None or (min_speakers, max_speakers) != (1, 20):
            raise InputError(
                "separate channels: there are as many speakers as channels, which leaves nothing "
                "to a number of speakers."
            )
        return turns_by_channel(Recording.of(audio), encoder, store, fpir).joined(PAUSE)
    require("scipy", "diarization", "diarization")
    recording = Recording.of(audio)
    talk, turns = _listen(recording, encoder)
    plan = plan_cells(talk)
    if not len(plan):
        return turns
    _check_enough(turns.recording, plan, limits)
    speech = SpeechWave(recording.whole, plan.spans())
    cells = speech_cells(encoder.frames, speech, plan)
    known = strangers if store is None else partial(known_by, store, fpir)
    labels = speakers_of_cells(cells, limits, alike_by(encoder), method, known)
    _warn_of_fewer(recording.name, labels, limits)
    names = _names(cells, labels, known)
    said = turns_of(plan, labels, names)
    if overlap:
        # A second speaker who is never alone has the number behind the others.
        names.setdefault(len(names), f"speaker {len(names) + 1}")
        said += turns_of(plan, second_speakers(talk, plan, labels, limits), names)
    return replace(turns, turns=said).joined(PAUSE)


def _listen(recording: Recording, encoder: Encoder) -> tuple[Talk, Turns]:
    """What was heard, and the recording without turns."""
    recording.decode()
    blocks, count = recording.counted_blocks()
    scores = scores_by(encoder.backend.beside(network_file()))
    talk = listen(track(blocks, "searching", count), scores)
    if not talk.local.num_samples:
        raise InputError(f"{recording.name}: holds no samples.")
    return talk, Turns(Path(recording.name).stem, (), talk.local.num_samples / SAMPLE_RATE)


def _check_enough(recording: str, plan: Plan, limits: Limits) -> None:
    spoken = plan.seconds.sum()
    if limits.least > 1 and spoken < limits.least * limits.seconds:
        raise InputError(
            f"{recording}: {spoken:.1f} s of speech are too little for {limits.least} speakers of "
            f"{limits.seconds:g} s each. Ask for fewer."
        )


def _warn_of_fewer(name: str, labels: np.ndarray, limits: Limits) -> None:
    """Say where fewer speakers were found than there must be."""
    found = len(np.unique(labels[labels >= 0]))
    if found < limits.least:
        remark(
            logger,
            name,
            f"{found} speakers found, fewer than the {limits.least} that were asked for: the "
            "voices are not told further apart",
        )


def alike_by(encoder: Encoder) -> float:
    """The cosine that hardly any strangers reach."""
    known = encoder.thresholds
    stated = ALIKE if known is None else known.false_accept_rate.get(STRANGERS, ALIKE)
    return max(ALIKE, stated)


def known_by(store: "PeopleStore", fpir: float, vectors: np.ndarray) -> list[str | None]:
    """The names that the store has for some vectors."""
    return [answer.name for answer in store.match(vectors, fpir=fpir, top=1)]


def _names(cells: SpeechCells, labels: np.ndarray, known: Known) -> dict[int, str]:
    """A name for each speaker, numbered by their first cells; two may be the same person."""
    numbers, first = np.unique(labels, return_index=True)
    order = numbers[np.argsort(first)].tolist()
    given = known(cells.speaker_vectors(labels)[order])
    return {
        label: name or f"speaker_{number}"
        for number, (label, name) in enumerate(zip(order, given, strict=True), 1)
    }


def turns_of(plan: Plan, labels: np.ndarray, names: dict[int, str]) -> tuple[Turn, ...]:
    """Runs of one label in cells that touch.

    Args:
        plan: the cells.
        labels: int (cells,), -1 for nobody.
        names: of the labels.
    """
    touches = plan.bounds[1:, 0] == plan.bounds[:-1, 1]
    same = np.concatenate([[False], touches & (labels[1:] == labels[:-1])])
    begins = np.flatnonzero(~same)
    ends = np.append(begins[1:], len(plan)) - 1
    times = np.stack([plan.bounds[begins, 0], plan.bounds[ends, 1]], axis=1) / SAMPLE_RATE
    return tuple(
        Turn(round(begin, 3), round(end, 3), names[label])
        for (begin, end), label in zip(times.tolist(), labels[begins].tolist(), strict=True)
        if label >= 0 and round(end, 3) > round(begin, 3)
    )
