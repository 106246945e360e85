"""A recording: where sound comes from, and what of it is heard; decoded once, when needed.

Whoever takes audio takes ``AudioLike`` and calls ``Recording.of(audio)``; no option of a recording
is passed on beside it.
"""

import functools
import inspect
import logging
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec, TypeVar, cast

import numpy as np

from speakervlad.audio.on_disk import FileWave, SpooledWave
from speakervlad.audio.quality import Level, warn_of_poor, warn_of_quiet
from speakervlad.audio.reading import audio_blocks
from speakervlad.audio.samples import Samples, as_waveform
from speakervlad.audio.spans import counted_blocks, counted_length
from speakervlad.audio.speech import Speech, check_spoken, find_spans
from speakervlad.audio.waves import BLOCK_SAMPLES, SampleWave, SpeechWave, Wave, blocks_of
from speakervlad.errors import InputError
from speakervlad.progress import track
from speakervlad.sound import SAMPLE_RATE
from speakervlad.urls import location_of, shown
from speakervlad.urls import split_channel as remote_channel

if TYPE_CHECKING:
    from speakervlad.remote import Fetched

logger = logging.getLogger(__name__)

# Longer files stay on disk: as they are where a span is one seek, else their decoded samples.
MEMORY_SECONDS = 300
# Of a recording, which until 0.2.0 were given to whatever took one.
OLD_OPTIONS = ("channel", "speech_only", "sample_rate")

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


