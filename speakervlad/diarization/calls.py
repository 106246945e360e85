"""Calls with a speaker on each channel: who speaks when, without what each hears of the other."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.audio.channels import Channels
from speakervlad.audio.decoding import open_audio
from speakervlad.audio.recording import Recording, split_channel
from speakervlad.audio.remarks import remark
from speakervlad.audio.waves import SpeechWave
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.encoder.encoder import Encoder
from speakervlad.errors import InputError
from speakervlad.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from speakervlad.people.people import PeopleStore

logger = logging.getLogger(__name__)

# Over so many frames of 0.1 s powers are compared: words have pauses.
SMOOTHED = 5
# Frames are pauses that are lower than the loudest one by so many decibels.
QUIETER = 30.0
# Decibels that one channel can be above another; beyond it is silence.
FARTHEST = 40.0
# Where both speak by turns, channels differ by one number of decibels as long as one does, and by
# another as long as the other does, so far apart at least. What is heard spreads by less than this.
APART, SPREAD = 12.0, 6.0
# Where only one speaks, the other channel is lower by so much at least if it only hears that.
LOWER = 10.0
# A channel that has less speech of its own has none; shorter rests of a span are no turns.
LEAST_SECONDS, SHORTEST_REST = 0.5, 0.3
# Of the speech of a channel: if another one has speech then, both hear one scene.
SAME_SCENE = 0.8


def turns_by_channel(
    recording: Recording, encoder: Encoder, store: "PeopleStore | None", fpir: float
) -> Turns:
    """The speech of each channel as one speaker's; the louder one has what two channels hear.

    Args:
        recording: a file.
        encoder: makes the vectors for the store.
        store: of people, who get their names; others are called by the numbers of their channels.
        fpir: share of strangers who may get a name.

    Raises:
        InputError: it is no file, or a channel of it was chosen.
    """
    if recording.path is None:
        raise InputError("audio: separate channels are taken from a file. Give its path.")
    path, chosen = split_channel(recording.path)
    if chosen is not None or recording.channel is not None:
        raise InputError(f"{recording.path}: all channels are taken, so none can be chosen.")
    powers, frame_seconds = _powers(path)
    sides = [
        Recording(path, channel=number, name=f"{path}:{number}")
        for number in range(powers.shape[1])
    ]
    if store is not None:
        for side in sides:
            side.decode()
    found = [side.find_speech() for side in sides]
    spans = own_speech(powers, [each.segments for each in found], frame_seconds)
    _warn_of_one_scene(str(path), spans)
    turns: list[Turn] = []
    for number, (side, said) in enumerate(zip(sides, spans, strict=True), 1):
        known = None if store is None else _known(side, said, encoder, store, fpir)
        name = known or f"speaker_{number}"
        turns += [Turn(round(begin, 3), round(end, 3), name) for begin, end in said.tolist()]
    return Turns(path.stem, tuple(turns), found[0].seconds)


def _known(
    side: Recording, spans: np.ndarray, encoder: Encoder, store: "PeopleStore", fpir: float
) -> str | None:
    """The store's name for whoever speaks in spans of a channel."""
    if not len(spans):
        return None
    wave = side.whole
    cuts = np.rint(spans * SAMPLE_RATE).astype(int).clip(0, wave.num_samples)
    vector = encoder.frames.embed(SpeechWave(wave, cuts))
    return store.match(vector[None], fpir=fpir, top=1)[0].name


def _powers(path: Path) -> tuple[np.ndarray, float]:
    """Mean powers (frames, channels) of a file, and the seconds of a frame."""
    with open_audio(path) as source:
        channels = Channels(str(path), source.sample_rate)
        for block in source.blocks():
            channels.add(block)
        return channels.powers(source.num_channels), channels.frame_seconds


def own_speech(
    powers: np.ndarray, spans: Sequence[np.ndarray], frame_seconds: float
) -> list[np.ndarray]:
    """The speech of each channel without what it only hears of another one.

    A call has two ratios of its channels' powers: while one side speaks, and while the other does.
    Where both channels have speech and their ratio is the one side's, the other only hears it.

    Args:
        powers: (frames, channels).
        spans: (spans, 2) seconds of speech of each channel.
        frame_seconds: of a frame.

    Returns:
        As ``spans``.
    """
    if not len(powers):
        return list(spans)
    active = np.stack([_frames_in(each, len(powers), frame_seconds) for each in spans], axis=1)
    smooth = np.stack([_moving_sum(column, SMOOTHED) for column in powers.T], axis=1)
    decibels = 10 * np.log10(smooth + 1e-20)
    own = active & ~_is_heard(decibels, active)
    seconds = own.sum(axis=0) * frame_seconds
    own &= (seconds >= LEAST_SECONDS) | (own == active).all(axis=0)
    return [_cut(each, own[:, number], frame_seconds) for number, each in enumerate(spans)]


