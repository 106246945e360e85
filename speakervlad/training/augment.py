"""Augmentation: workers draw what happens to a crop, the device that trains applies it.

Adding an effect costs its function in ``effects.py``, its config field, its draw and row of
``EFFECTS`` here, and its test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.utils.data import Dataset

from speakervlad.config import AugmentConfig
from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.errors import InputError, check_range
from speakervlad.extras import require
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest, load_manifest
from speakervlad.training.effects import (
    CODECS,
    add_noise,
    change_pitch,
    change_speed,
    interrupt,
    kept,
    respond,
    reverberate,
    scale,
    store,
    telephone,
    transcode,
)
from speakervlad.training.sources import NoiseSource, RoomSource
from speakervlad.training.teacher import Targets

RANGES = (
    "noise_snr_db",
    "music_snr_db",
    "babble_snr_db",
    "babble_speakers",
    "interruption_seconds",
    "interruption_db",
    "level_dbfs",
    "pitch_factors",
)
SLOWEST, FASTEST = 0.5, 2.0
# Points of a drawn frequency response, evenly in mel, and how often either end of it is cut.
RESPONSE_POINTS, BAND_EDGE_PROBABILITY = 32, 0.3


class Material(NamedTuple):
    """What a draw may use: the config, the sources of noise and rooms, samples of a crop."""

    config: AugmentConfig
    noise: NoiseSource | None
    rooms: RoomSource | None
    num_samples: int


# What was drawn for one crop: the effect's arguments besides the waveform; None leaves it alone.
Values = tuple[Any, ...] | None


def draw_room(rng: np.random.Generator, material: Material) -> Values:
    """An impulse response."""
    if material.rooms is None or rng.random() >= material.config.rir_probability:
        return None
    return (material.rooms.draw(rng),)


def draw_noise(rng: np.random.Generator, material: Material) -> Values:
    """Noise as long as the crop, and the ratio to mix it at in dB."""
    if material.noise is None or rng.random() >= material.config.noise_probability:
        return None
    return material.noise.draw(rng, material.num_samples)


def draw_interruption(rng: np.random.Generator, material: Material) -> Values:
    """A sound as long as the crop, where a stretch of it is heard, and its level in dB."""
    config, num_samples = material.config, material.num_samples
    if material.noise is None or rng.random() >= config.interruption_probability:
        return None
    shortest, longest = config.interruption_seconds
    wanted = round(rng.uniform(shortest, longest) * SAMPLE_RATE)
    length = max(1, min(wanted, num_samples // 2))
    start = int(rng.integers(num_samples - length + 1))
    sound = np.zeros(num_samples, np.float32)
    sound[start : start + length] = material.noise.draw(rng, length)[0]
    lowest, highest = config.interruption_db
    return sound, np.array([[start, length]]), rng.uniform(lowest, highest)


def draw_pitch(rng: np.random.Generator, config: AugmentConfig) -> float:
    """A factor of pitch and tempo; 1 leaves both."""
    if rng.random() >= config.pitch_probability:
        return 1.0
    low, high = np.log(config.pitch_factors)
    return float(np.exp(rng.uniform(low, high)))


def draw_codec(rng: np.random.Generator, config: AugmentConfig) -> tuple[str, int] | None:
    """A codec and its bit rate."""
    if rng.random() >= config.codec_probability:
        return None
    codec = config.codecs[int(rng.integers(len(config.codecs)))]
    _, _, bit_rates, _ = CODECS[codec]
    return codec, int(rng.integers(*bit_rates))


def draw_telephone(rng: np.random.Generator, material: Material) -> Values:
    """No values: whether the effect happens is all that is drawn."""
    return () if rng.random() < material.config.telephone_probability else None


def draw_gain(rng: np.random.Generator, material: Material) -> Values:
    """A gain in dB."""
    limit = material.config.gain_db
    return (rng.uniform(-limit, limit),) if limit else None


def draw_channel(rng: np.random.Generator, material: Material) -> Values:
    """A frequency response in dB: ripple and tilt, sometimes a narrow band."""
    if rng.random() >= material.config.channel_probability:
        return None
    place = np.linspace(0, 1, RESPONSE_POINTS)
    ripple = gaussian_filter1d(rng.standard_normal(RESPONSE_POINTS + 16), 2.0)[8:-8]
    gains = rng.uniform(0, 5) * ripple / ripple.std() + rng.normal(0, 8) * (place - 0.5)
    if rng.random() < BAND_EDGE_PROBABILITY:
        gains -= np.minimum(600 * np.maximum(place - rng.uniform(0.65, 1.0), 0), 60)
    if rng.random() < BAND_EDGE_PROBABILITY:
        gains -= np.minimum(300 * np.maximum(rng.uniform(0.0, 0.2) - place, 0), 40)
    return (gains,)


def draw_level(rng: np.random.Generator, material: Material) -> Values:
    """A peak in dB of full scale."""
    if rng.random() >= material.config.level_probability:
        return None
    lowest, highest = material.config.level_dbfs
    return (rng.uniform(lowest, highest),)


class Effect(NamedTuple):
    """One effect.

    Attributes:
        stream: number of the random stream that it draws from, used by no other, so that changing
            one effect leaves the draws of all others as they are.
        draw: what happens to one crop, drawn by a worker.
        apply: ``(waveforms, *values)`` of the crops that drew it, on the device that trains.
    """

    stream: int
    draw: Callable[[np.random.Generator, Material], Values]
    apply: Callable[..., Tensor]


# In the order in which they happen to real recordings. Stream 0 draws the crop itself, the other
# numbers that are missing here are those of ``STREAMS``.
EFFECTS = {
    "room": Effect(3, draw_room, reverberate),
    "channel": Effect(11, draw_channel, respond),
    "noise": Effect(2, draw_noise, add_noise),
    "interruption": Effect(12, draw_interruption, interrupt),
    "telephone": Effect(5, draw_telephone, telephone),
    "gain": Effect(6, draw_gain, scale),
    "level": Effect(9, draw_level, store),
}
STREAMS = {"speed": 1, "codec": 4, "time": 7, "freq": 8, "pitch": 10, "copy": 13}


def stream_of(seed: int, place: tuple[int, int], name: str) -> np.random.Generator:
    """The random stream of an effect for the crop ``(epoch, index)``."""
    number = EFFECTS[name].stream if name in EFFECTS else STREAMS[name]
    return np.random.default_rng((seed, *place, number))


@dataclass(frozen=True)
class Masks:
    """Number and greatest width of the masks over an axis of ``size`` places."""

    count: int
    widest: int
    size: int

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Spans ``(start, length)``, int64 (count, 2), inside the axis (Park et al. 2019)."""
        lengths = rng.integers(0, self.widest + 1, self.count)
        starts = rng.integers(0, self.size - lengths + 1)
        return np.stack([starts, lengths], axis=1)


