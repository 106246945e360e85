"""Decoders with one face: soundfile, PyAV for what it refuses (m4a, mp4, webm), packed shards."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from speakervlad.errors import InputError

# AAC and Opus decoders need this long to converge after a seek.
PREROLL_SECONDS = 0.08
# Of a file that is read in order; some seconds.
BLOCK_FRAMES = 1 << 18
# A span of a shard that `pack` wrote: file@first sample+number of samples.
PACKED_PATH = re.compile(r"(?P<shard>.+\.pcm16)@(?P<first>\d+)\+(?P<length>\d+)")
PACKED_RATE = 16000
# What libsndfile notes of a wav that ends early. Who writes to a pipe claims 2 GiB or more, and a
# few writers count their header.
CUT_WAV = re.compile(r"^data : (?P<claimed>\d+) \(should be (?P<found>\d+)\)", re.MULTILINE)
PIPED_BYTES = 0x7FFF0000
HEADER_BYTES = 64


class Source(Protocol):
    """An audio file just opened, good for one call; a frame holds one sample of every channel."""

    sample_rate: int
    num_channels: int

    def num_frames(self) -> int: ...

    def read(self, start: int, num_frames: int | None) -> np.ndarray:
        """Frames from ``start`` on, at most ``num_frames``: float32 (frames, channels)."""
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """All that ``read`` gives from 0 on, piece by piece, in memory that does not grow."""
        ...


class SequentialFile(soundfile.SoundFile):
    """Once ``in_order``, it is only read on: soundfile seeks after each read of what it can seek.

    Such a seek costs a search in an ogg file and new convergence of an Opus decoder.
    """

    in_order = False

    def seekable(self) -> bool:
        return not self.in_order and super().seekable()


class SoundFileSource:
    """wav, flac, ogg, opus, mp3 and whatever else libsndfile reads (it prerolls Opus itself).

    An mp3 is decoded from its beginning: after a seek, its decoder writes complaints to stderr.
    """

    def __init__(self, file: SequentialFile) -> None:
        cut = CUT_WAV.search(file.extra_info)
        if cut and int(cut["found"]) + HEADER_BYTES < int(cut["claimed"]) < PIPED_BYTES:
            raise soundfile.SoundFileRuntimeError(
                f"ends after {cut['found']} of {cut['claimed']} bytes"
            )
        self._file = file
        self._is_mp3 = file.format == "MP3"
        self.sample_rate: int = file.samplerate
        self.num_channels: int = file.channels

    def num_frames(self) -> int:
        return self._file.frames

    def read(self, start: int, num_frames: int | None) -> np.ndarray:
        total = self._file.frames
        start = min(start, total)
        stop = total if num_frames is None else min(start + num_frames, total)
        first = 0 if self._is_mp3 else start
        if first:
            self._file.seek(first)
        frames = self._file.read(stop - first, dtype="float32", always_2d=True)
        self._check_end(first + len(frames), stop)
        return frames[start - first :]

    def blocks(self) -> Iterator[np.ndarray]:
        self._file.in_order = True
        total, done = self._file.frames, 0
        while done < total:
            asked = min(BLOCK_FRAMES, total - done)
            block = self._file.read(asked, dtype="float32", always_2d=True)
            done += len(block)
            yield block
            if len(block) < asked:
                break
        self._check_end(done, total)

    def _check_end(self, found: int, expected: int) -> None:
        # The length of an mp3 without a header is an estimate, to within a few of its frames.
        if found < expected - (4 * 1152 if self._is_mp3 else 0):
            raise soundfile.SoundFileRuntimeError(
                f"ends after {found} of {self._file.frames} samples"
            )


class PyAVSource:
    """Everything FFmpeg decodes; mp4 and m4a are sought, other containers decoded from the start.

    Only the clock of an mp4 counts samples; a position in webm is a rounded millisecond, and
    seeking to its beginning skips the first block.
    """

    def __init__(self, container: Any) -> None:  # noqa: ANN401 - PyAV is an optional dependency
        self._container = container
        self._stream = container.streams.audio[0]
        self.sample_rate: int = self._stream.rate
        self.num_channels: int = self._stream.channels
        self._counts_samples = self._stream.time_base == Fraction(1, self.sample_rate)

    def num_frames(self) -> int:
        if self._counts_samples and self._stream.duration:
            return self._stream.duration
        return sum(frame.samples for frame in self._container.decode(self._stream))

    def read(self, start: int, num_frames: int | None) -> np.ndarray:
        stop = self._stream.duration if self._counts_samples else None
        if num_frames is not None:
            stop = min(start + num_frames, stop or start + num_frames)
        blocks, first = [], None
        for position, block in self._decode_from(start):
            first = position if first is None else first
            blocks.append(block)
            if stop is not None and position + block.shape[1] >= stop:
                break
        if first is None:
            return np.zeros((0, self.num_channels), np.float32)
        whole = np.concatenate(blocks, axis=1)
        return whole[:, start - first : None if stop is None else stop - first].T

    def blocks(self) -> Iterator[np.ndarray]:
        stop = self._stream.duration if self._counts_samples else None
        pieces, begun = [], 0
        for position, piece in self._decode_from(0):
            end = position + piece.shape[1]
            is_last = stop is not None and end >= stop
            pieces.append(piece if stop is None else piece[:, : stop - position])
            if is_last or end - begun >= BLOCK_FRAMES:
                yield np.concatenate(pieces, axis=1).T
                pieces, begun = [], end
            if is_last:
                break
        if pieces:
            yield np.concatenate(pieces, axis=1).T

    def _decode_from(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (position, float32 (channels, frames)) blocks from at or before ``start``."""
        import av

        preroll = int(PREROLL_SECONDS * self.sample_rate)
        sought = self._counts_samples and start > preroll
        if sought:
            self._container.seek(start - preroll, stream=self._stream)
        convert = av.AudioResampler(format="fltp")
        position = None if sought else 0
        for frame in self._container.decode(self._stream):
            position = int(frame.pts) if position is None else position
            for piece in convert.resample(frame):
                yield position, piece.to_ndarray()
                position += piece.samples


