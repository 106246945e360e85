"""Decoders with one face: soundfile, PyAV for what it refuses or only guesses, packed shards.

No length and no position is believed that a container only estimates. A span is one seek where
samples are counted and lie at computable places (PCM, FLAC); anything else is decoded from its
beginning and to its end. Whatever a decoder or the file system raises ends in one `InputError`.
"""

import logging
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from speakervlad.audio.losses import TOLERATED, Losses
from speakervlad.audio.pyav import (
    PYAV_OPTIONS,
    PyAVSource,
    gap_of,
    has_pyav,
    mended_flac,
    tag_size,
)
from speakervlad.audio.quality import STEP
from speakervlad.audio.remarks import remark
from speakervlad.audio.source import (
    BLOCK_FRAMES,
    MAX_SECONDS,
    Source,
    UndecodableError,
    check_duration,
)
from speakervlad.errors import InputError

logger = logging.getLogger(__name__)

# Telephones have 8 kHz, studios 192; a header that says 50 Hz would make hours of a few kilobytes.
MIN_RATE, MAX_RATE = 2000, 1_000_000
# The smallest step of coders that are coarser than 16 bits, relative to full scale.
STEPS = {"PCM_S8": 2.0**-7, "PCM_U8": 2.0**-7, "ULAW": 2.0**-12, "ALAW": 2.0**-12}
# Where libsndfile finds any sample exactly: it misses some in PAF, SDS, Vorbis and Opus.
SOUGHT = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC")
LINEAR = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
# A span of a shard that `pack` wrote: file@first sample+number of samples.
PACKED_PATH = re.compile(r"(?P<shard>.+\.pcm16)@(?P<first>\d+)\+(?P<length>\d+)", re.DOTALL)
PACKED_RATE = 16000
# What libsndfile notes of a wav that ends early. Who writes to a pipe claims 2 GiB or more, and a
# few writers count their header.
CUT_WAV = re.compile(r"^data : (?P<claimed>\d+) \(should be (?P<found>\d+)\)", re.MULTILINE)
PIPED_BYTES = 0x7FFF0000
HEADER_BYTES = 64
EMPTY_HEADER = "its header states no samples"


class SequentialFile(soundfile.SoundFile):
    """Once ``in_order``, it is only read on: soundfile seeks after each read of what it can seek.

    Such a seek costs a search in an ogg file and new convergence of an Opus decoder.
    """

    in_order = False

    def seekable(self) -> bool:
        return not self.in_order and super().seekable()


