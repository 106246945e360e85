"""Our front end against the spectrograms that the original code computed."""

import numpy as np
import pytest
import soundfile
import torch

from speakervlad.models import frontend
from speakervlad.models.frontend import FRONT_ENDS, normalise
from speakervlad.models.spectrogram import Spectrogram

FRAMES = 250


def LinearSpectrogram(**options):  # noqa: N802 - a row of the table
    return Spectrogram(FRONT_ENDS["linear"](**options))


def read(shared_reference, name):
    samples, _ = soundfile.read(shared_reference / f"wav/{name}.wav", dtype="float32")
    return torch.from_numpy(samples)[None]


def close(ours, theirs):
    theirs = torch.from_numpy(theirs)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("name", ["short_even", "short_odd", "cut120", "x_3", "x_2", "cat1040"])
def test_evaluation_spectrograms(shared_reference, name):
    theirs = np.load(shared_reference / f"spec/eval_{name}.npz")
    waveform = read(shared_reference, name)
    if "mag" in theirs:
        magnitudes = LinearSpectrogram(mirror=True, normalise="none").eval()
        close(magnitudes(waveform)[0], theirs["mag"])
    close(LinearSpectrogram(mirror=True).eval()(waveform)[0], theirs["norm"])
    in_numpy = FRONT_ENDS["linear"]().features(
        torch.cat([waveform, waveform.flip(-1)], 1)[0].numpy()
    )
    close(torch.from_numpy(frontend.normalise(in_numpy, "frequency")), theirs["norm"])


def draws(shared_reference):
    theirs = np.load(shared_reference / "spec/train_mode.npz")
    magnitudes = dict(zip(theirs["mag_index"].tolist(), theirs["mag"], strict=True))
    for row, name in enumerate(theirs["wav"]):
        waveform = read(shared_reference, name.decode())
        draw = int(theirs["start"][row]), bool(theirs["flipped"][row])
        yield waveform, *draw, theirs["norm"][row], magnitudes.get(row)


def test_training_spectrograms_of_the_whole_doubled_signal(shared_reference):
    """Doubled, perhaps reversed, transformed as a whole, cut or zero-padded, then normalised."""
    front_end = LinearSpectrogram(normalise="none").eval()
    for waveform, start, flipped, norm, magnitudes in draws(shared_reference):
        doubled = torch.cat([waveform, waveform], dim=-1)
        whole = front_end(doubled.flip(-1) if flipped else doubled)
        missing = max(FRAMES - whole.shape[-1], 0)
        cut = torch.nn.functional.pad(whole, (0, missing))[:, :, max(start, 0) :][:, :, :FRAMES]
        if magnitudes is not None:
            close(cut[0], magnitudes)
        close(normalise(cut, "frequency")[0], norm)


def test_training_crops_of_the_waveform_give_the_same_frames(shared_reference):
    """What training does: a crop of the periodic signal, transformed without padding.

    Equal in every frame whose window lies inside the doubled signal: all but the first two and the
    last two of the 1 + n // 160, which the original reflects. Utterances of less than 1.25 s, which
    the original fills with zero frames, are repeated instead and left out here.
    """
    front_end = LinearSpectrogram().train()
    compared = 0
    for waveform, start, flipped, norm, _ in draws(shared_reference):
        doubled = torch.cat([waveform, waveform], dim=-1)
        if start < 0:
            continue
        size, length = front_end.spec.crop_samples(FRAMES), doubled.shape[-1]
        first = 160 * start - 256
        if flipped:
            first = length - (first + size)
        crop = waveform[:, (first + torch.arange(size)) % waveform.shape[-1]]
        close(front_end(crop.flip(-1) if flipped else crop)[0], norm)
        compared += 1
    assert compared == 6
