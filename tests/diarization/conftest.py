"""Conversations of generated voices, and the encoder that ships."""

import numpy as np
import pytest

from speakervlad import load_encoder
from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.diarization.turns import Turn, Turns

RATE = 16000
TURN, PAUSE = 2.5, 0.4


@pytest.fixture(scope="session")
def encoder():
    return load_encoder(backend="onnxruntime")


@pytest.fixture(scope="session")
def make_talk():
    """``make_talk("abab")``: samples, and the turns of the voices that the letters stand for."""

    def make(order, turn=TURN):
        rng = np.random.default_rng(0)
        voices = {name: Voice.draw(np.random.default_rng(ord(name))) for name in sorted(set(order))}
        parts, turns, at = [np.zeros(RATE // 2)], [], 0.5
        for name in order:
            said = synthesise(voices[name], rng, turn)
            parts += [0.3 * said / np.abs(said).max(), np.zeros(round(PAUSE * RATE))]
            turns.append(Turn(at, at + turn, name))
            at += len(said) / RATE + PAUSE
        samples = np.concatenate(parts)
        samples += 1e-3 * rng.standard_normal(len(samples))
        return samples.astype(np.float32), Turns("talk", tuple(turns))

    return make


@pytest.fixture(scope="session")
def talk(make_talk):
    """Two voices by turns, 10 s each."""
    return make_talk("ghghghgh")
