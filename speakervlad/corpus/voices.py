"""Generated speech: voices, the channels they are recorded over, and small corpora of both.

The source-filter model of speech (Fant 1960) with a cascade of resonances (Klatt 1980). What tells
speakers apart is what tells people apart: length of the tract, the places of its resonances, pitch
and its movement, the way the glottis closes, breath, the hiss of fricatives, rhythm.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from speakervlad.audio.writing import write_audio
from speakervlad.corpus.work import map_parallel
from speakervlad.files import check_writable
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest

WINDOW, HOP, NUM_FFT = 512, 256, 1024  # a formant frame lasts 16 ms
NUM_FORMANTS = 8
# First three formants in Hz of American English vowels, mean of men (Peterson and Barney 1952).
VOWELS = np.array(
    [
        [270, 2290, 3010],  # heed
        [390, 1990, 2550],  # hid
        [530, 1840, 2480],  # head
        [660, 1720, 2410],  # had
        [730, 1090, 2440],  # hod
        [570, 840, 2410],  # hawed
        [440, 1020, 2240],  # hood
        [300, 870, 2240],  # who'd
        [640, 1190, 2390],  # hud
        [490, 1350, 1690],  # heard
    ],
    float,
)
NUM_VOWELS = len(VOWELS)
# Consonants: level of voicing, level, centre (Hz) and width (octaves) of hiss, relative length.
CONSONANTS = np.array(
    [
        [0.00, 0.35, 6000, 0.5, 1.1],  # s
        [0.00, 0.35, 3300, 0.6, 1.1],  # sh
        [0.00, 0.10, 5000, 2.0, 0.9],  # f
        [0.30, 0.15, 5800, 0.6, 0.7],  # z
        [0.35, 0.04, 4500, 2.0, 0.6],  # v
        [0.00, 0.02, 2500, 2.0, 0.8],  # closure of a voiceless stop
        [0.08, 0.00, 2500, 2.0, 0.6],  # closure of a voiced stop
        [0.50, 0.00, 2500, 2.0, 0.7],  # nasal
        [0.70, 0.00, 2500, 2.0, 0.6],  # glide
    ]
)
NUM_BANDS = 32  # of a channel's frequency response


@dataclass(frozen=True)
class Voice:
    """What belongs to a speaker and stays the same from session to session.

    Attributes:
        tract: Formants relative to the mean of men (a shorter tract sounds higher).
        formants: Personal factor of every formant, (8,).
        vowels: Personal factor of every vowel's first three formants, (10, 3).
        pitch_hertz: Median pitch.
        pitch_range: Standard deviation of the pitch contour in semitones.
        open_quotient: Share of a glottal cycle during which the glottis is open.
        tilt_hertz: Corner of the source's extra low-pass.
        breath: Level of aspiration noise relative to voicing.
        jitter: Relative deviation of the period from cycle to cycle.
        shimmer: Relative deviation of the amplitude from cycle to cycle.
        bandwidth: Factor of all formant bandwidths.
        hiss: Factor of the fricatives' centre frequencies.
        phone_seconds: Mean length of a phone.
        pause: Chance of a pause after a syllable.
        coarticulation: Smoothing of the formant tracks, in phones.
    """

    tract: float
    formants: np.ndarray
    vowels: np.ndarray
    pitch_hertz: float
    pitch_range: float
    open_quotient: float
    tilt_hertz: float
    breath: float
    jitter: float
    shimmer: float
    bandwidth: float
    hiss: float
    phone_seconds: float
    pause: float
    coarticulation: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Voice":
        """A random speaker; tract and pitch go together as in women and men.

        Speakers spread somewhat wider than people do, so that a network can learn to tell them
        apart within minutes.
        """
        high = rng.random() < 0.5
        tract = rng.normal(1.16 if high else 1.0, 0.12)
        return cls(
            tract=tract,
            formants=np.exp(rng.normal(0, 0.12, NUM_FORMANTS)),
            vowels=np.exp(rng.normal(0, 0.07, VOWELS.shape)),
            pitch_hertz=(200 if high else 115) * np.exp(rng.normal(0, 0.2)),
            pitch_range=rng.uniform(0.8, 3.5),
            open_quotient=rng.uniform(0.4, 0.8),
            tilt_hertz=np.exp(rng.uniform(np.log(400), np.log(8000))),
            breath=np.exp(rng.uniform(np.log(0.01), np.log(0.25))),
            jitter=rng.uniform(0.002, 0.015),
            shimmer=rng.uniform(0.01, 0.08),
            bandwidth=rng.uniform(0.7, 1.5),
            hiss=np.exp(rng.normal(0, 0.2)),
            phone_seconds=rng.uniform(0.065, 0.12),
            pause=rng.uniform(0.03, 0.15),
            coarticulation=rng.uniform(0.2, 0.45),
        )


class _Phones(NamedTuple):
    """Targets per phone: formants Hz (phones, 8), the rest (phones,)."""

    formants: np.ndarray
    voicing: np.ndarray
    hiss: np.ndarray
    hiss_hertz: np.ndarray
    hiss_octaves: np.ndarray
    seconds: np.ndarray


def synthesise(voice: Voice, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Let a voice babble: float32 (round(seconds * 16000),), 16 kHz, root mean square 0.1."""
    num_samples = round(seconds * SAMPLE_RATE)
    num_frames = num_samples // HOP + 3
    tracks = _tracks(voice, _draw_phones(voice, rng, num_frames * HOP / SAMPLE_RATE), num_frames)
    voiced = _glottal_source(voice, rng, num_frames * HOP) * _per_sample(tracks.voicing)
    hiss = rng.standard_normal(num_frames * HOP, np.float32) * _per_sample(tracks.hiss)
    centres = _Phones(*(track[1:] for track in tracks))  # a window reaches over two frames
    spectrum = _spectrogram(voiced) * _tract_response(voice, centres.formants)
    spectrum += _spectrogram(hiss) * _hiss_response(centres)
    waveform = _overlap_add(spectrum)[:num_samples]
    return (0.1 / np.sqrt(np.mean(waveform**2)) * waveform).astype(np.float32)