class DrawnCrop(NamedTuple):
    """One crop before the device works on it; ``speed`` numbers the configured speeds."""

    waveform: Tensor
    speaker: int
    epoch: int
    index: int
    speed: int
    effects: dict[str, Values]
    time_spans: np.ndarray
    freq_spans: np.ndarray


class Drawn(NamedTuple):
    """Which rows of a batch drew an effect, and its values for them, one tensor an argument."""

    rows: Tensor
    values: tuple[Tensor, ...]


class DrawnBatch(NamedTuple):
    """Crops side by side; ``speaker`` is the speaker, not yet the class."""

    waveform: Tensor
    speaker: Tensor
    epoch: Tensor
    index: Tensor
    speed: Tensor
    effects: dict[str, Drawn]
    time_spans: Tensor
    freq_spans: Tensor


class DrawnCrops(Dataset[DrawnCrop]):
    """Crops with their augmentation, each drawn by its own ``(seed, epoch, index)``.

    Args:
        crops: the crops as they are; long enough for the fastest speed.
        config: what is done how often.
        noise: where noise comes from, if any does.
        rooms: where impulse responses come from, if any do.
        time: masks over frames.
        freq: masks over frequency bins.
    """

    def __init__(
        self,
        crops: UtteranceDataset,
        config: AugmentConfig,
        noise: NoiseSource | None,
        rooms: RoomSource | None,
        time: Masks,
        freq: Masks,
    ) -> None:
        self.crops, self.config, self.time, self.freq = crops, config, time, freq
        self.material = Material(config, noise, rooms, crops.crop_samples)

    @property
    def manifest(self) -> Manifest:
        """The utterances."""
        return self.crops.manifest

    def bad_utterances(self) -> list[str]:
        """Ids of the utterances that could not be read so far."""
        return self.crops.bad_utterances()

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, key: tuple[int, int]) -> DrawnCrop:
        """Read, draw; the effects already heard are those of another pitch and of a codec.

        Raises:
            InputError: the crop, noise or a response cannot be read.
        """
        crop = self.crops[key]
        place = (crop.epoch, crop.index)
        return DrawnCrop(
            torch.from_numpy(self._heard(crop.waveform.numpy(), place)),
            *(crop.speaker, crop.epoch, crop.index),
            speed=int(self._rng("speed", place).integers(len(self.config.speeds))),
            effects={
                name: effect.draw(self._rng(name, place), self.material)
                for name, effect in EFFECTS.items()
            },
            time_spans=self.time.draw(self._rng("time", place)),
            freq_spans=self.freq.draw(self._rng("freq", place)),
        )

    def _rng(self, name: str, place: tuple[int, int]) -> np.random.Generator:
        return stream_of(self.crops.seed, place, name)

    def _heard(self, waveform: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        # As much as without another pitch, of what was read for the highest one.
        size = int(len(waveform) / reserve(self.config) + 1e-6)
        factor = draw_pitch(self._rng("pitch", place), self.config)
        pitched = waveform[:size] if factor == 1 else change_pitch(waveform, factor, size)
        codec = draw_codec(self._rng("codec", place), self.config)
        return pitched if codec is None else transcode(pitched, *codec)


def collate(crops: list[DrawnCrop]) -> DrawnBatch:
    """Side by side; an effect's values only of the crops that drew it."""
    return DrawnBatch(
        waveform=torch.stack([crop.waveform for crop in crops]),
        speaker=torch.tensor([crop.speaker for crop in crops]),
        epoch=torch.tensor([crop.epoch for crop in crops]),
        index=torch.tensor([crop.index for crop in crops]),
        speed=torch.tensor([crop.speed for crop in crops]),
        effects={name: _drawn([crop.effects[name] for crop in crops]) for name in EFFECTS},
        time_spans=torch.from_numpy(np.stack([crop.time_spans for crop in crops])),
        freq_spans=torch.from_numpy(np.stack([crop.freq_spans for crop in crops])),
    )


def _drawn(values: list[Values]) -> Drawn:
    rows = [row for row, value in enumerate(values) if value is not None]
    columns = zip(*(value for value in values if value is not None), strict=True)
    tensors = (torch.from_numpy(np.stack(column).astype(np.float32)) for column in columns)
    return Drawn(torch.tensor(rows, dtype=torch.int64), tuple(tensors))


class Examples(NamedTuple):
    """What a training step takes: (batch, samples), (batch,) and, if masked, (batch, freq, time).

    ``sound`` may also be the feature maps (batch, channel, row, frame) of a frozen trunk. ``keep``
    is false where the spectrogram is masked. ``targets`` (batch, dim) are a teacher's; a
    row without a label then has class -1.
    """

    sound: Tensor
    classes: Tensor
    keep: Tensor | None = None
    targets: Tensor | None = None

    def split(self, parts: int) -> list["Examples"]:
        """Equal parts along the batch."""
        columns = [[None] * parts if column is None else column.chunk(parts) for column in self]
        return [Examples(*part) for part in zip(*columns, strict=True)]


class Augmenter:
    """Speed, then ``EFFECTS``, then masks, each on the rows of the batch that drew it.

    Args:
        num_samples: length of a crop when its speed has changed.
        num_speakers: classes per speed; class = speaker + number of the speed * num_speakers.
        speeds: factors, the first 1.
        spectrogram: bins and frames that the front end makes of a crop.
        device: where to work.
        targets: what a teacher says, if there is one.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        num_speakers: int,
        speeds: tuple[float, ...],
        spectrogram: tuple[int, int],
        device: torch.device,
        targets: Targets | None = None,
    ) -> None:
        self.targets = targets
        self.num_samples, self.num_speakers, self.speeds = num_samples, num_speakers, speeds
        self.spectrogram, self.device = spectrogram, device

    @torch.no_grad()
    def __call__(self, batch: DrawnBatch) -> Examples:
        """Apply what was drawn; no row depends on another."""
        waveforms = self._at_their_speeds(self._move(batch.waveform), batch.speed)
        for name, effect in EFFECTS.items():
            rows, values = batch.effects[name]
            if len(rows):
                rows, values = self._move(rows), map(self._move, values)
                waveforms = waveforms.index_copy(0, rows, effect.apply(waveforms[rows], *values))
        classes = batch.speaker + batch.speed * self.num_speakers
        if self.targets is None:
            return Examples(waveforms, self._move(classes), self._masks(batch))
        classes = torch.where(self.targets.labelled[batch.speaker], classes, -1)
        targets = self._move(self.targets.vectors[batch.speed, batch.index])
        return Examples(waveforms, self._move(classes), self._masks(batch), targets)

    def _at_their_speeds(self, waveforms: Tensor, numbers: Tensor) -> Tensor:
        changed = waveforms[:, : self.num_samples]
        for number, speed in enumerate(self.speeds[1:], start=1):
            rows = torch.nonzero(numbers == number).flatten()
            if len(rows):
                rows = self._move(rows)
                played = change_speed(waveforms[rows], speed, self.num_samples)
                changed = changed.index_copy(0, rows, played)
        return changed

    def _masks(self, batch: DrawnBatch) -> Tensor | None:
        if not batch.time_spans.shape[1] + batch.freq_spans.shape[1]:
            return None
        num_bins, num_frames = self.spectrogram
        over_bins = kept(self._move(batch.freq_spans), num_bins)
        over_frames = kept(self._move(batch.time_spans), num_frames)
        return over_bins[:, :, None] & over_frames[:, None, :]

    def _move(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)


def build_sources(config: AugmentConfig) -> tuple[NoiseSource | None, RoomSource | None]:
    """Where noise and rooms come from, as far as they are asked for.

    Raises:
        InputError: a manifest cannot be read.
    """
    noise = rooms = None
    if (config.noise_probability or config.interruption_probability) and config.noise_manifest:
        ratios = (config.noise_snr_db, config.music_snr_db, config.babble_snr_db)
        noise = NoiseSource(
            load_manifest(config.noise_manifest, config.noise_root),
            dict(zip(("noise", "music", "speech"), ratios, strict=True)),
            config.babble_speakers,
        )
    if config.rir_probability and config.rir_manifest:
        manifest = load_manifest(config.rir_manifest, config.rir_root)
        rooms = RoomSource(manifest, round(config.rir_seconds * SAMPLE_RATE))
    return noise, rooms


def build_crops(
    config: AugmentConfig, crops: UtteranceDataset, spectrogram: tuple[int, int]
) -> DrawnCrops:
    """Crops with what is drawn for them; ``spectrogram`` has so many bins and frames.

    Raises:
        InputError: a manifest cannot be read, or a mask is wider than the spectrogram.
    """
    noise, rooms = build_sources(config)
    num_bins, num_frames = spectrogram
    time = Masks(config.time_masks, config.time_mask_frames, num_frames)
    freq = Masks(config.freq_masks, config.freq_mask_bins, num_bins)
    for key, masks in (("time_mask_frames", time), ("freq_mask_bins", freq)):
        if masks.count and masks.widest >= masks.size:
            raise InputError(
                f"augment.{key}={masks.widest}: must be less than the spectrogram's {masks.size}."
            )
    return DrawnCrops(crops, config, noise, rooms, time, freq)


def read_samples(crop_samples: int, config: AugmentConfig) -> int:
    """Samples to read for a crop at the fastest speed and the highest pitch."""
    at_speed = -int(-crop_samples * max(config.speeds) // 1)
    return -int(-at_speed * reserve(config) // 1)


def reserve(config: AugmentConfig) -> float:
    """How much more is read than without a change of pitch."""
    return max(1.0, *config.pitch_factors) if config.pitch_probability else 1.0


def check_augment(config: AugmentConfig) -> None:
    """Refuse values out of range, and effects without their source.

    Raises:
        InputError: as said; also a codec is asked and PyAV is not installed.
    """
    for key in RANGES:
        values = getattr(config, key)
        if len(values) != 2 or values[0] > values[1]:
            raise InputError(f"augment.{key}={list(values)}: must be [lowest, highest].")
    check_range("augment.pitch_factors", min(config.pitch_factors), at_least=SLOWEST)
    check_range("augment.pitch_factors", max(config.pitch_factors), at_most=FASTEST)
    _check_speeds(config.speeds)
    _check_sources(config)


def _check_speeds(speeds: tuple[float, ...]) -> None:
    ordered = sorted(speeds)
    distinct = all(slow < fast for slow, fast in pairwise(ordered))
    if not speeds or speeds[0] != 1 or not distinct:
        raise InputError(f"augment.speeds={list(speeds)}: must be distinct and begin with 1.")
    if ordered[0] < SLOWEST or ordered[-1] > FASTEST:
        raise InputError(f"augment.speeds={list(speeds)}: must be from {SLOWEST:g} to {FASTEST:g}.")


def _check_sources(config: AugmentConfig) -> None:
    for key in ("noise_probability", "interruption_probability"):
        if getattr(config, key) and config.noise_manifest is None:
            raise InputError(
                f"augment.{key} needs augment.noise_manifest. "
                "Write one with `speakervlad prepare --layout musan`."
            )
    if config.noise_probability and config.babble_speakers[0] < 1:
        raise InputError("augment.babble_speakers: babble needs at least 1 voice.")
    if config.rir_probability and config.rir_manifest is None:
        raise InputError(
            "augment.rir_probability needs augment.rir_manifest. Write one with "
            "`speakervlad prepare --layout rirs`, or simulate rooms with `speakervlad rooms`."
        )
    if config.codec_probability:
        if not config.codecs:
            raise InputError("augment.codec_probability needs augment.codecs. Name one.")
        require("av", "formats", "augment.codec_probability")
