"""What ghosts start from: frames of noise that stands in the middle of speech.

A trunk that sees the whole recording says something else of noise alone.
"""

import numpy as np
import torch
from torch import Tensor

from speakervlad.audio.spans import load_audio
from speakervlad.config import AugmentConfig
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import load_manifest
from speakervlad.training.frame_cache import FrameCache
from speakervlad.training.frame_maker import compute_frames, torch_trunk
from speakervlad.training.sources import NoiseSource

# Random stream of these draws.
GHOST_STREAM = 16
MOST_RECORDINGS = 100
NOISE_SECONDS, SPEECH_SECONDS = 2.0, 3.0
# Of the noise, by the power of the speech.
LEVEL_DB = (-15.0, 5.0)
# At either end of the noise, where the trunk's frames see speech as well.
MARGIN_SECONDS = 0.16


def ghost_maps(
    cache: FrameCache, augment: AugmentConfig, encoder: SpeakerEncoder, count: int, seed: int
) -> Tensor:
    """Feature maps (count, channel, row, frame) of noise with speech before and after it.

    The noise is that of ``augment.noise_manifest`` which is not made of voices, or white.

    Args:
        cache: utterances whose audio is read, and how the trunk hears them.
        augment: names the noise.
        encoder: its trunk.
        count: utterances at most.
        seed: of the draws.

    Raises:
        InputError: audio cannot be read.
    """
    rng = np.random.default_rng((seed, GHOST_STREAM))
    usable = np.flatnonzero(cache.kept[0])
    rows = rng.permutation(usable)[: min(count, MOST_RECORDINGS)]
    source = _noise(augment)
    num_noise = round(NOISE_SECONDS * SAMPLE_RATE)
    starts, waveforms = [], []
    for row in rows.tolist():
        noise = (
            rng.standard_normal(num_noise).astype(np.float32)
            if source is None
            else source.draw(rng, num_noise)[0]
        )
        limit = min(int(cache.manifest.num_samples[row]), round(SPEECH_SECONDS * SAMPLE_RATE))
        speech = load_audio(cache.manifest.path(row), num_samples=limit)
        level = np.sqrt(np.square(speech).mean()) * 10 ** (rng.uniform(*LEVEL_DB) / 20)
        middle = len(speech) // 2
        parts = (speech[:middle], np.float32(level) * noise, speech[middle:])
        starts.append(middle / SAMPLE_RATE)
        waveforms.append(np.concatenate(parts))
    found = compute_frames(cache.frames, torch_trunk(encoder, "float32"), waveforms)
    rate = cache.frames.per_second
    length = int((NOISE_SECONDS - 2 * MARGIN_SECONDS) * rate)
    kept = []
    for start, frames in zip(starts, found, strict=True):
        assert frames is not None
        first = int((start + MARGIN_SECONDS) * rate)
        kept.append(frames[first : first + length])
    maps = torch.from_numpy(np.stack(kept)).float().transpose(1, 2)
    return maps.unflatten(1, (encoder.trunk.channels, encoder.trunk.num_rows))


def _noise(augment: AugmentConfig) -> NoiseSource | None:
    """What is neither speech nor babble; None if there is no such."""
    if not augment.noise_manifest:
        return None
    manifest = load_manifest(augment.noise_manifest, augment.noise_root)
    rows = np.flatnonzero(manifest.speakers != "speech")
    ratios = {kind: (0.0, 0.0) for kind in ("noise", "music")}
    return NoiseSource(manifest.select(rows), ratios, (1, 1)) if len(rows) else None