def _draw_phones(voice: Voice, rng: np.random.Generator, seconds: float) -> _Phones:
    """Syllables of a consonant and a vowel, with pauses, that last at least ``seconds``."""
    count = 2 * int(np.ceil(seconds / voice.phone_seconds)) + 8
    vowel = rng.integers(NUM_VOWELS, size=count)
    consonants = CONSONANTS[rng.integers(len(CONSONANTS), size=count)]
    is_vowel = np.arange(count) % 2 == 1
    is_pause = ~is_vowel & (rng.random(count) < voice.pause)
    low = VOWELS[vowel] * voice.vowels[vowel]
    high = 1000.0 * np.arange(4, NUM_FORMANTS + 1) - 500.0
    formants = np.concatenate([low, np.broadcast_to(high, (count, len(high)))], axis=1)
    length = np.where(is_vowel, 1.25, consonants[:, 4])
    length = np.where(is_pause, rng.uniform(1.5, 4.0, count), length)
    return _Phones(
        formants=formants * voice.formants * voice.tract,
        voicing=np.where(is_pause, 0.0, np.where(is_vowel, 1.0, consonants[:, 0])),
        hiss=np.where(is_pause | is_vowel, 0.0, consonants[:, 1]),
        hiss_hertz=np.clip(consonants[:, 2] * voice.hiss * voice.tract**0.5, 1500, 7500),
        hiss_octaves=consonants[:, 3],
        seconds=voice.phone_seconds * length * rng.gamma(8, 1 / 8, count),
    )