def _frames_in(spans: np.ndarray, count: int, frame_seconds: float) -> np.ndarray:
    """(frames,) whether the middle of each lies in a span."""
    middles = (np.arange(count) + 0.5) * frame_seconds
    begun = np.searchsorted(spans[:, 0], middles, "right")
    ended = np.searchsorted(spans[:, 1], middles, "right")
    return begun > ended


def _moving_sum(values: np.ndarray, width: int) -> np.ndarray:
    """Of each value and its neighbours, ``width`` in all, an odd number."""
    return np.convolve(np.pad(values, width // 2), np.ones(width), "valid")


def _is_heard(decibels: np.ndarray, active: np.ndarray) -> np.ndarray:
    """(frames, channels) where a channel with speech only hears another one that has some too."""
    heard = np.zeros(active.shape, bool)
    # Pauses, in which noise alone is compared, go with the speech beside them.
    nearest = _nearest(decibels.max(axis=1) >= decibels.max() - QUIETER)
    # The detector does not begin and end in both channels at the same time.
    about = np.stack([_moving_sum(column, 2 * SMOOTHED + 1) > 0 for column in active.T], axis=1)
    count = active.shape[1]
    for one, other in ((one, other) for one in range(count) for other in range(count)):
        if one != other:
            ratio = (decibels[:, one] - decibels[:, other]).clip(-FARTHEST, FARTHEST)[nearest]
            most = _most_heard(ratio[active[:, one] | active[:, other]])
            heard[:, one] |= active[:, one] & about[:, other] & (ratio < most)
    return heard


def _nearest(marked: np.ndarray) -> np.ndarray:
    """(frames,) the number of the marked frame that is nearest to each, of which there is one."""
    (places,) = np.nonzero(marked)
    middles = (places[1:] + places[:-1]) / 2
    return places[np.searchsorted(middles, np.arange(len(marked)))]


def _most_heard(ratio: np.ndarray) -> float:
    """The decibels of a channel above another up to which it only hears that one.

    Args:
        ratio: (frames,) decibels where one of them has speech.
    """
    if not len(ratio):
        return -LOWER
    middle = np.percentile(ratio, [3, 97]).mean()
    while_other_speaks, while_one_speaks = ratio[ratio <= middle], ratio[ratio > middle]
    if not len(while_one_speaks):
        return -LOWER
    # While both speak, ratios lie anywhere between: the two numbers are where most frames are.
    heard, said = _mode(while_other_speaks), _mode(while_one_speaks)
    return heard + SPREAD if said - heard >= APART else -LOWER


def _mode(values: np.ndarray) -> float:
    """Where most values are, to a decibel."""
    counts, edges = np.histogram(values, np.arange(-FARTHEST - 2, FARTHEST + 3))
    return float(edges[_moving_sum(counts, 3).argmax()] + 0.5)


def _cut(spans: np.ndarray, kept: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Spans without their frames that are not kept; short rests go with these."""
    found = []
    for begin, end in spans.tolist():
        first, stop = round(begin / frame_seconds), min(round(end / frame_seconds), len(kept))
        inside = kept[first:stop]
        if inside.all():
            found.append((begin, end))
            continue
        edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)).reshape(-1, 2)
        for start, behind in (edges + first).tolist():
            left = begin if start == first else start * frame_seconds
            right = end if behind == stop else behind * frame_seconds
            if right - left >= SHORTEST_REST:
                found.append((left, right))
    return np.array(found, np.float64).reshape(-1, 2)


def _warn_of_one_scene(name: str, spans: Sequence[np.ndarray]) -> None:
    """Warn where hardly anything is heard by one channel alone."""
    for number, ours in enumerate(spans):
        for other, theirs in enumerate(spans[:number]):
            seconds = min(_seconds(ours), _seconds(theirs))
            if seconds and _seconds_shared(ours, theirs) > SAME_SCENE * seconds:
                remark(
                    logger,
                    name,
                    f"channels {other} and {number} have their speech at the same times and at "
                    "about the same level: every turn stands twice, if they hear one scene",
                    advice=". Leave out --channels separate then.",
                )


def _seconds(spans: np.ndarray) -> float:
    return float((spans[:, 1] - spans[:, 0]).sum())


def _seconds_shared(ours: np.ndarray, theirs: np.ndarray) -> float:
    starts = np.maximum(ours[:, None, 0], theirs[None, :, 0])
    ends = np.minimum(ours[:, None, 1], theirs[None, :, 1])
    return float(np.maximum(ends - starts, 0).sum())