class SoundFileSource:
    """wav, flac, ogg, opus and whatever else libsndfile reads."""

    def __init__(self, file: SequentialFile) -> None:
        cut = CUT_WAV.search(file.extra_info)
        if cut and int(cut["found"]) + HEADER_BYTES < int(cut["claimed"]) < PIPED_BYTES:
            raise soundfile.SoundFileRuntimeError(
                f"ends after {cut['found']} of {cut['claimed']} bytes"
            )
        self._file = file
        self._losses = Losses(str(file.name))
        self.sample_rate: int = file.samplerate
        self.num_channels: int = file.channels
        self.is_float = file.subtype in ("FLOAT", "DOUBLE")
        self.step = STEPS.get(file.subtype, STEP)
        is_believed = file.frames <= MAX_SECONDS * file.samplerate
        is_estimate = file.subtype.startswith("MPEG")
        self._claimed = file.frames if is_believed and not is_estimate else 0
        is_sought = file.format in SOUGHT and file.subtype in LINEAR and file.seekable()
        self.length = file.frames if is_sought and is_believed else None

    def read(self, start: int, num_frames: int) -> np.ndarray:
        start = min(start, self._claimed)
        stop = min(start + num_frames, self._claimed)
        blocks = [np.zeros((0, self.num_channels), np.float32), *self._pieces(start, stop)]
        return blocks[-1] if len(blocks) == 2 else np.concatenate(blocks)

    def blocks(self, stop: int | None = None) -> Iterator[np.ndarray]:
        yield from self._pieces(0, stop)
        if stop is None and self._claimed:
            self._losses.judge(self._claimed / self.sample_rate - self._losses.seconds)

    def _pieces(self, done: int, stop: int | None) -> Iterator[np.ndarray]:
        for block in self._decoded(done, stop):
            done += len(block)
            check_duration(done, self.sample_rate)
            if len(block):
                yield block
        missing = (self._claimed if stop is None else min(stop, self._claimed)) - done
        if missing > 0:
            # Of Ogg pages that are damaged libsndfile says nothing.
            if self._file.format != "OGG" or missing > TOLERATED * self._claimed:
                raise soundfile.SoundFileRuntimeError(
                    f"ends after {done} of {self._claimed} samples"
                )
            if stop is None:
                self._losses.add(missing / self.sample_rate, gap_of(Path(self._file.name)))

    def _decoded(self, done: int, stop: int | None) -> Iterator[np.ndarray]:
        try:
            if done:
                self._file.seek(done)
            for block in self._read_on(done, stop):
                yield block
                done += len(block)
        except soundfile.SoundFileRuntimeError:
            if self._file.format != "FLAC" or not has_pyav():
                raise
            path = Path(self._file.name)
            yield from mended_flac(path, self._losses, self._claimed, done, stop)

    def _read_on(self, done: int, stop: int | None) -> Iterator[np.ndarray]:
        self._file.in_order = True
        size = max(1, BLOCK_FRAMES // self.num_channels)
        while stop is None or done < stop:
            asked = size if stop is None else min(size, stop - done)
            block = self._file.read(asked, dtype="float32", always_2d=True)
            done += len(block)
            yield block
            if len(block) < asked:
                return


class PackedSource:
    """A span of a shard: mono 16-bit samples at 16 kHz, little endian, without any header."""

    sample_rate = PACKED_RATE
    num_channels = 1
    is_float = False
    step = STEP

    def __init__(self, shard: Path, first: int, length: int) -> None:
        check_file(shard)
        if 2 * (first + length) > shard.stat().st_size:
            raise InputError(
                f"{shard}: ends before sample {first + length}, which its manifest names. "
                "Copy it again, or run `speakervlad pack` again."
            )
        self._shard = shard
        self._first = first
        self._length = length
        self.length: int | None = length

    def read(self, start: int, num_frames: int) -> np.ndarray:
        count = min(num_frames, max(self._length - start, 0))
        samples = np.fromfile(self._shard, "<i2", count, offset=2 * (self._first + start))
        return (samples.astype(np.float32) / 32768)[:, None]

    def blocks(self, stop: int | None = None) -> Iterator[np.ndarray]:
        for start in range(0, min(self._length, stop or self._length), BLOCK_FRAMES):
            yield self.read(start, BLOCK_FRAMES)


@contextmanager
def open_audio(path: Path) -> Iterator[Source]:
    """Open an audio file with the decoder that understands it.

    Raises:
        InputError: whatever is wrong with the file, while it is opened or read.
    """
    try:
        with _open(path) as source:
            if not MIN_RATE <= source.sample_rate <= MAX_RATE:
                raise UndecodableError(f"a sample rate of {source.sample_rate} Hz. Get it again.")
            yield source
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{printable(path)}: {_explain(error, path)}") from error


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it.

    Raises:
        InputError: a name that is not UTF-8, nothing there, a folder, a device, a pipe, or empty.
    """
    name = printable(path)
    if name != str(path):
        raise InputError(f"{name}: its name is not UTF-8. Rename it.")
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(
            f"{name}: no such file. Check the path, and --root if a list names it."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name!r}: {getattr(error, 'strerror', None) or error}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name}: is a folder, not an audio file. Name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name}: is a device or a pipe. Write its content to a file first.")
    if status.st_size == 0:
        raise InputError(f"{name}: empty file. Get it again or remove it from the list.")


def printable(path: str | Path) -> str:
    """A path for messages and lists; bytes that are not UTF-8 are escaped."""
    return str(path).encode(errors="backslashreplace").decode()


@contextmanager
def _open(path: Path) -> Iterator[Source]:
    packed = PACKED_PATH.fullmatch(str(path))
    if packed is not None:
        yield PackedSource(Path(packed["shard"]), int(packed["first"]), int(packed["length"]))
        return
    check_file(path)
    try:
        file = SequentialFile(path)
    except (soundfile.LibsndfileError, TypeError) as refusal:  # TypeError: headerless .raw
        doubt = _reason(refusal, path)
    else:
        with file:
            doubt = _doubt(file, path)
            if doubt is None:
                yield SoundFileSource(file)
                return
    with _open_with_pyav(path, doubt) as source:
        yield source


def _doubt(file: SequentialFile, path: Path) -> str | None:
    """Why soundfile would not read all of a file that it opens; None where it does."""
    if file.frames == 0:
        return EMPTY_HEADER
    if file.format == "OGG" and _is_chained(path):
        return "chained: several streams one after the other"
    if file.subtype == "OPUS" and _begins_with(path, b"Lavf") and has_pyav():
        return "soundfile shifts what FFmpeg has written by some milliseconds"
    if file.subtype.startswith("MPEG"):
        is_counted = file.format == "MP3" and _begins_with(path, b"Xing", b"Info", b"VBRI")
        if has_pyav() or not is_counted:
            return "soundfile would stop at an estimate of its length"
    return None


def _is_chained(path: Path) -> bool:
    """Whether a stream begins in an Ogg file behind pages of another (RFC 3533)."""
    with path.open("rb") as file:
        has_begun = False
        while (page := file.read(27))[:4] == b"OggS" and len(page) == 27:
            is_first = bool(page[5] & 2)
            if has_begun and is_first:
                return True
            has_begun = not is_first
            file.seek(sum(file.read(page[26])), 1)
    return False


def _begins_with(path: Path, *marks: bytes) -> bool:
    """Whether one of the marks stands in the first 4 KB behind an ID3 tag.

    ``Xing``, ``Info``, ``VBRI``: an mp3 whose first frame counts the others; ``Lavf``: of FFmpeg.
    """
    with path.open("rb") as file:
        size = tag_size(file.read(10))
        file.seek(size)
        begin = file.read(4096)
    return any(mark in begin for mark in marks)


@contextmanager
def _open_with_pyav(path: Path, doubt: str) -> Iterator[Source]:
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise UndecodableError(
            f"soundfile cannot read it ({doubt}). For m4a, mp4 and webm: "
            "pip install 'speakervlad[formats]'; otherwise convert it to wav or flac."
        ) from error
    try:
        container = av.open(str(path.absolute()), options=PYAV_OPTIONS)
    except (FFmpegError, ValueError) as error:
        raise _no_audio(doubt) from error
    with container:
        source = PyAVSource(container, str(path), BLOCK_FRAMES)
        # FFmpeg takes any content for flac or mp3 that is named so.
        if source.sample_rate <= 0 or source.num_channels <= 0:
            raise _no_audio(doubt)
        if doubt == EMPTY_HEADER and not source.is_empty:
            remark(logger, str(path), f"{doubt}; it is read to the end of the file", once=True)
        yield source


def _no_audio(doubt: str) -> UndecodableError:
    return UndecodableError(
        f"not an audio file that soundfile or PyAV can read ({doubt}). Convert it to wav or flac."
    )


def _explain(error: Exception, path: Path) -> str:
    """What to say of a file for what was raised while it was opened or read."""
    reason = _reason(error, path)
    if isinstance(error, UndecodableError):
        return str(error)
    if type(error).__name__ == "DecoderNotFoundError":
        return "there is no decoder for its codec. Convert it to wav or flac."
    if isinstance(error, soundfile.SoundFileRuntimeError) or _is_of_pyav(error):
        return f"truncated or damaged ({reason}). Get it again."
    if isinstance(error, OSError):
        return f"{error.strerror or reason}. Check its permissions."
    return f"cannot be decoded ({type(error).__name__}: {reason}). Convert it to wav or flac."


def _is_of_pyav(error: Exception) -> bool:
    return any(kind.__module__.startswith("av.") for kind in type(error).__mro__)


def _reason(error: Exception, path: Path) -> str:
    """The decoder's own words without its prefix and without the path once more."""
    text = str(error)
    for prefix in (f"Error opening {str(path)!r}: ", "Error : "):
        text = text.removeprefix(prefix)
    return " ".join(text.split()).rstrip(".")