def _tracks(voice: Voice, phones: _Phones, num_frames: int) -> _Phones:
    """Targets per phone to smooth tracks per frame; formants glide further than levels do."""
    ends = np.cumsum(phones.seconds) * SAMPLE_RATE / HOP
    phone = np.minimum(np.searchsorted(ends, np.arange(num_frames)), len(ends) - 1)
    glide = voice.coarticulation * voice.phone_seconds * SAMPLE_RATE / HOP
    return _Phones(
        formants=np.exp(gaussian_filter1d(np.log(phones.formants[phone]), glide, axis=0)),
        voicing=gaussian_filter1d(phones.voicing[phone], 0.7),
        hiss=gaussian_filter1d(phones.hiss[phone], 0.5),
        hiss_hertz=phones.hiss_hertz[phone],
        hiss_octaves=phones.hiss_octaves[phone],
        seconds=phones.seconds[phone],
    )


def _glottal_source(voice: Voice, rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Derivative of Rosenberg's glottal flow (1971, type C) with breath, float32 (samples,)."""
    pitch = _pitch_contour(voice, rng, num_samples)
    num_cycles = int(pitch.sum() / SAMPLE_RATE * 1.2) + 2
    cycle = np.cumsum(pitch / SAMPLE_RATE).astype(int)
    wander = rng.standard_normal((2, num_cycles))
    pitch = pitch * (1 + voice.jitter * wander[0, cycle])
    phase = np.cumsum(np.append(rng.random(), pitch / SAMPLE_RATE))
    position = phase % 1 / voice.open_quotient
    opening = 0.5 - 0.5 * np.cos(np.pi * position / 0.7)
    closing = np.cos(np.pi / 2 * (position - 0.7) / 0.3)
    flow = np.where(position < 0.7, opening, np.where(position < 1, closing, 0.0))
    pulses = np.diff(flow) * (1 + voice.shimmer * wander[1, cycle])
    noise = rng.standard_normal(num_samples) * (0.3 + flow[1:])
    pulses *= 1 / np.std(pulses)
    return (pulses + voice.breath * noise).astype(np.float32)


def _pitch_contour(voice: Voice, rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Hz per sample: accents of about a quarter second on a declining line."""
    num_frames = num_samples // HOP + 1
    accents = gaussian_filter1d(rng.standard_normal(num_frames + 60), 8.0)[30:-30]
    accents *= voice.pitch_range / max(accents.std(), 1e-9)
    decline = np.linspace(1.0, -1.0, num_frames) * rng.uniform(0.0, 1.5)
    semitones = accents + decline + rng.normal(0, 0.7)
    return voice.pitch_hertz * 2 ** (_per_sample(semitones)[:num_samples] / 12)


def _tract_response(voice: Voice, formants: np.ndarray) -> np.ndarray:
    """Cascade of two-pole resonances, gain one at 0 Hz, and the tilt: complex (frames, bins)."""
    width = voice.bandwidth * (50.0 + 0.04 * formants + 30.0 * np.square(formants / 4000.0))
    width += 3.0 * np.maximum(formants - 7300.0, 0.0)  # resonances beyond 8 kHz fade away
    hertz = np.minimum(formants, 7900.0)
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    linear = (-2 * radius * np.cos(2 * np.pi * hertz / SAMPLE_RATE)).astype(np.float32)
    square = np.square(radius).astype(np.float32)
    delay = np.exp(-2j * np.pi * np.arange(NUM_FFT // 2 + 1) / NUM_FFT).astype(np.complex64)
    delay_square = delay**2
    poles = np.ones((len(hertz), len(delay)), np.complex64)
    for a, b in zip(linear.T[:, :, None], square.T[:, :, None], strict=True):
        poles *= 1 + a * delay + b * delay_square
    corner = np.float32(np.exp(-2 * np.pi * voice.tilt_hertz / SAMPLE_RATE))
    gain = (1 - corner) * np.prod(1 + linear + square, axis=1)
    return gain[:, None] / (poles * (1 - corner * delay))


def _hiss_response(tracks: _Phones) -> np.ndarray:
    """Band of noise on a log-frequency axis: float32 (frames, bins)."""
    hertz = np.maximum(np.arange(NUM_FFT // 2 + 1) * SAMPLE_RATE / NUM_FFT, 1.0)
    octaves = np.log2(hertz) - np.log2(tracks.hiss_hertz)[:, None]
    return np.exp(-0.5 * np.square(octaves / tracks.hiss_octaves[:, None])).astype(np.float32)


def _spectrogram(waveform: np.ndarray) -> np.ndarray:
    """(frames * 256,) -> complex64 (frames - 1, bins): periodic Hann windows that add up to one."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW, dtype=np.float32) / WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP]
    return np.asarray(fft.rfft(frames * window, NUM_FFT, axis=1))


def _overlap_add(spectrum: np.ndarray) -> np.ndarray:
    """Filtered frames ring into the next ones: (frames, bins) -> (samples,)."""
    frames = np.asarray(fft.irfft(spectrum, NUM_FFT, axis=1)).reshape(len(spectrum), -1, HOP)
    out = np.zeros((len(spectrum) + frames.shape[1] - 1, HOP), np.float32)
    for block in range(frames.shape[1]):
        out[block : block + len(frames)] += frames[:, block]
    return out[1:].ravel()


def _per_sample(track: np.ndarray) -> np.ndarray:
    """Frame values (frames,) to sample values (frames * 256,) by straight lines."""
    samples = np.arange(len(track) * HOP) / HOP
    return np.interp(samples, np.arange(len(track)), track)


@dataclass(frozen=True)
class Channel:
    """One session's microphone, room and noise.

    Attributes:
        gains_db: Frequency response at 32 points spaced evenly in mel from 0 to 8 kHz, (32,).
        reverb_seconds: Time in which the room's sound falls by 60 dB.
        direct_db: Level of the direct sound relative to all reflections.
        snr_db: Speech to noise.
        noise_slope: Spectral slope of the noise, dB per octave.
        level_db: Root mean square of the recording relative to full scale.
    """

    gains_db: np.ndarray
    reverb_seconds: float
    direct_db: float
    snr_db: float
    noise_slope: float
    level_db: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Channel":
        """A random session: response with ripple and tilt, sometimes a narrow band."""
        position = np.linspace(0, 1, NUM_BANDS)
        ripple = gaussian_filter1d(rng.standard_normal(NUM_BANDS + 16), 2.0)[8:-8]
        gains_db = rng.uniform(0.25, 1.25) * ripple / ripple.std()
        gains_db += rng.normal(0, 2) * (position - 0.5)
        gains_db -= 30 * np.maximum(position - rng.uniform(0.85, 1.2), 0) / 0.2
        gains_db -= 20 * np.maximum(rng.uniform(-0.05, 0.05) - position, 0) / 0.08
        return cls(
            gains_db=gains_db,
            reverb_seconds=rng.uniform(0.05, 0.25),
            direct_db=rng.uniform(6, 18),
            snr_db=rng.uniform(20, 40),
            noise_slope=rng.uniform(-6, 0),
            level_db=rng.uniform(-32, -20),
        )

    def apply(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Record a waveform: float32 (samples,) -> float32 (samples,) within [-1, 1]."""
        length = len(waveform) + int(self.reverb_seconds * SAMPLE_RATE)
        size = fft.next_fast_len(length) or length
        room = np.asarray(fft.rfft(self._impulse_response(rng), size))
        spectrum = np.asarray(fft.rfft(waveform, size)) * room
        noise = np.asarray(fft.rfft(rng.standard_normal(size, np.float32)))
        hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
        noise *= np.maximum(hertz / 1000, 0.05) ** (self.noise_slope / 6.02)
        noise *= np.linalg.norm(spectrum) / np.linalg.norm(noise) * 10 ** (-self.snr_db / 20)
        recorded = np.asarray(fft.irfft((spectrum + noise) * self._response(hertz), size))
        recorded = recorded[: len(waveform)]
        recorded *= 10 ** (self.level_db / 20) / np.sqrt(np.mean(recorded**2))
        return np.clip(recorded, -1, 1).astype(np.float32)

    def _response(self, hertz: np.ndarray) -> np.ndarray:
        """Linear gain at the given frequencies."""
        mel = np.log1p(hertz / 700) / np.log1p(SAMPLE_RATE / 2 / 700)
        gains = np.interp(mel, np.linspace(0, 1, NUM_BANDS), self.gains_db)
        return 10 ** (gains / 20)

    def _impulse_response(self, rng: np.random.Generator) -> np.ndarray:
        """Direct sound and exponentially decaying noise, float32 (samples,)."""
        time = np.arange(int(self.reverb_seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / self.reverb_seconds)
        tail[: SAMPLE_RATE // 500] = 0  # the first reflection comes 2 ms after the direct sound
        tail *= 10 ** (-self.direct_db / 20) / np.linalg.norm(tail)
        tail[0] = 1
        return tail.astype(np.float32)


class _Utterance(NamedTuple):
    speaker: int
    session: int
    number: int


def make_corpus(
    folder: str | Path,
    *,
    num_speakers: int,
    num_sessions: int = 3,
    utterances_per_session: int = 5,
    min_seconds: float = 2.0,
    max_seconds: float = 4.0,
    seed: int = 0,
    speaker_prefix: str = "speaker",
    num_workers: int | None = 0,
) -> Manifest:
    """Write ``speaker/session/utterance.wav`` (16 kHz, 16 bit) below a folder.

    Everything depends on ``(seed, speaker_prefix, speaker, session, utterance)`` only: other
    prefixes are other people, and a larger corpus contains the smaller one.

    Args:
        folder: Made when missing; the root of the manifest.
        num_speakers: Voices.
        num_sessions: Recording sessions per speaker, each with its own channel.
        utterances_per_session: Files per session.
        min_seconds: Shortest utterance.
        max_seconds: Longest utterance.
        seed: Key of all randomness.
        speaker_prefix: Begins the speakers' names.
        num_workers: Spawned processes; None for one per core, 0 to work in this one.

    Raises:
        InputError: ``folder`` cannot be written.
    """
    folder = Path(folder)
    check_writable(folder / "utterance.wav")
    shape = (num_speakers, num_sessions, utterances_per_session)
    utterances = [_Utterance(*map(int, index)) for index in np.ndindex(shape)]
    names = [
        f"{speaker_prefix}{speaker:03d}/session{session}/{number:03d}"
        for speaker, session, number in utterances
    ]
    write = partial(_write_utterance, folder, seed, speaker_prefix, (min_seconds, max_seconds))
    num_samples = map_parallel(
        write,
        list(zip(utterances, names, strict=True)),
        num_workers=num_workers,
        description="Generating voices",
    )
    return Manifest.of(
        folder,
        utterance_ids=names,
        paths=[f"{name}.wav" for name in names],
        speakers=[name.split("/")[0] for name in names],
        sessions=[name.rsplit("/", 1)[0] for name in names],
        num_samples=num_samples,
    )


def _write_utterance(
    folder: Path,
    seed: int,
    prefix: str,
    seconds: tuple[float, float],
    named: tuple[_Utterance, str],
) -> int:
    """Generate one file; return its number of samples."""
    (speaker, session, number), name = named
    key = [seed, int.from_bytes(prefix.encode()), speaker + 1]
    voice = Voice.draw(np.random.default_rng(key))
    channel = Channel.draw(np.random.default_rng([*key, session + 1]))
    rng = np.random.default_rng([*key, session + 1, number + 1])
    waveform = channel.apply(synthesise(voice, rng, rng.uniform(*seconds)), rng)
    write_audio(folder / f"{name}.wav", waveform)
    return len(waveform)