class Recording:
    """Sound from somewhere, and what of it is heard.

    It is decoded once, when its samples are first needed, and keeps what it decoded: up to five
    minutes in memory; longer ones are read from their file span by span, or from a temporary file
    where that file can only be decoded in order.

    Args:
        audio: The path or URL of a file (see ``urls.py``), or ``call.wav:1`` for the second
            channel of one, of any format that is read; the content of a file as bytes or as a
            binary file object; or mono samples (samples,) as an array, a list or a torch tensor:
            floats in [-1, 1], or integers of at most 32 bits, which become such floats.
        channel: Of a file with several, if its name does not say it; their mean by default.
        speech_only: Whether silence counts for nothing: only where somebody speaks is heard.
        sample_rate: Of samples, in Hz; a file states its own.
        name: What messages call it; by default its path, or "audio".

    Attributes:
        path: as it was given; None if it is not a file.

    Raises:
        InputError: a Recording, or a file object in text mode.
    """

    def __init__(
        self,
        audio: "AudioLike",
        *,
        channel: int | None = None,
        speech_only: bool = False,
        sample_rate: float = SAMPLE_RATE,
        name: str | None = None,
    ) -> None:
        if isinstance(audio, Recording):
            raise InputError(f"{audio.name}: is a Recording, whose options are given to itself.")
        self.path: Path | None = Path(audio) if isinstance(audio, str | Path) else None
        self._url = location_of(audio)
        usual = str(audio) if self._url is None else shown(self._url)
        self.name: str = name or (usual if self.path is not None else "audio")
        self.channel = channel
        self.speech_only = speech_only
        self.sample_rate = sample_rate
        self._given_name = name
        self._audio = _content_of(audio)
        self._kept: Wave | None = None
        self._level = Level()
        self._found: Speech | None = None

    @classmethod
    def of(cls, audio: "AudioLike") -> "Recording":
        """A recording as it is, or one of anything else, without options."""
        return audio if isinstance(audio, Recording) else cls(audio)

    @property
    def wave(self) -> Wave:
        """What of it is heard: all, or its speech alone if ``speech_only``.

        Raises:
            InputError: as ``whole`` and ``speech``.
        """
        return self.speech if self.speech_only else self.whole

    @cached_property
    def whole(self) -> Wave:
        """All of it.

        Raises:
            InputError: the audio is missing, damaged, empty, without sound or shorter than 25 ms
                (in long files that may show only when their end is read), or the samples are none.
        """
        wave = self.decode()
        if isinstance(wave, SampleWave):
            in_memory = "audio" if isinstance(self._audio, bytes) else "waveform"
            of_file = None if self.path is None else str(self._file[0])
            of_file = of_file if self._url is None else self.name
            (wave.level or Level(wave.samples)).check(self._given_name or of_file or in_memory)
        return wave

    @cached_property
    def speech(self) -> SpeechWave:
        """Where somebody speaks, one span directly behind the other.

        Raises:
            InputError: as ``whole``, or hardly any of it is speech.
        """
        whole = self.whole
        found = self._found = self._found or find_spans(blocks_of(whole))
        wave = SpeechWave(whole, found.spans, in_pieces=True)
        channels = self._level.num_channels
        check_spoken(wave.num_samples, whole.num_samples, self.name, channels)
        return wave

    @property
    def seconds(self) -> float:
        """Duration of all of it.

        Raises:
            InputError: as ``whole``.
        """
        return self.whole.num_samples / SAMPLE_RATE

    def decode(self) -> Wave:
        """Decode it now, silence too, so that everything after that reads the same samples.

        Returns:
            All of it, of which nothing was checked.

        Raises:
            InputError: as ``whole``, but for sound and shortness.
        """
        if self._kept is None:
            self._kept = self._open()
        return self._kept

    def blocks(self) -> Iterator[np.ndarray]:
        """All samples in pieces of some seconds, silence too; what is read for it is not kept.

        Raises:
            InputError: as ``decode``; some only after the last block.
        """
        yield from self.counted_blocks()[0]

    def find_speech(self) -> Speech:
        """Where somebody speaks, if anybody does.

        A file that was not decoded before is read once, piece by piece: hours of it need no more
        memory than seconds.

        Raises:
            InputError: as ``decode``, or there are no samples.
        """
        if self._found is None:
            blocks, count = self.counted_blocks()
            found = find_spans(track(blocks, "searching", count))
            if not found.num_samples:
                raise InputError(f"{self.name}: holds no samples.")
            self._found = found
        return self._found

    def _open(self) -> Wave:
        level = self._level = Level()
        if self._url is not None:
            with self._fetched.naming(self.name):
                return _open_file(*self._file, level, stays=False)
        if self.path is not None:
            return _open_file(*self._file, level)
        if isinstance(self._audio, bytes):
            with _as_file(self._audio, self.name) as path:
                blocks = audio_blocks(path, channel=self.channel, level=level, warn=True)
                return _in_memory(list(blocks), level, self.name)
        name = self._given_name or "waveform"
        return SampleWave(as_waveform(cast(Samples, self._audio), self.sample_rate, name))

    def counted_blocks(self) -> tuple[Iterator[np.ndarray], int | None]:
        """All samples in pieces, and how many pieces these are if that is known."""
        wave = self._kept if self.path is not None else self.decode()
        if isinstance(wave, SampleWave):
            return blocks_of(wave), max(1, math.ceil(wave.num_samples / BLOCK_SAMPLES))
        if isinstance(wave, SpooledWave):
            return wave.unchecked_blocks(), None
        path, channel = self._file
        # What decoding has warned of is not said twice.
        known = wave is not None
        blocks = audio_blocks(path, channel=channel) if known else self._warned_blocks()
        return blocks if self._url is None else self._named(blocks), counted_blocks(path)

    def _named(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same blocks; errors call the file by its URL."""
        with self._fetched.naming(self.name):
            yield from blocks

    def _warned_blocks(self) -> Iterator[np.ndarray]:
        """The blocks of a file that is read once, with the warnings that decoding it gives."""
        level, (path, channel) = Level(), self._file
        yield from audio_blocks(path, channel=channel, level=level, warn=True)
        warn_of_quiet(level, self.name)

    @cached_property
    def _fetched(self) -> "Fetched":
        """The file of a URL, as long as this recording is there."""
        from speakervlad.remote import Fetched

        assert self._url is not None
        return Fetched(remote_channel(self._url)[0])

    @cached_property
    def _file(self) -> tuple[Path, int | None]:
        """The file, and the channel to take of it."""
        assert self.path is not None
        if self._url is not None:
            named = remote_channel(self._url)[1]
            return self._fetched.path, self.channel if named is None else named
        path, named = split_channel(self.path)
        return path, self.channel if named is None else named


AudioLike = str | Path | bytes | BinaryIO | Samples | Recording


def takes_old_options(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """Let ``channel``, ``speech_only`` and ``sample_rate`` be given beside audio, as until 0.2.0.

    They are deprecated: a ``Recording`` has them. Which arguments are audio is told by their names:
    ``audio``, ``one``, ``other``; ``recordings``, a list; ``pairs``, a list of pairs.
    """

    @functools.wraps(function)
    def called(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        options: dict[str, Any] = {name: kwargs.pop(name) for name in OLD_OPTIONS if name in kwargs}
        if not options:
            return function(*args, **kwargs)
        said = ", ".join(f"{name}={value!r}" for name, value in options.items())
        warnings.warn(
            f"{function.__name__}(..., {said}): options of a recording are given to it: "
            f"Recording(audio, {said}).",
            DeprecationWarning,
            stacklevel=2,
        )
        made: dict[object, Recording] = {}

        def recording(audio: AudioLike) -> Recording:
            key = str(audio) if isinstance(audio, str | Path) else id(audio)
            return made.setdefault(key, Recording(audio, **options))

        bound = inspect.signature(function).bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in ("audio", "one", "other"):
                bound.arguments[name] = recording(value)
            elif name == "recordings":
                bound.arguments[name] = [recording(each) for each in value]
            elif name == "pairs":
                bound.arguments[name] = [tuple(map(recording, pair)) for pair in value]
        return function(*bound.args, **bound.kwargs)

    return called


def each_of(recordings: Iterable[AudioLike]) -> Iterator[Recording]:
    """Yield recordings one after the other, and let go of what each decoded before the next."""
    for audio in recordings:
        yield copy(Recording.of(audio))


@takes_old_options
def speech(audio: AudioLike) -> np.ndarray:
    """Find where somebody speaks.

    The recording is read once, piece by piece: hours of it need no more memory than seconds.

    Args:
        audio: what ``Recording`` takes, or one; silence too.

    Returns:
        float64 (segments, 2), begin and end of each in seconds; sorted and apart. No rows where
        nobody speaks.

    Raises:
        InputError: the audio is missing, damaged or empty.
    """
    return Recording.of(audio).find_speech().segments


def split_channel(name: str | Path) -> tuple[Path, int | None]:
    """``call.wav:1`` is channel 1 of ``call.wav``, the second; a file of that very name wins.

    Returns:
        The path of the file, and the channel if the name says one.
    """
    path = Path(name)
    found = re.fullmatch(r"(.+):(\d{1,4})", str(path), re.DOTALL)
    if found is None:
        return path, None
    file, channel = Path(found[1]), int(found[2])
    if not path.exists():
        return file, channel
    if file.exists():
        logger.warning("%s: taken for the file of that name, not for a channel of %s", path, file)
    return path, None


def _open_file(path: Path, channel: int | None, level: Level, *, stays: bool = True) -> Wave:
    """In memory if it is short, on disk if it is not; how long it is shows as it is decoded.

    Args:
        path: the file.
        channel: of it.
        level: measures its samples.
        stays: whether the file is there as long as the wave; else it is decoded to another.
    """
    blocks = audio_blocks(path, channel=channel, level=level, warn=True)
    begin, num_samples = [], 0
    for block in blocks:
        begin.append(block)
        num_samples += len(block)
        if num_samples > MEMORY_SECONDS * SAMPLE_RATE:
            break
    wave = _in_memory(begin, level, str(path))
    if num_samples <= MEMORY_SECONDS * SAMPLE_RATE:
        return wave
    length = counted_length(path) if stays else None
    if length is None:
        return SpooledWave(str(path), chain([wave.samples], blocks), level)
    return FileWave(path, length, channel, level.num_channels)


def _in_memory(blocks: list[np.ndarray], level: Level, name: str) -> SampleWave:
    """Decoded samples; warns of poor ones, unless they are refused when they are wanted."""
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if level.has_sound:
        warn_of_poor(samples, name)
    return SampleWave(samples, level)


def _content_of(audio: "AudioLike") -> str | Path | bytes | Samples:
    """The content of a file object, which can be read once only; anything else as it is.

    Raises:
        InputError: a file object in text mode.
    """
    read = getattr(audio, "read", None)
    if read is None:
        return cast(str | Path | bytes | Samples, audio)
    content = read()
    if not isinstance(content, bytes):
        raise InputError("audio: a file that was opened as text. Open it with mode 'rb'.")
    return content


@contextmanager
def _as_file(content: bytes, name: str) -> Iterator[Path]:
    """The content of an audio file in a temporary one, which every decoder reads.

    Raises:
        InputError: what goes wrong meanwhile, by the name of the recording.
    """
    with tempfile.TemporaryDirectory(prefix="speakervlad.") as folder:
        path = Path(folder) / "audio"
        path.write_bytes(content)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from error