class PackedSource:
    """A span of a shard: mono 16-bit samples at 16 kHz, little endian, without any header."""

    sample_rate = PACKED_RATE
    num_channels = 1

    def __init__(self, shard: Path, first: int, length: int) -> None:
        _check_file(shard)
        if 2 * (first + length) > shard.stat().st_size:
            raise InputError(
                f"{shard}: ends before sample {first + length}, which its manifest names. "
                "Copy it again, or run `speakervlad pack` again."
            )
        self._shard = shard
        self._first = first
        self._length = length

    def num_frames(self) -> int:
        return self._length

    def read(self, start: int, num_frames: int | None) -> np.ndarray:
        left = max(self._length - start, 0)
        count = left if num_frames is None else min(num_frames, left)
        samples = np.fromfile(self._shard, "<i2", count, offset=2 * (self._first + start))
        return (samples.astype(np.float32) / 32768)[:, None]

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self._length, BLOCK_FRAMES):
            yield self.read(start, BLOCK_FRAMES)


@contextmanager
def open_audio(path: Path) -> Iterator[Source]:
    """Open an audio file with the decoder that understands it.

    Raises:
        InputError: no such file, a folder, an empty file, not audio, or damaged while it is read.
    """
    packed = PACKED_PATH.fullmatch(str(path))
    if packed is not None:
        yield PackedSource(Path(packed["shard"]), int(packed["first"]), int(packed["length"]))
        return
    _check_file(path)
    try:
        file = SequentialFile(path)
    except (soundfile.LibsndfileError, TypeError) as refusal:  # TypeError: headerless .raw
        with _open_with_pyav(path, refusal) as source:
            yield source
        return
    with file:
        try:
            yield SoundFileSource(file)
        except soundfile.SoundFileRuntimeError as error:
            raise damaged(path, error) from error


@contextmanager
def _open_with_pyav(path: Path, refusal: Exception) -> Iterator[Source]:
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise InputError(
            f"{path}: soundfile cannot read it ({_reason(refusal, path)}). For m4a, mp4 and webm: "
            "pip install 'speakervlad[formats]'; otherwise convert it to wav or flac."
        ) from error
    try:
        # Playlists and concatenations must not lead to other files or to the network.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except (FFmpegError, ValueError) as error:
        raise _no_audio(path, refusal) from error
    with container:
        if not container.streams.audio:
            raise InputError(f"{path}: holds no audio stream. Remove it or extract its sound.")
        # FFmpeg takes any content for flac or mp3 that is named so.
        if container.streams.audio[0].rate <= 0 or container.streams.audio[0].channels <= 0:
            raise _no_audio(path, refusal)
        try:
            yield PyAVSource(container)
        except FFmpegError as error:
            raise damaged(path, error) from error


def _no_audio(path: Path, refusal: Exception) -> InputError:
    return InputError(
        f"{path}: not an audio file that soundfile or PyAV can read "
        f"({_reason(refusal, path)}). Convert it to wav or flac."
    )


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a file that opens but cannot be decoded to its end."""
    return InputError(f"{path}: truncated or damaged ({_reason(error, path)}). Get it again.")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not an audio file. Name a file in it.")
    if not path.exists():
        raise InputError(f"{path}: no such file. Check the path and the root folder.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty file. Get it again or remove it from the list.")


def _reason(error: Exception, path: Path) -> str:
    """The decoder's own words without its prefix and without the path once more."""
    text = str(error)
    for prefix in (f"Error opening {str(path)!r}: ", "Error : "):
        text = text.removeprefix(prefix)
    return " ".join(text.split()).rstrip(".")
