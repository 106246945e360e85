"""Draw every augmentation on one generated utterance.

    python recipes/augmentation/pictures.py recipes/augmentation/augmentation.png

Needs ``pip install -e ".[train,formats,plots,rooms]"``. Everything is drawn from one seed.
"""

import io
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rooms import simulate_room
from scipy.signal import stft

from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.files import atomic_path
from speakervlad.sound import SAMPLE_RATE
from speakervlad.training.effects import (
    add_noise,
    change_speed,
    kept,
    reverberate,
    scale,
    telephone,
    transcode,
)
from speakervlad.training.sources import aligned

SEED = 8
SECONDS = 2.0
SAMPLES = round(SECONDS * SAMPLE_RATE)
WINDOW, HOP = 400, 160
LOUDEST_DB, RANGE_DB = -35, 60
# What the speeds need beyond the two seconds that are drawn.
FASTEST = 1.1


def main() -> None:
    """Write the picture that the command line names."""
    with atomic_path(Path(sys.argv[1])) as path:
        buffer = io.BytesIO()
        draw(panels(np.random.default_rng(SEED))).savefig(buffer, dpi=100)
        Image.open(buffer).convert("RGB").quantize(256).save(path, optimize=True)


def panels(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Spectrograms in dB, (freq, frame), by title."""
    longer = speech(rng, SECONDS * FASTEST)[None]
    clean = longer[:, :SAMPLES]
    noise = traffic(rng)
    babble = torch.stack([speech(rng, SECONDS) for _ in range(5)]).sum(0, keepdim=True)
    room = torch.from_numpy(aligned(simulate_room(rng), SAMPLE_RATE))[None]
    waveforms = {
        "as recorded": clean,
        "noise, 5 dB": add_noise(clean, noise, torch.tensor([5.0])),
        "babble of 5, 13 dB": add_noise(clean, babble, torch.tensor([13.0])),
        "reverberation": reverberate(clean, room),
        "speed 0.9": change_speed(longer, 0.9, SAMPLES),
        "speed 1.1": change_speed(longer, FASTEST, SAMPLES),
        "telephone line": telephone(clean),
        "Opus, 6 kbit/s": coded(clean, "opus", 6_000),
        "mp3, 16 kbit/s": coded(clean, "mp3", 16_000),
        "gain, -12 dB": scale(clean, torch.tensor([-12.0])),
        "reversed": clean.flip(1),
    }
    shown = {title: decibels(waveform[0].numpy()) for title, waveform in waveforms.items()}
    return shown | {"masks": masked(shown["as recorded"])}


def speech(rng: np.random.Generator, seconds: float) -> torch.Tensor:
    """An utterance of a voice of its own at -26 dB of full scale, (samples,)."""
    waveform = synthesise(Voice.draw(rng), rng, seconds)[: round(seconds * SAMPLE_RATE)]
    return torch.from_numpy(waveform * np.float32(0.05 / np.sqrt(np.mean(waveform**2))))


def traffic(rng: np.random.Generator) -> torch.Tensor:
    """Noise that falls by 6 dB an octave, (1, samples)."""
    spectrum = np.fft.rfft(rng.standard_normal(SAMPLES))
    spectrum /= np.maximum(np.arange(len(spectrum)), 200)
    return torch.from_numpy(np.fft.irfft(spectrum, SAMPLES).astype(np.float32))[None]


def coded(waveform: torch.Tensor, codec: str, bit_rate: int) -> torch.Tensor:
    """What a lossy codec leaves, (1, samples)."""
    return torch.from_numpy(transcode(waveform[0].numpy(), codec, bit_rate))[None]


def decibels(waveform: np.ndarray) -> np.ndarray:
    """Short-time power, no less than what is drawn, (freq, frame)."""
    _, _, spectrum = stft(waveform, nperseg=WINDOW, noverlap=WINDOW - HOP, nfft=1024)
    return np.maximum(20 * np.log10(np.abs(spectrum) + 1e-8), LOUDEST_DB - RANGE_DB)


def masked(spectrogram: np.ndarray) -> np.ndarray:
    """Two masks over time and two over frequency, filled with the mean."""
    bins, frames = spectrogram.shape
    time = kept(torch.tensor([[[40, 18], [140, 10]]]), frames)[0].numpy()
    freq = kept(torch.tensor([[[80, 40], [300, 60]]]), bins)[0].numpy()
    return np.where(time & freq[:, None], spectrogram, spectrogram.mean())


def draw(spectrograms: dict[str, np.ndarray]) -> Figure:
    """A grid of spectrograms over one time and one frequency axis, in one scale of levels."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(3, 4, sharex=True, sharey=True)
    image = None
    for axis, (title, spectrogram) in zip(axes.flat, spectrograms.items(), strict=True):
        image = axis.imshow(
            spectrogram,
            origin="lower",
            aspect="auto",
            extent=(0, SECONDS, 0, SAMPLE_RATE / 2000),
            vmin=LOUDEST_DB - RANGE_DB,
            vmax=LOUDEST_DB,
            cmap="magma",
        )
        axis.set_title(title, fontsize=10)
    assert image is not None
    figure.supxlabel("seconds", fontsize=10)
    figure.supylabel("kHz", fontsize=10)
    figure.colorbar(image, ax=axes, label="dB of full scale", shrink=0.6, pad=0.01)
    return figure


if __name__ == "__main__":
    main()
