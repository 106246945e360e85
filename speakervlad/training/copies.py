"""Copies of recordings for a frame cache: what is cut, at which pitch and speed, and its effects.

All of it is drawn by ``(data.frame_cache.seed, copy, index)``. Copy 0 is the recording as it is.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from speakervlad.audio.quality import Level
from speakervlad.audio.spans import load_audio
from speakervlad.config import AugmentConfig, FrameCacheConfig
from speakervlad.encoder.frames import Chunk, plan_pieces
from speakervlad.errors import InputError
from speakervlad.models.frontend import FrontEnd
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest
from speakervlad.training.augment import (
    EFFECTS,
    Material,
    build_sources,
    draw_codec,
    draw_pitch,
    stream_of,
)
from speakervlad.training.effects import change_pitch, change_speed, transcode

# Spectrograms have a multiple of so many frames: runtimes prepare themselves for every new length.
FRAME_STEP = 16


@dataclass(frozen=True)
class TrunkFrames:
    """The frames that a trunk makes of a recording.

    Attributes:
        front_end: waveform to spectrogram.
        stride: spectrogram frames per frame.
        padding: kernel and stride of the trunk's first layer along time, see ``Trunk``.
        dim: numbers in a frame, all channels and rows of it.
        piece_seconds: longer recordings are cut into such pieces.
    """

    front_end: FrontEnd
    stride: int
    padding: tuple[int, int]
    dim: int
    piece_seconds: float

    @property
    def per_second(self) -> float:
        """Frames of a second."""
        return SAMPLE_RATE / self.front_end.hop_length / self.stride

    def pieces(self, num_samples: int) -> list[Chunk]:
        """How so many samples are cut; at most 0.15 s at the end are left out."""
        *pieces, last = plan_pieces(num_samples, self.piece_seconds)
        framing = self.front_end.framing
        frames = framing.num_frames(last.stop - last.start) // FRAME_STEP * FRAME_STEP
        if frames > 0:
            last = last._replace(stop=last.start + framing.num_samples(frames))
        return [*pieces, last]

    def count(self, num_samples: int) -> int:
        """Frames of so many samples."""
        return sum(
            math.ceil(
                self.front_end.num_frames(max(stop - start, self.front_end.min_samples))
                / self.stride
            )
            for start, stop, _, _ in self.pieces(num_samples)
        )


class Copy(NamedTuple):
    """A copy of one recording.

    Attributes:
        start: first sample of the recording that is heard.
        stop: the one behind the last.
        pitch: factor of pitch and tempo.
        speed: number of its speed in ``augment.speeds``.
        num_samples: what is left at that pitch and speed.
    """

    start: int
    stop: int
    pitch: float
    speed: int
    num_samples: int


@dataclass(frozen=True)
class Copies:
    """What copies there are of every utterance, and how they sound.

    Attributes:
        manifest: the utterances.
        augment: the effects.
        cache: how many copies, what part of a recording is in them, and the seed of all draws.
    """

    manifest: Manifest
    augment: AugmentConfig
    cache: FrameCacheConfig

    @property
    def count(self) -> int:
        """Copies of the utterance that has most, the one without effects included."""
        return 1 + math.ceil(self.cache.copies)

    def exists(self, number: int, row: int) -> bool:
        """Whether an utterance has a copy of this number."""
        share = self.cache.copies - (number - 1)
        if number == 0 or share >= 1:
            return True
        return stream_of(self.cache.seed, (number, row), "copy").random() < share

    def plan(self, number: int, row: int) -> Copy:
        """The copy of this number; no audio is read."""
        length = int(self.manifest.num_samples[row])
        if number == 0:
            return Copy(0, length, 1.0, 0, length)
        place = (number, row)
        start, stop = self._part(length, place)
        pitch = draw_pitch(stream_of(self.cache.seed, place, "pitch"), self.augment)
        speeds = self.augment.speeds
        speed = int(stream_of(self.cache.seed, place, "speed").integers(len(speeds)))
        heard = int((stop - start) / pitch)
        return Copy(start, stop, pitch, speed, max(1, int(heard / speeds[speed])))

    def _part(self, length: int, place: tuple[int, int]) -> tuple[int, int]:
        """Which samples of so many are heard."""
        cache, rng = self.cache, np.random.default_rng((self.cache.seed, *place))
        seconds = cache.longest_seconds
        if cache.short_every and sum(place) % cache.short_every == 0:
            shortest, longest = cache.short_seconds
            seconds = rng.uniform(shortest, longest)
        part = min(length, round(seconds * SAMPLE_RATE)) if seconds else length
        start = int(rng.integers(length - part + 1))
        return start, start + part

    def waveform(self, number: int, row: int, *, effects: bool = True) -> np.ndarray:
        """Read a copy: float32 (samples,), as many as ``plan`` says.

        Args:
            number: of the copy.
            row: of the manifest.
            effects: without, the recording is whole and has nothing but the copy's speed.

        Raises:
            InputError: it cannot be read, or is silent; or noise or a room cannot be read.
        """
        copy = self.plan(number, row)
        path = self.manifest.path(row)
        start, stop = (
            (copy.start, copy.stop) if effects else (0, int(self.manifest.num_samples[row]))
        )
        sound = load_audio(path, start=start, num_samples=stop - start)
        if not Level(sound).has_sound and start == 0 and stop == self.manifest.num_samples[row]:
            raise InputError(f"{path}: is silent. Leave it out of the manifest.")
        if number == 0:
            return sound
        place = (number, row)
        if effects and copy.pitch != 1:
            sound = change_pitch(sound, copy.pitch, int(len(sound) / copy.pitch))
        if effects:
            codec = draw_codec(stream_of(self.cache.seed, place, "codec"), self.augment)
            sound = sound if codec is None else transcode(sound, *codec)
        sound = self._at_its_speed(sound, copy.speed)
        return self._with_effects(sound, place) if effects else sound

    def _at_its_speed(self, sound: np.ndarray, number: int) -> np.ndarray:
        speed = self.augment.speeds[number]
        if speed == 1:
            return sound
        samples = max(1, int(len(sound) / speed))
        return change_speed(torch.from_numpy(sound)[None], speed, samples)[0].numpy()

    @torch.no_grad()
    def _with_effects(self, sound: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        waveforms = torch.from_numpy(sound)[None]
        noise, rooms = self._sources
        material = Material(self.augment, noise, rooms, len(sound))
        for name, effect in EFFECTS.items():
            values = effect.draw(stream_of(self.cache.seed, place, name), material)
            if values is not None:
                drawn = (torch.from_numpy(np.asarray(value, np.float32))[None] for value in values)
                waveforms = effect.apply(waveforms, *drawn)
        return waveforms[0].numpy()

    @cached_property
    def _sources(self):  # noqa: ANN202 - as build_sources gives them
        return build_sources(self.augment)
