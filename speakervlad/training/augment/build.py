"""From config to augmentation; every mistake in the section shows here."""

from itertools import pairwise

import torch

from speakervlad.config import AugmentConfig, Config
from speakervlad.data.dataset import UtteranceDataset
from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, check_range
from speakervlad.extras import require
from speakervlad.models.frontend import SAMPLE_RATE, ShortTimeFourier
from speakervlad.training.augment.augmenter import Augmenter
from speakervlad.training.augment.crops import DrawnCrops, Masks
from speakervlad.training.augment.sources import NoiseSource, RoomSource

PROBABILITIES = (
    "noise_probability",
    "rir_probability",
    "codec_probability",
    "telephone_probability",
)
RANGES = ("noise_snr_db", "music_snr_db", "babble_snr_db", "babble_speakers")
SIZES = ("gain_db", "time_masks", "time_mask_frames", "freq_masks", "freq_mask_bins")
SLOWEST, FASTEST = 0.5, 2.0


def check_augment(config: AugmentConfig) -> None:
    """Refuse values out of range, and effects without their source.

    Raises:
        InputError: as said; also a codec is asked and PyAV is not installed.
    """
    for key in PROBABILITIES:
        check_range(f"augment.{key}", getattr(config, key), at_least=0, at_most=1)
    for key in RANGES:
        values = getattr(config, key)
        if len(values) != 2 or values[0] > values[1]:
            raise InputError(f"augment.{key}={list(values)}: must be [lowest, highest].")
    for key in SIZES:
        check_range(f"augment.{key}", getattr(config, key), at_least=0)
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
    if config.noise_probability and config.noise_manifest is None:
        raise InputError(
            "augment.noise_probability needs augment.noise_manifest. "
            "Write one with `speakervlad prepare --layout musan`."
        )
    if config.noise_probability and config.babble_speakers[0] < 1:
        raise InputError("augment.babble_speakers: babble needs at least 1 voice.")
    if config.rir_probability and config.rir_manifest is None:
        raise InputError(
            "augment.rir_probability needs augment.rir_manifest. Write one with "
            "`speakervlad prepare --layout rirs`, or simulate rooms with `speakervlad rooms`."
        )
    if config.rir_probability:
        check_range("augment.rir_seconds", config.rir_seconds, at_least=0.01)
    if config.codec_probability:
        if not config.codecs:
            raise InputError("augment.codec_probability needs augment.codecs. Name one.")
        require("av", "formats", "augment.codec_probability")


def read_samples(crop_samples: int, speeds: tuple[float, ...]) -> int:
    """Samples to read for a crop at the fastest speed."""
    return -int(-crop_samples * max(speeds) // 1)


def build_crops(
    config: AugmentConfig, crops: UtteranceDataset, spectrogram: tuple[int, int]
) -> DrawnCrops:
    """Crops with what is drawn for them; ``spectrogram`` has so many bins and frames.

    Raises:
        InputError: a manifest cannot be read, or a mask is wider than the spectrogram.
    """
    noise = rooms = None
    if config.noise_probability and config.noise_manifest:
        ratios = (config.noise_snr_db, config.music_snr_db, config.babble_snr_db)
        noise = NoiseSource(
            Manifest.load(config.noise_manifest, config.noise_root),
            dict(zip(("noise", "music", "speech"), ratios, strict=True)),
            config.babble_speakers,
        )
    if config.rir_probability and config.rir_manifest:
        manifest = Manifest.load(config.rir_manifest, config.rir_root)
        rooms = RoomSource(manifest, round(config.rir_seconds * SAMPLE_RATE))
    num_bins, num_frames = spectrogram
    time = Masks(config.time_masks, config.time_mask_frames, num_frames)
    freq = Masks(config.freq_masks, config.freq_mask_bins, num_bins)
    for key, masks in (("time_mask_frames", time), ("freq_mask_bins", freq)):
        if masks.count and masks.widest >= masks.size:
            raise InputError(
                f"augment.{key}={masks.widest}: must be less than the spectrogram's {masks.size}."
            )
    return DrawnCrops(crops, config, noise, rooms, time, freq)


def build_augmenter(
    config: Config, front_end: ShortTimeFourier, num_speakers: int, device: torch.device
) -> Augmenter:
    """What the device does to batches of those crops."""
    num_frames = crop_frames(config, front_end)
    return Augmenter(
        num_samples=front_end.crop_samples(num_frames),
        num_speakers=num_speakers,
        speeds=config.augment.speeds,
        spectrogram=(front_end.num_bins, num_frames),
        device=device,
    )


def crop_frames(config: Config, front_end: ShortTimeFourier) -> int:
    """Frames of a training crop."""
    return round(config.data.crop_seconds * SAMPLE_RATE / front_end.hop_length)
