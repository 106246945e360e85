"""A recording in, the turns of its speakers out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.audio.reading import audio_info
from speakervlad.audio.recording import AudioLike, Recording, takes_old_options
from speakervlad.audio.waves import SpeechWave
from speakervlad.diarization.clustering import Limits, cluster
from speakervlad.diarization.frames import SpeechFrames, speech_frames
from speakervlad.diarization.resegmentation import resegment
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.errors import InputError
from speakervlad.extras import require
from speakervlad.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from speakervlad.people.people import PeopleStore

# Seconds of a window, and from window to window.
WINDOW, HOP = 1.5, 0.75
# Shorter windows are too uncertain to be clustered; their frames get a speaker afterwards.
SHORTEST = 0.9
# Rounds of assigning frames to speakers and computing the speakers' vectors again.
PASSES = 2
# Extra clusters beyond the number that is found (at least half as many again): clusters of one
# speaker are joined afterwards.
SPARE = 3
# Speakers are joined above the encoder's threshold for this false-acceptance rate, or above this
# cosine if the encoder has no thresholds.
STRANGERS, ALIKE = 0.0002, 0.78
# Seconds of speech at which the expected cosine of two vectors of a speaker is half of its limit.
HALF_KNOWN = 1.5
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
            become one), others ``speaker 1`` and so on, in the order of their first turns.
        fpir: share of speakers unknown to the store who may get a name of it.
        separate: take each channel of a file for one speaker, as calls are recorded.
        method: ``spectral`` or ``agglomerative`` clustering.

    Returns:
        The turns, none where nobody speaks. At every time one speaker speaks, or nobody; with
        ``separate`` any number.

    Raises:
        InputError: the audio is missing, damaged or empty; there is less speech than so many
            speakers need; scipy or scikit-learn is not installed.
    """
    limits = Limits(speakers or min_speakers, speakers or max_speakers, min_seconds)
    encoder = encoder or load_encoder()
    if separate:
        return _by_channel(Recording.of(audio), encoder, store, fpir)
    require("scipy", "diarization", "diarization")
    require("sklearn", "diarization", "diarization")
    frames, turns = _listen(Recording.of(audio), encoder)
    if frames is None:
        return turns
    _check_enough(turns.recording, frames, limits)
    labels = _speakers_of_frames(frames, limits, encoder, method)
    names = _names(frames, labels, store, fpir)
    return replace(turns, turns=turns_of(frames, labels, names)).joined(PAUSE)


def _listen(recording: Recording, encoder: Encoder) -> tuple[SpeechFrames | None, Turns]:
    """The frames of all speech, if there is any, and the recording without turns."""
    recording.decode()
    found = recording.find_speech()
    turns = Turns(Path(recording.name).stem, (), found.seconds)
    if not len(found.spans):
        return None, turns
    wave = recording.whole
    speech = SpeechWave(wave, found.spans.clip(0, wave.num_samples))
    return speech_frames(encoder.frames, speech), turns


def _check_enough(recording: str, frames: SpeechFrames, limits: Limits) -> None:
    spoken = frames.joints[-1] / SAMPLE_RATE
    if limits.least > 1 and spoken < limits.least * limits.seconds:
        raise InputError(
            f"{recording}: {spoken:.1f} s of speech are too little for {limits.least} speakers of "
            f"{limits.seconds:g} s each. Ask for fewer."
        )


def _speakers_of_frames(
    frames: SpeechFrames, limits: Limits, encoder: Encoder, method: str
) -> np.ndarray:
    """(frames,) numbers of speakers from 0."""
    windows = frames.windows(WINDOW, HOP)
    sizes = windows[:, 1] - windows[:, 0]
    long_enough = sizes * frames.seconds >= SHORTEST
    if long_enough.any():
        windows, sizes = windows[long_enough], sizes[long_enough]
    seconds = sizes * frames.seconds * min(1.0, HOP / WINDOW)
    found = cluster(frames.vectors(windows), seconds, limits, method, SPARE)
    labels = _majority(windows, found, len(frames))
    labels = _joined(frames, labels, limits, _alike(encoder))
    for _ in range(PASSES):
        labels = resegment(frames, _vectors(frames, labels))
        labels = _without_small(labels, frames.seconds, limits)
        labels = _joined(frames, labels, limits, _alike(encoder))
    return resegment(frames, _vectors(frames, labels))


def _vectors(frames: SpeechFrames, labels: np.ndarray) -> np.ndarray:
    """(speakers, dim) of all frames of each label from 0, in the order of the labels."""
    numbers = np.unique(labels[labels >= 0])
    return np.stack([frames.vector(labels == number) for number in numbers])


