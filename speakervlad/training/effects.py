"""Effects on batches of waveforms, on whatever device they are, and codecs; nothing is random."""

import io
import math

import numpy as np
import soxr
import torch
from jaxtyping import Bool, Float, Int
from scipy.fft import next_fast_len
from torch import Tensor
from torchaudio.functional import mu_law_decoding, mu_law_encoding, resample

from speakervlad.sound import SAMPLE_RATE

# Samples kept before the strongest one of an impulse response: its filter rings a little ahead.
RIR_LEAD = 40
TELEPHONE_BAND_HERTZ = (300.0, 3400.0)
MU_LAW_LEVELS = 256
# Of a changed pitch: samples of a frame, the cepstrum that is the envelope (below the period of a
# voice of 500 Hz at 16 kHz), and how far an envelope is moved.
PITCH_FRAME, ENVELOPE_QUEFRENCY, LARGEST_MOVE = 512, 32, 3.0
# Encoder, container, lowest and highest bit rate, fastest setting.
CODECS = {
    "opus": ("libopus", "ogg", (6_000, 24_000), "0"),
    "mp3": ("libmp3lame", "mp3", (8_000, 48_000), "9"),
}

Waveforms = Float[Tensor, "batch samples"]


def change_speed(
    waveforms: Float[Tensor, "batch longer"], speed: float, num_samples: int
) -> Waveforms:
    """Play faster (``speed > 1``) or slower, tempo and pitch together; the first ``num_samples``.

    Needs ``ceil(num_samples * speed)`` samples.
    """
    needed = -int(-num_samples * speed // 1)
    if speed == 1:
        return waveforms[:, :num_samples]
    played = resample(waveforms[:, :needed], round(SAMPLE_RATE * speed), SAMPLE_RATE)
    return played[:, :num_samples]


def reverberate(waveforms: Waveforms, responses: Float[Tensor, "batch rir_samples"]) -> Waveforms:
    """Put each waveform into its own room, at its old level, length and place.

    Args:
        waveforms: dry signals.
        responses: impulse responses whose direct path is sample ``RIR_LEAD``; longer than the
            waveforms if they like.
    """
    num_samples = waveforms.shape[1]
    size = next_fast_len(num_samples + responses.shape[1] - 1, real=True)
    spectra = torch.fft.rfft(waveforms, size) * torch.fft.rfft(responses, size)
    wet = torch.fft.irfft(spectra, size)[:, RIR_LEAD : RIR_LEAD + num_samples]
    return wet * (power(waveforms) / power(wet)).sqrt()


def add_noise(
    waveforms: Waveforms,
    noise: Float[Tensor, "batch noise_samples"],
    snr_db: Float[Tensor, " batch"],
) -> Waveforms:
    """Add noise at a ratio of mean powers over the whole crop; silent noise adds nothing.

    Noise that is longer than the waveforms is cut.
    """
    noise = noise[:, : waveforms.shape[1]]
    ratio = power(waveforms) / power(noise)
    return waveforms + noise * (ratio * 10 ** (-snr_db[:, None] / 10)).sqrt()


def interrupt(
    waveforms: Waveforms,
    sounds: Waveforms,
    spans: Float[Tensor, "batch 1 2"],
    level_db: Float[Tensor, " batch"],
) -> Waveforms:
    """Replace a span ``(start, length)`` of each waveform by what is there in a sound.

    The sound comes at a ratio of its mean power in the span to that of the whole waveform.
    """
    inside = ~kept(spans.long(), waveforms.shape[1])
    heard = torch.where(inside, sounds, 0)
    own = heard.square().sum(dim=1, keepdim=True) / inside.sum(dim=1, keepdim=True)
    ratio = power(waveforms) / own.clamp(min=1e-12)
    gain = (ratio * 10 ** (level_db[:, None] / 10)).sqrt()
    return torch.where(inside, heard * gain, waveforms)


def telephone(waveforms: Waveforms) -> Waveforms:
    """Through a telephone line: 300 to 3400 Hz, 8 kHz, 8-bit mu-law (ITU-T G.711), at full scale.

    The signal is brought to full scale for the quantisation, as a line's level control does, and
    back afterwards.
    """
    num_samples = waveforms.shape[1]
    narrow = _band_pass(resample(waveforms, SAMPLE_RATE, SAMPLE_RATE // 2), SAMPLE_RATE // 2)
    peak = narrow.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
    codes = mu_law_encoding(narrow / peak, MU_LAW_LEVELS)
    narrow = mu_law_decoding(codes, MU_LAW_LEVELS) * peak
    return resample(narrow, SAMPLE_RATE // 2, SAMPLE_RATE)[:, :num_samples]


def respond(waveforms: Waveforms, gains_db: Float[Tensor, "batch points"]) -> Waveforms:
    """Through a frequency response at the old level: gains at points even in mel, 0 to 8 kHz."""
    num_samples = waveforms.shape[1]
    size = next_fast_len(num_samples, real=True)
    hertz = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE, device=waveforms.device)
    place = torch.log1p(hertz / 700) / math.log1p(SAMPLE_RATE / 2 / 700)
    gains = _between(gains_db, place * (gains_db.shape[1] - 1))
    heard = torch.fft.irfft(torch.fft.rfft(waveforms, size) * 10 ** (gains / 20), size)
    heard = heard[:, :num_samples]
    return heard * (power(waveforms) / power(heard)).sqrt()


def store(waveforms: Waveforms, peak_dbfs: Float[Tensor, " batch"]) -> Waveforms:
    """Bring the peak to a level relative to full scale and round to 16 bits, as files do."""
    peak = waveforms.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
    scaled = waveforms / peak * 10 ** (peak_dbfs[:, None] / 20)
    return (scaled * 32767).round() / 32768


def scale(waveforms: Waveforms, gain_db: Float[Tensor, " batch"]) -> Waveforms:
    """Louder or softer; what leaves [-1, 1] is clipped, as a converter does."""
    return (waveforms * 10 ** (gain_db[:, None] / 20)).clamp(-1, 1)


def kept(spans: Int[Tensor, "batch masks 2"], size: int) -> Bool[Tensor, "batch size"]:
    """Places outside of all ``(start, length)`` spans."""
    places = torch.arange(size, device=spans.device)
    starts, lengths = spans[:, :, :1], spans[:, :, 1:]
    return ~((places >= starts) & (places < starts + lengths)).any(dim=1)


def power(waveforms: Waveforms) -> Float[Tensor, "batch 1"]:
    """Mean square, never zero."""
    return waveforms.square().mean(dim=1, keepdim=True).clamp(min=1e-12)


def change_pitch(waveform: np.ndarray, factor: float, num_samples: int) -> np.ndarray:
    """Pitch and tempo times ``factor``, the formants where they were: the same, excited speaker.

    Everything is played faster, and then the spectral envelope of every frame (its cepstrum up to
    ``ENVELOPE_QUEFRENCY``) is moved back, by at most ``LARGEST_MOVE`` of natural log amplitude.

    Args:
        waveform: float32, ``ceil(num_samples * factor)`` samples at least.
        factor: above 1 is higher and faster.
        num_samples: how many to return.
    """
    needed = int(np.ceil(num_samples * factor))
    played = soxr.resample(waveform[:needed], SAMPLE_RATE * factor, SAMPLE_RATE)
    played = torch.from_numpy(np.resize(played, num_samples))
    frame, window = PITCH_FRAME, torch.hann_window(PITCH_FRAME)
    spectrum = torch.stft(played, frame, frame // 4, window=window, return_complex=True)
    cepstrum = torch.fft.irfft((spectrum.abs() + 1e-6).log(), frame, dim=0)
    quefrency = torch.arange(frame).minimum(frame - torch.arange(frame))
    taper = 0.5 + 0.5 * torch.cos(torch.pi * quefrency / ENVELOPE_QUEFRENCY)
    cepstrum *= torch.where(quefrency < ENVELOPE_QUEFRENCY, taper, 0)[:, None]
    envelope = torch.fft.rfft(cepstrum, dim=0).real.T
    last = envelope.shape[1] - 1
    moved = _between(envelope, (torch.arange(last + 1) * factor).clamp(max=last))
    gain = (moved - envelope).clamp(-LARGEST_MOVE, LARGEST_MOVE).exp().T
    changed = torch.istft(spectrum * gain, frame, frame // 4, window=window, length=num_samples)
    return changed.numpy()


def _between(
    values: Float[Tensor, "batch points"], places: Float[Tensor, " count"]
) -> Float[Tensor, "batch count"]:
    """Values at fractional places, between 0 and the last point, by linear interpolation."""
    left = places.long().clamp(max=values.shape[1] - 2)
    share = places - left
    return values[:, left] * (1 - share) + values[:, left + 1] * share


def _band_pass(waveforms: Waveforms, rate: int) -> Waveforms:
    """Cut the spectrum outside of the telephone band, with slopes of 100 Hz."""
    low, high = TELEPHONE_BAND_HERTZ
    num_samples = waveforms.shape[1]
    size = next_fast_len(num_samples, real=True)
    hertz = torch.fft.rfftfreq(size, 1 / rate, device=waveforms.device)
    gain = (torch.minimum(hertz - low, high - hertz) / 100 + 0.5).clamp(0, 1)
    return torch.fft.irfft(torch.fft.rfft(waveforms, size) * gain, size)[:, :num_samples]


def transcode(waveform: np.ndarray, codec: str, bit_rate: int) -> np.ndarray:
    """Encode and decode float32 (samples,) in [-1, 1]; length and place stay."""
    import av
    from av.audio.stream import AudioStream

    encoder, container, _, effort = CODECS[codec]
    buffer = io.BytesIO()
    pcm = np.rint(waveform.clip(-1, 1) * 32767).astype(np.int16)
    with av.open(buffer, "w", format=container) as output:
        options = {"compression_level": effort}
        stream = output.add_stream(encoder, rate=SAMPLE_RATE, options=options)
        assert isinstance(stream, AudioStream)
        stream.bit_rate = bit_rate
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    buffer.seek(0)
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    with av.open(buffer, "r") as source:
        frames = [part for frame in source.decode(audio=0) for part in resampler.resample(frame)]
    frames += resampler.resample(None)
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)
    decoded = decoded[: len(waveform)]
    return np.pad(decoded, (0, len(waveform) - len(decoded)))
