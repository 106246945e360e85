"""There and back through a lossy codec, by PyAV, on the CPU."""

import io

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE

# Encoder, container, lowest and highest bit rate, fastest setting.
CODECS = {
    "opus": ("libopus", "ogg", (6_000, 24_000), "0"),
    "mp3": ("libmp3lame", "mp3", (8_000, 48_000), "9"),
}


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
