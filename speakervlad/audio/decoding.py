"""Decoders with one face: soundfile, PyAV for what it refuses or only guesses, packed shards.

No length and no position is believed that a container only estimates. A span is one seek where
samples are counted and lie at computable places (PCM, FLAC); anything else is decoded from its
beginning and to its end. Whatever a decoder or the file system raises ends in one `InputError`.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from speakervlad.audio.losses import TOLERATED, Losses
from speakervlad.audio.packed import PACKED_PATH, PackedSource
from speakervlad.audio.pyav import gap_of, mended_flac, open_with_pyav
from speakervlad.audio.quality import STEP
from speakervlad.audio.source import (
    BLOCK_FRAMES,
    EMPTY_HEADER,
    MAX_SECONDS,
    Source,
    UndecodableError,
    check_duration,
    check_file,
    has_pyav,
    printable,
    tag_size,
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
# What libsndfile notes of a wav that ends early. Who writes to a pipe claims 2 GiB or more, and a
# few writers count their header.
CUT_WAV = re.compile(r"^data : (?P<claimed>\d+) \(should be (?P<found>\d+)\)", re.MULTILINE)
PIPED_BYTES = 0x7FFF0000
HEADER_BYTES = 64


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
    with open_with_pyav(path, doubt) as source:
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
