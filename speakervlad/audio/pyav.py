"""Decoding by FFmpeg: what soundfile refuses, and damaged files as players play them."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.audio.losses import SHORTEST_GAP, Losses
from speakervlad.audio.quality import STEP
from speakervlad.audio.remarks import remark
from speakervlad.audio.source import (
    BLOCK_FRAMES,
    EMPTY_HEADER,
    Source,
    UndecodableError,
    check_duration,
    has_pyav,
    tag_size,
)

logger = logging.getLogger(__name__)

# FFmpeg's demuxers that read the file they are given and no other: no playlists, no concat.
PYAV_FORMATS = (
    "aa,aac,ac3,act,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,avr,caf,codec2,dsf,dss,dts,dtshd,eac3,"
    "flac,flv,g722,g723_1,g726,g726le,g729,gsm,iff,ircam,latm,loas,matroska,mlp,mmf,mov,mp3,mpc,"
    "mpc8,mpeg,mpegts,mulaw,mxf,nistsphere,nut,ogg,oma,paf,pvf,qcp,rm,sbc,sds,shn,sln,sox,"
    "swf,tak,truehd,tta,voc,w64,wav,wtv,wv,wve,xwma"
)
# Neither playlists nor references inside of a file lead to other files or to the network.
PYAV_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": PYAV_FORMATS}
# Streams of packets without times.
RAW_FORMATS = ("mp3", "aac", "ac3", "eac3")
# Packets at the beginning that cannot be decoded, from which on nothing of a file is believed.
MOST_BAD_BEGIN = 100


class PyAVSource:
    """Everything else that FFmpeg decodes, from its beginning to its end.

    Packets that cannot be decoded are left out, as players do; those at the end are not: there the
    file is cut.

    Args:
        container: of PyAV, just opened.
        name: of the file, for messages.
        block_frames: of a block, times channels.

    Raises:
        UndecodableError: no sound in it, or no decoder for its codec.
    """

    length: int | None = None
    step = STEP

    def __init__(self, container: Any, name: str, block_frames: int) -> None:  # noqa: ANN401
        if not container.streams.audio:
            raise UndecodableError("holds no audio stream. Remove it or extract its sound.")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise UndecodableError("there is no decoder for its codec. Convert it to wav or flac.")
        self._block_frames = block_frames
        self._losses = Losses(name)
        # Of Ogg the times are counted samples; elsewhere a clock may have written them.
        self._has_counted_times = container.format.name == "ogg"
        frames = self._decodable(container, stream)
        first = next(frames, None)
        self._frames = frames if first is None else chain([first], frames)
        self.is_empty = first is None
        self.is_float = stream.codec_context.name.startswith("pcm_f")
        self.sample_rate: int = stream.rate if first is None else first.sample_rate
        self.num_channels: int = stream.channels if first is None else first.layout.nb_channels

    def read(self, start: int, num_frames: int) -> np.ndarray:
        raise NotImplementedError("only decoding tells where a sample is")

    def blocks(self, stop: int | None = None) -> Iterator[np.ndarray]:
        size = max(1, self._block_frames // self.num_channels)
        pieces, begun, done = [], 0, 0
        for piece in self._pieces():
            pieces.append(piece)
            done += piece.shape[1]
            is_last = stop is not None and done >= stop
            if is_last or done - begun >= size:
                check_duration(done, self.sample_rate)
                yield np.concatenate(pieces, axis=1).T
                pieces, begun = [], done
            if is_last:
                return
        if pieces:
            yield np.concatenate(pieces, axis=1).T
        self._losses.judge(done / self.sample_rate)

    def _pieces(self) -> Iterator[np.ndarray]:
        """float32 (channels, frames), of the rate and layout of the first frame."""
        import av

        converter: Any = None
        setup = layout = None
        for frame in self._frames:
            layout = layout or frame.layout.name
            if setup != (frame.format.name, frame.layout.name, frame.sample_rate):
                setup = (frame.format.name, frame.layout.name, frame.sample_rate)
                rest = converter.resample(None) if converter else []
                yield from (piece.to_ndarray() for piece in rest)
                converter = av.AudioResampler("fltp", layout, self.sample_rate)
            yield from (piece.to_ndarray() for piece in converter.resample(frame))
        if converter:
            yield from (piece.to_ndarray() for piece in converter.resample(None))

    def _decodable(self, container: Any, stream: Any) -> Iterator[Any]:  # noqa: ANN401
        """Yield the frames of every packet that can be decoded, and note the others."""
        done, last, error, bad = 0.0, None, None, []
        size = _RawSize(container)
        for packet in container.demux(stream):
            frames, refusal = _frames_of(packet)
            size.add(packet, is_good=refusal is None)
            if refusal is not None:
                error = refusal
                bad.append(float((packet.duration or 0) * packet.time_base))
            if error is not None and last is None and len(bad) > MOST_BAD_BEGIN:
                raise error
            for frame in frames:
                if packet.size:
                    self._note(bad, frame, last, done)
                    bad, last = [], frame
                done += frame.samples / frame.sample_rate
                yield frame
        if bad and error is not None:
            raise error
        self._losses.add_rest(size.lost_seconds(done))

    def _note(self, bad: list[float], frame: Any, last: Any, done: float) -> None:  # noqa: ANN401
        """Note packets before a frame that could not be decoded, and times that it leaves out."""
        for seconds in bad:
            self._losses.add(seconds, done)
        if last is None or last.time is None or frame.time is None:
            return
        left_out = frame.time - last.time - last.samples / last.sample_rate - sum(bad)
        if left_out >= SHORTEST_GAP and self._has_counted_times:
            self._losses.add(left_out, done)
        elif left_out >= SHORTEST_GAP:
            self._losses.add_gap(left_out, done)


class _RawSize:
    """Bytes of a stream that has no times of its own, of which parsers may drop some unseen.

    Args:
        container: of PyAV.
    """

    def __init__(self, container: Any) -> None:  # noqa: ANN401 - PyAV is optional
        self._whole = container.size if container.format.name in RAW_FORMATS else 0
        self._first: int | None = None
        self._good = self._tags = 0

    def add(self, packet: Any, *, is_good: bool) -> None:  # noqa: ANN401
        """Count a packet."""
        if self._first is None:
            self._first = packet.pos or 0
        if is_good:
            self._good += packet.size
        elif self._whole:
            self._tags += _tag_bytes(bytes(packet))

    def lost_seconds(self, seconds: float) -> float:
        """How long the bytes that gave no sound would last, as the others last so many seconds."""
        lost = self._whole - (self._first or 0) - self._good - self._tags
        return max(lost, 0) * seconds / self._good if self._good else 0.0


def _tag_bytes(data: bytes) -> int:
    """Bytes of the tags that bytes begin with, as between two recordings that were joined."""
    place = 0
    while place < len(data):
        if data[place : place + 3] == b"TAG":
            place += 128
        elif data[place : place + 3] == b"ID3":
            place += tag_size(data[place : place + 10])
        elif data[place : place + 8] == b"APETAGEX":
            place += 32 + int.from_bytes(data[place + 12 : place + 16], "little")
        else:
            break
    return min(place, len(data))


def _frames_of(packet: Any) -> tuple[list[Any], Exception | None]:  # noqa: ANN401
    """The frames of a packet, or why it has none."""
    from av.error import FFmpegError

    try:
        return packet.decode(), None
    except FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise
        return [], error


def mended_flac(
    path: Path, losses: Losses, claimed: int, done: int, stop: int | None
) -> Iterator[np.ndarray]:
    """Frames of a damaged FLAC file, with silence for those that are lost.

    So every sample stays where the header and a seek find it.

    Args:
        path: of the file.
        losses: takes what is lost.
        claimed: frames that the header counts.
        done: first frame that is wanted.
        stop: the one behind the last; None for all.

    Raises:
        UndecodableError: too much is lost, or another file follows that does not fit.
    """
    position, setup = 0, None
    for lost, frame in _flac_frames(path):
        setup = setup or (frame.sample_rate, frame.layout.nb_channels)
        if setup != (frame.sample_rate, frame.layout.nb_channels):
            raise UndecodableError("holds files of several rates or channels, joined. Cut it.")
        if lost:
            losses.add(lost / frame.sample_rate, position / frame.sample_rate)
            losses.check(claimed / frame.sample_rate)
        samples = np.concatenate([np.zeros((lost, setup[1]), np.float32), _interleaved(frame)])
        first, position = position, position + len(samples)
        yield samples[max(done - first, 0) : None if stop is None else max(stop - first, 0)]
        if stop is not None and position >= stop:
            return


def _flac_frames(path: Path) -> Iterator[tuple[int, Any]]:
    """Frames of FFmpeg, each with the number of samples that are lost before it."""
    import av

    with av.open(str(path.absolute()), options=PYAV_OPTIONS) as container:
        stream = container.streams.audio[0]
        # By default FFmpeg plays frames whose checksum is wrong.
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
        position = base = 0
        for packet in container.demux(stream):
            for frame in _frames_of(packet)[0]:
                begin = position - base if frame.pts is None else frame.pts
                # Behind another file, positions count from its beginning.
                base = position if begin < position - base else base
                yield base + begin - position, frame
                position = base + begin + frame.samples


def _interleaved(frame: Any) -> np.ndarray:  # noqa: ANN401
    """float32 (frames, channels) of a frame of integers, as libsndfile gives it."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    return array.T.astype(np.float32) * np.float32(2.0 ** (1 - 8 * array.dtype.itemsize))


def gap_of(path: Path) -> float:
    """Where the times of an Ogg file first leave something out, in seconds; 0 if unknown."""
    if not has_pyav():
        return 0.0
    import av

    with av.open(str(path.absolute()), options=PYAV_OPTIONS) as container:
        expected = None
        for packet in container.demux(container.streams.audio[0]):
            if packet.pts is None:
                continue
            begin = float(packet.pts * packet.time_base)
            if expected is not None and begin - expected >= SHORTEST_GAP:
                return expected
            expected = begin + float((packet.duration or 0) * packet.time_base)
    return 0.0


@contextmanager
def open_with_pyav(path: Path, doubt: str) -> Iterator[Source]:
    """Open a file that soundfile would not read.

    Args:
        path: the file.
        doubt: why not, for messages.

    Raises:
        UndecodableError: PyAV is not installed, or knows nothing in it as sound.
    """
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
