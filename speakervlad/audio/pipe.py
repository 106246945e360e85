"""Samples from a pipe, as they come: WAV with a header, or raw ones."""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from speakervlad.errors import InputError, check_range, did_you_mean

# Read at once, of one channel; less where less has come.
BLOCK_SECONDS = 0.1
MOST_CHANNELS = 64
# A header is not read further than this.
HEADER_BYTES = 1 << 20
PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


class Encoding(NamedTuple):
    """How a sample is written: its bytes, and what makes float32 of an array of them."""

    num_bytes: int
    decode: Callable[[bytes], np.ndarray]


def _integers(kind: str) -> Callable[[bytes], np.ndarray]:
    scale = np.float32(2.0 ** (1 - 8 * np.dtype(kind).itemsize))
    return lambda data: np.frombuffer(data, kind).astype(np.float32) * scale


def _s24(data: bytes) -> np.ndarray:
    triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
    padded = np.pad(triples, ((0, 0), (1, 0))).reshape(-1)
    return padded.view("<i4").astype(np.float32) * np.float32(2.0**-31)


def _floats(data: bytes) -> np.ndarray:
    return np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=1.0, neginf=-1.0).clip(-1, 1)


def _mu_law() -> np.ndarray:
    """Samples of the 256 codes of ITU-T G.711, mu-law."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(int)
    size = ((2 * mantissa + 33) << exponent) - 33
    return (np.where(code & 128, -size, size) * 4 / 32768).astype(np.float32)


def _a_law() -> np.ndarray:
    """Samples of the 256 codes of ITU-T G.711, A-law."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(int)
    size = np.where(exponent, (2 * mantissa + 33) << np.maximum(exponent, 1) - 1, 2 * mantissa + 1)
    return (np.where(code & 128, size, -size) * 8 / 32768).astype(np.float32)


def _law(table: np.ndarray) -> Callable[[bytes], np.ndarray]:
    return lambda data: table[np.frombuffer(data, np.uint8)]


ENCODINGS = {
    "s16": Encoding(2, _integers("<i2")),
    "s24": Encoding(3, _s24),
    "s32": Encoding(4, _integers("<i4")),
    "f32": Encoding(4, _floats),
    "u8": Encoding(1, lambda data: (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128),
    "mulaw": Encoding(1, _law(_mu_law())),
    "alaw": Encoding(1, _law(_a_law())),
}


def decode_samples(data: bytes, encoding: str) -> np.ndarray:
    """Raw samples as float32 (samples,) in [-1, 1].

    Args:
        data: whole samples, little endian.
        encoding: ``s16``, ``s24``, ``s32``, ``f32``, ``u8``, or ``mulaw`` and ``alaw`` of
            ITU-T G.711.

    Raises:
        InputError: an unknown encoding, or half a sample.
    """
    if encoding not in ENCODINGS:
        raise InputError(f"encoding {encoding!r}: {did_you_mean(encoding, ENCODINGS)}")
    found = ENCODINGS[encoding]
    if len(data) % found.num_bytes:
        raise InputError(
            f"{len(data)} bytes of {encoding}: a sample has {found.num_bytes}. Keep the rest for "
            "the next call."
        )
    return found.decode(data)


# Of a WAV header: format and bits of a sample.
_OF_WAV = {
    (PCM, 8): "u8",
    (PCM, 16): "s16",
    (PCM, 24): "s24",
    (PCM, 32): "s32",
    (FLOAT, 32): "f32",
    (MU_LAW, 8): "mulaw",
    (A_LAW, 8): "alaw",
}


class PipedSound(NamedTuple):
    """Sound that comes from a pipe.

    Attributes:
        sample_rate: in Hz.
        blocks: float32 (samples,), the mean of all channels, as soon as they come.
    """

    sample_rate: int
    blocks: Iterator[np.ndarray]


def piped(
    file: BinaryIO,
    *,
    sample_rate: int | None = None,
    encoding: str | None = None,
    channels: int = 1,
) -> PipedSound:
    """Open what comes from a pipe: WAV, or raw samples where their rate or encoding is given.

    What a header says of the length does not count: whoever writes into a pipe does not know it. An
    incomplete sample at the end is left out; floats that are not finite are silence.

    Args:
        file: of bytes; read as far as something has come.
        sample_rate: of raw samples; 16000 by default.
        encoding: of raw samples, a row of ``ENCODINGS``; ``s16`` by default.
        channels: of raw samples.

    Raises:
        InputError: nothing comes, no WAV header, or one of samples that are not read.
    """
    if sample_rate is None and encoding is None:
        return _wav(file)
    name = encoding or "s16"
    if name not in ENCODINGS:
        raise InputError(f"--format {name}: {did_you_mean(name, ENCODINGS)}")
    check_range("channels", channels, at_least=1, at_most=MOST_CHANNELS)
    rate = 16000 if sample_rate is None else sample_rate
    return PipedSound(rate, _blocks(file, ENCODINGS[name], rate, channels))


def _wav(file: BinaryIO) -> PipedSound:
    begin = _exactly(file, 12)
    if not begin:
        raise InputError("standard input: nothing came. Pipe WAV or raw samples into it.")
    if begin[:4] not in (b"RIFF", b"RF64") or begin[8:12] != b"WAVE":
        raise InputError(
            "standard input: is no WAV. Send one (`ffmpeg -i IN -f wav -`), or raw samples and say "
            "their --rate and --format."
        )
    layout: tuple[Encoding, int, int] | None = None
    for _ in range(64):
        header = _exactly(file, 8)
        if len(header) < 8:
            break
        name, size = header[:4], struct.unpack("<I", header[4:])[0]
        if name == b"data":
            if layout is None:
                break
            encoding, rate, channels = layout
            return PipedSound(rate, _blocks(file, encoding, rate, channels))
        if size > HEADER_BYTES:
            break
        content = _exactly(file, size + size % 2)
        layout = _layout(content) if name == b"fmt " else layout
    raise InputError("standard input: its WAV header is damaged. Send it again.")


def _layout(content: bytes) -> tuple[Encoding, int, int]:
    """Encoding, rate and channels of a ``fmt`` chunk.

    Raises:
        InputError: of samples that are not read.
    """
    if len(content) < 16:
        raise InputError("standard input: its WAV header is damaged. Send it again.")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if kind == EXTENSIBLE and len(content) >= 26:
        kind = struct.unpack("<H", content[24:26])[0]
    name = _OF_WAV.get((kind, bits))
    if name is None or not 1 <= channels <= MOST_CHANNELS:
        raise InputError(
            f"standard input: WAV of format {kind}, {bits} bits and {channels} channels is not "
            "read. Send 16-bit PCM: `ffmpeg -i IN -c:a pcm_s16le -f wav -`."
        )
    return ENCODINGS[name], rate, channels


def _exactly(file: BinaryIO, count: int) -> bytes:
    """So many bytes, or fewer if the pipe ends."""
    data = b""
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def _blocks(
    file: BinaryIO, encoding: Encoding, sample_rate: int, channels: int
) -> Iterator[np.ndarray]:
    size = encoding.num_bytes * channels
    count = max(1, round(BLOCK_SECONDS * sample_rate))
    # Not `read`, which waits until all of it has come.
    read = getattr(file, "read1", file.read)
    rest = b""
    while data := read(count * size):
        data = rest + data
        whole = len(data) // size * size
        data, rest = data[:whole], data[whole:]
        if data:
            yield encoding.decode(data).reshape(-1, channels).mean(axis=1, dtype=np.float32)