def _joined(frames: SpeechFrames, labels: np.ndarray, limits: Limits, alike: float) -> np.ndarray:
    """Labels where speakers whose vectors are too much alike have become one.

    The less somebody says, the lower are the cosines of a vector, with the same speaker too: they
    are divided by what is expected of so much speech.
    """
    while True:
        numbers = np.unique(labels[labels >= 0])
        if len(numbers) <= limits.least:
            return labels
        seconds = np.bincount(labels[labels >= 0])[numbers] * frames.seconds
        known = _vectors(frames, labels) / np.sqrt(seconds / (seconds + HALF_KNOWN))[:, None]
        cosines = known @ known.T
        np.fill_diagonal(cosines, -np.inf)
        one, other = np.unravel_index(cosines.argmax(), cosines.shape)
        if cosines[one, other] < alike:
            return labels
        labels = np.where(labels == numbers[other], numbers[one], labels)


def _alike(encoder: Encoder) -> float:
    """The cosine above which two speakers are joined."""
    known = encoder.thresholds
    return ALIKE if known is None else known.false_accept_rate.get(STRANGERS, ALIKE)


def _majority(windows: np.ndarray, labels: np.ndarray, num_frames: int) -> np.ndarray:
    """(frames,) the label of most windows that a frame is in; -1 where they have none."""
    votes = np.zeros((num_frames, labels.max() + 1), int)
    for (start, stop), label in zip(windows.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            votes[start:stop, label] += 1
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def _without_small(labels: np.ndarray, seconds: float, limits: Limits) -> np.ndarray:
    """-1 for the frames of speakers who say too little, but for as many as there must be."""
    spoken = np.bincount(labels) * seconds
    ranked = np.argsort(-spoken, kind="stable")
    kept = [label for label in ranked if spoken[label] >= limits.seconds]
    kept = ranked[: max(len(kept), limits.least)]
    return np.where(np.isin(labels, kept), labels, -1)


def _names(
    frames: SpeechFrames, labels: np.ndarray, store: "PeopleStore | None", fpir: float
) -> dict[int, str]:
    """A name for each speaker, numbered by their first frames; two may be the same person."""
    numbers, first = np.unique(labels, return_index=True)
    order = numbers[np.argsort(first)].tolist()
    names = {label: f"speaker {number}" for number, label in enumerate(order, 1)}
    if store is None:
        return names
    vectors = np.stack([frames.vector(labels == label) for label in order])
    answers = store.match(vectors, fpir=fpir, top=1)
    known = zip(order, answers, strict=True)
    return names | {label: answer.name for label, answer in known if answer.name is not None}


def turns_of(frames: SpeechFrames, labels: np.ndarray, names: dict[int, str]) -> tuple[Turn, ...]:
    """Runs of one label, cut where the speech was joined, at their times in the recording.

    Args:
        frames: of the recording.
        labels: (frames,).
        names: of the labels.
    """
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    joints, centres = frames.joints, starts * frames.step
    # A run begins at a joint between the centres of its first frame and the one before it, or, if
    # there is none, half way.
    later = joints[np.searchsorted(joints, centres - frames.step, "right")]
    cuts = np.where(later <= centres, later, centres - frames.step // 2)
    edges = np.union1d(joints, cuts[cuts < joints[-1]])
    begins, ends = edges[:-1], edges[1:]
    shifts = (frames.spans[:, 0] - joints[:-1])[np.searchsorted(joints, begins, "right") - 1]
    said = labels[starts[np.searchsorted(cuts, begins, "right") - 1]]
    times = np.stack([begins + shifts, ends + shifts], axis=1) / SAMPLE_RATE
    return tuple(
        Turn(round(begin, 3), round(end, 3), names[label])
        for (begin, end), label in zip(times.tolist(), said.tolist(), strict=True)
        if round(end, 3) > round(begin, 3)
    )


def _by_channel(
    recording: Recording,
    encoder: Encoder,
    store: "PeopleStore | None",
    fpir: float,
) -> Turns:
    """The speech of each channel as one speaker's."""
    path = recording.path
    if path is None:
        raise InputError("audio: separate channels are taken from a file. Give its path.")
    count = audio_info(path).num_channels
    turns = Turns(path.stem)
    for channel in range(count):
        one = Recording(path, channel=channel, speech_only=True)
        if store is not None:
            one.decode()
        found = one.find_speech()
        name = f"speaker {channel + 1}"
        if store is not None and len(found.spans):
            vector = encoder.embed(one)
            name = store.match(vector[None], fpir=fpir, top=1)[0].name or name
        said = (Turn(round(a, 3), round(b, 3), name) for a, b in found.segments.tolist())
        turns = replace(turns, turns=(*turns.turns, *said), seconds=found.seconds)
    return turns.joined(PAUSE)
