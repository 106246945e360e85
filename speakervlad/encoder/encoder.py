"""Audio in, unit embeddings out: the one engine behind ``embed``, ``verify`` and the Python API."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import numpy as np

from speakervlad.audio.recording import Audio, SpeechWave, Wave, name_of, open_wave, spoken
from speakervlad.encoder.card import (
    DEFAULT,
    find_encoder,
    read_calibration,
    read_threshold,
    read_thresholds,
)
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.runtimes import AUTO, Backend, open_backend, weights_digest
from speakervlad.errors import InputError, first_few
from speakervlad.models.sums import Clusters, PoolingSums
from speakervlad.progress import Track, silent
from speakervlad.scoring.calibration import Calibration
from speakervlad.scoring.decision import Rule, Thresholds, Verification, choose_rule
from speakervlad.scoring.metrics import OperatingPoint
from speakervlad.sound import SAMPLE_RATE
from speakervlad.threads import one_blas_thread

logger = logging.getLogger(__name__)

# What the model card of the encoder that ships calls too short to be fit for.
SHORT_SECONDS = 2.0
READERS = 2
READ_AHEAD = 8
Item = TypeVar("Item")
Result = TypeVar("Result")


class Windows(NamedTuple):
    """Sliding windows instead of whole recordings, in seconds."""

    length: float
    hop: float


class Embedded(NamedTuple):
    """One recording.

    Attributes:
        vectors: float32 unit vectors (windows, dim); one row without windows.
        spans: float64 (windows, 2), begin and end of each in seconds.
        seconds: duration of the recording.
    """

    vectors: np.ndarray
    spans: np.ndarray
    seconds: float


class Heard(NamedTuple):
    """A recording, and its speech where that was looked for."""

    wave: Wave
    speech: SpeechWave | None = None

    @property
    def seconds(self) -> tuple[float, str]:
        """Duration of what was looked for, and what that is."""
        if self.speech is None:
            return self.wave.num_samples / SAMPLE_RATE, "audio"
        return self.speech.num_samples / SAMPLE_RATE, "speech"


# An embedded recording, and what `Heard.seconds` says of it.
Answer = tuple[Embedded, tuple[float, str]]


class Embedder:
    """An encoder that is ready to embed; what ``load_encoder`` returns.

    Every utterance is computed alone, over its whole length: an embedding never depends on what
    else is embedded with it.

    Args:
        backend: what computes.
        folder: where the encoder came from, if from disk.
    """

    def __init__(self, backend: Backend, folder: Path | None = None) -> None:
        self.backend = backend
        self.frames = FrameEncoder(backend.ends, backend.describe)
        self.folder = folder

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return self.backend.ends.dim

    @cached_property
    def fingerprint(self) -> str | None:
        """What tells this encoder's weights from others, whatever computes them; None if unknown.

        The SHA-256 of ``model.safetensors``, which an exported file remembers.
        """
        own = None if self.folder is None else weights_digest(self.folder)
        return own or self.backend.notes.get("weights") or None

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """Where to decide, as the encoder's development recordings have taught; None if unknown.

        Raises:
            InputError: its ``thresholds.json`` is damaged.
        """
        return read_thresholds(*self._companions)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What turns this encoder's scores into log-likelihood ratios; None if unknown.

        Raises:
            InputError: its ``calibration.json`` is damaged.
        """
        return read_calibration(*self._companions)

    @property
    def _companions(self) -> tuple[Path | None, Mapping[str, str]]:
        return self.folder, self.backend.notes

    def threshold(self, far: float | None = None) -> float:
        """The cosine from which on to accept: at the equal error rate, or at a false-accept rate.

        Args:
            far: any false-acceptance rate, a fraction, that the development recordings can tell of.

        Raises:
            InputError: the encoder has no thresholds, or none for that rate.
        """
        return read_threshold(*self._companions, far)

    def rule(
        self,
        *,
        threshold: float | None = None,
        far: float | None = None,
        point: OperatingPoint | None = None,
        calibration: Calibration | None = None,
    ) -> Rule:
        """By what ``verify`` decides: ``rule.judge(score)`` is its answer to a cosine.

        Args:
            threshold: decide at this cosine.
            far: decide at the encoder's threshold for this false-acceptance rate.
            point: decide by the calibration at this prior and these costs, not at 0.5 and 1.
            calibration: another one than the encoder's own.

        Raises:
            InputError: as ``choose_rule``.
        """
        known = None if threshold is not None else self.thresholds
        return choose_rule(
            known, calibration or self.calibration, threshold=threshold, far=far, point=point
        )

    def verify(
        self,
        one: Audio,
        other: Audio,
        *,
        threshold: float | None = None,
        far: float | None = None,
        point: OperatingPoint | None = None,
        calibration: Calibration | None = None,
        speech_only: bool = False,
        any_sound: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
    ) -> Verification:
        """Say whether two recordings are of one speaker.

        The calibration decides, at a prior of 0.5 and equal costs or at ``point``, unless a
        ``threshold`` or ``far`` is given; without a calibration, the threshold of the equal error
        rate does.

        Args:
            one: as for ``embed``.
            other: as for ``embed``.
            threshold: as for ``rule``.
            far: as for ``rule``.
            point: as for ``rule``.
            calibration: as for ``rule``.
            speech_only: as for ``embed``, of both recordings.
            any_sound: compare recordings in which hardly anybody speaks, too.
            channel: as for ``embed``, of both recordings.
            sample_rate: as for ``embed``, of both recordings.

        Raises:
            InputError: as ``embed`` and ``rule``, or hardly anybody speaks in a recording.
        """
        rule = self.rule(threshold=threshold, far=far, point=point, calibration=calibration)
        answers = self.verify_pairs(
            [(one, other)],
            rule,
            speech_only=speech_only,
            any_sound=any_sound,
            channel=channel,
            sample_rate=sample_rate,
        )
        answer = next(answers)
        if isinstance(answer, InputError):
            raise answer
        return answer

    def verify_pairs(
        self,
        pairs: Sequence[tuple[Audio, Audio]],
        rule: Rule | None = None,
        *,
        speech_only: bool = False,
        any_sound: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
        track: Track = silent,
    ) -> Iterator[Verification | InputError]:
        """Yield the answer for every pair, in order, or why there is none.

        A recording that is named several times is embedded once, and all before the first answer.
        """
        rule = rule or self.rule()
        recordings = {_key(audio): audio for pair in pairs for audio in pair}
        stream = self._stream(
            list(recordings.values()),
            self.streams_for(len(recordings)),
            speech_only=speech_only,
            listen=speech_only or not any_sound,
            channel=channel,
            sample_rate=sample_rate,
        )
        items = track(stream, "embedding", len(recordings))
        found = dict(zip(recordings, items, strict=True))
        told: set[str | int] = set()
        for pair in pairs:
            keys = [_key(audio) for audio in pair]
            one, other = (found[key] for key in keys)
            if isinstance(one, InputError) or isinstance(other, InputError):
                yield one if isinstance(one, InputError) else cast(InputError, other)
                continue
            for key in sorted({*keys} - told, key=keys.index):
                _warn_of_short(cast(Answer, found[key]), recordings[key])
            told.update(keys)
            yield rule.judge(float(one[0].vectors[0] @ other[0].vectors[0]))

    def embed(
        self,
        audio: Audio,
        *,
        speech_only: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
    ) -> np.ndarray:
        """Embed one utterance.

        Args:
            audio: a path, the bytes of a file, a file object, or samples of shape ``(samples,)``:
                floats in [-1, 1] or integers, in an array, a list or a tensor.
            speech_only: leave out where nobody speaks, as ``speech`` finds it.
            channel: of a file with several; their mean by default.
            sample_rate: of samples, in Hz; files know their own.

        Returns:
            float32 unit vector of shape ``(dim,)``.

        Raises:
            InputError: the audio is missing, damaged, empty, silent or shorter than 25 ms; or only
                speech is wanted and hardly anybody speaks.
        """
        wave = open_wave(audio, channel, sample_rate=sample_rate, speech_only=speech_only)
        return _finite(self.frames.embed(wave))

    def embed_windows(
        self,
        audio: Audio,
        windows: Windows,
        *,
        speech_only: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
    ) -> Embedded:
        """Embed sliding windows of one recording; its frames are computed once.

        A frame sees about 0.9 s to either side, so a window knows a little of its surroundings,
        as a window that is cut out of the recording does not. ``speech_only`` leaves out windows of
        which less than half is speech.

        Raises:
            InputError: as ``embed``, or the windows are too short, or ``hop`` is not positive.
        """
        heard = hear(audio, channel, sample_rate=sample_rate, listen=speech_only)
        return self._embed_heard(heard, windows, speech_only=speech_only)

    def enrol(
        self,
        recordings: Sequence[Audio],
        *,
        speech_only: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
    ) -> np.ndarray:
        """One embedding for a speaker: as if all frames of the recordings were of one.

        Returns:
            float32 unit vector of shape ``(dim,)``.

        Raises:
            InputError: as ``embed``, or there is no recording.
        """
        if not recordings:
            raise InputError("enrolment: no recording was given.")
        waves = [
            open_wave(audio, channel, sample_rate=sample_rate, speech_only=speech_only)
            for audio in recordings
        ]
        return _finite(self.frames.enrol(waves))

    def sums(
        self,
        audio: Audio,
        *,
        speech_only: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
    ) -> PoolingSums:
        """What the frames of a recording add up to, for enrolment that goes on later.

        ``total = total.merge(encoder.sums(new))`` adds a recording, ``encoder.finish(total)`` is
        the speaker's embedding at any time: as if ``enrol`` had had all recordings at once.

        Raises:
            InputError: as ``embed``.
        """
        return self.frames.sums(
            open_wave(audio, channel, sample_rate=sample_rate, speech_only=speech_only)
        )

    def assignments(
        self, audio: Audio, *, channel: int | None = None, sample_rate: float = SAMPLE_RATE
    ) -> np.ndarray:
        """The soft assignment of every frame: float32 ``(clusters + ghosts, frames)``, ghosts last.

        Each column adds up to 1; frames are ``ends.grid`` apart.

        Raises:
            InputError: as ``embed``, or the encoder does not pool by clusters.
        """
        clusters = self.check_clusters()
        wave = open_wave(audio, channel, sample_rate=sample_rate)
        weights = [weights for _, weights in self.frames.frames(wave, mirror=False)]
        return clusters.shares(np.concatenate([w for w in weights if w is not None], axis=1))

    def embed_and_assign(
        self, audio: Audio, *, channel: int | None = None, sample_rate: float = SAMPLE_RATE
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """``embed`` and ``assignments`` from one pass of the network.

        Where the front end mirrors recordings, the last frames see the mirrored signal.

        Returns:
            float32 ``(dim,)``, and ``(clusters + ghosts, frames)`` of an encoder with clusters.

        Raises:
            InputError: as ``embed``.
        """
        wave = open_wave(audio, channel, sample_rate=sample_rate)
        ends, parts = self.backend.ends, []
        sums = PoolingSums.empty(ends.pooling)
        for frames, weights in self.frames.frames(wave, mirror=ends.front_end.mirror):
            sums = sums.add(frames, weights)
            parts.append(weights)
        vector = _finite(self.frames.finish(sums))
        clusters = ends.pooling.clusters
        if clusters is None:
            return vector, None
        count = ends.grid.num_frames(wave.num_samples)
        return vector, clusters.shares(np.concatenate(parts, axis=1)[:, :count])

    def check_clusters(self) -> Clusters:
        """The clusters of an encoder that pools by VLAD, or weighs its statistics by ghosts.

        Raises:
            InputError: it does not.
        """
        clusters = self.backend.ends.pooling.clusters
        if clusters is None:
            raise InputError("this encoder has no clusters: its pooling is not a VLAD layer.")
        return clusters

    def finish(self, sums: PoolingSums) -> np.ndarray:
        """The float32 unit vector of shape ``(dim,)`` of all frames of ``sums``."""
        return _finite(self.frames.finish(sums))

    def embed_files(
        self,
        recordings: Sequence[Audio],
        *,
        speech_only: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
        track: Track = silent,
    ) -> np.ndarray:
        """Embed many recordings, reading ahead while computing.

        Args:
            recordings: each as for ``embed``.
            speech_only: as for ``embed``.
            channel: as for ``embed``.
            sample_rate: as for ``embed``.
            track: progress.

        Returns:
            float32 unit vectors of shape ``(recordings, dim)``, in their order.

        Raises:
            InputError: some cannot be embedded; all are tried, counted, the first few named.
        """
        items = self.embed_each(
            recordings,
            speech_only=speech_only,
            channel=channel,
            sample_rate=sample_rate,
            track=track,
        )
        return np.concatenate(
            [item.vectors for item in items] or [np.empty((0, self.dim), np.float32)]
        )

    def embed_each(
        self,
        recordings: Sequence[Audio],
        *,
        windows: Windows | None = None,
        speech_only: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
        track: Track = silent,
    ) -> list[Embedded]:
        """Embed many recordings or their windows, in their order.

        As many recordings as there are cores are computed at once, one on each; fewer get all
        cores one after the other.

        Raises:
            InputError: as ``embed_files``.
        """
        total = len(recordings)
        stream = self.embed_stream(
            recordings,
            self.streams_for(total),
            windows=windows,
            speech_only=speech_only,
            channel=channel,
            sample_rate=sample_rate,
        )
        items = list(track(stream, "embedding", total))
        failures = [item for item in items if isinstance(item, InputError)]
        if failures:
            raise InputError(describe_failures(failures, total))
        return [item for item in items if isinstance(item, Embedded)]

    def streams_for(self, num_files: int) -> int:
        """How many of so many files to compute at once."""
        return self.backend.num_streams if num_files >= self.backend.num_streams else 1

    def embed_stream(
        self,
        recordings: Sequence[Audio],
        count: int,
        *,
        windows: Windows | None = None,
        speech_only: bool = False,
        channel: int | None = None,
        sample_rate: float = SAMPLE_RATE,
    ) -> Iterator[Embedded | InputError]:
        """Yield what becomes of each recording, in order; ``count`` are computed at once.

        With ``count > 1`` each is computed on one core, so its bits do not depend on the others.
        """
        for item in self._stream(
            recordings,
            count,
            windows=windows,
            speech_only=speech_only,
            listen=speech_only,
            channel=channel,
            sample_rate=sample_rate,
        ):
            yield item if isinstance(item, InputError) else item[0]

    def _stream(
        self,
        recordings: Sequence[Audio],
        count: int,
        *,
        windows: Windows | None = None,
        speech_only: bool,
        listen: bool,
        channel: int | None,
        sample_rate: float,
    ) -> Iterator[Answer | InputError]:
        """As ``embed_stream``; ``listen`` refuses recordings in which hardly anybody speaks."""

        def read(numbered: tuple[int, Audio]) -> Heard | InputError:
            number, audio = numbered
            heard = _or_error(lambda: hear(audio, channel, sample_rate=sample_rate, listen=listen))
            if isinstance(heard, InputError) and len(recordings) > 1:
                return heard if isinstance(audio, str | Path) else _numbered(heard, number)
            return heard

        def compute(heard: Heard | InputError) -> Answer | InputError:
            if isinstance(heard, InputError):
                return heard
            return _or_error(
                lambda: (self._embed_heard(heard, windows, speech_only=speech_only), heard.seconds)
            )

        with (
            one_blas_thread(),
            ThreadPoolExecutor(READERS) as readers,
            self.backend.streams(count) as streams,
        ):
            waves = _map_ahead(readers, read, enumerate(recordings, 1), READ_AHEAD)
            yield from _map_ahead(streams, compute, waves, 4 * count)

    def _embed_heard(self, heard: Heard, windows: Windows | None, *, speech_only: bool) -> Embedded:
        wave, speech = heard
        seconds = wave.num_samples / SAMPLE_RATE
        only = speech if speech_only else None
        if windows is None:
            vectors, spans = self.frames.embed(only or wave)[None], np.array([[0, seconds]])
        else:
            spans = window_spans(seconds, windows)
            spans = spans if only is None else _spoken_spans(spans, only)
            vectors = self.frames.embed_windows(wave, spans)
        return Embedded(_finite(vectors), spans, seconds)


def hear(
    audio: Audio,
    channel: int | None = None,
    *,
    sample_rate: float = SAMPLE_RATE,
    listen: bool = False,
) -> Heard:
    """Open a recording; if ``listen``, find its speech.

    Raises:
        InputError: as ``open_wave``, or hardly anybody speaks and somebody listens.
    """
    wave = open_wave(audio, channel, sample_rate=sample_rate)
    return Heard(wave, spoken(wave, name_of(audio)) if listen else None)


def load_encoder(
    path: str | Path = DEFAULT,
    *,
    device: str = AUTO,
    precision: str = "float32",
    backend: str = AUTO,
) -> Embedder:
    """Load an encoder.

    Args:
        path: a name that ships (``default``, ``small``); the folder that training wrote
            (``config.json`` and ``model.safetensors``); or the ``.onnx`` file that ``export``
            wrote, which may also lie in the folder as ``model.onnx``.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: of the trunk: ``float32``, or ``bfloat16`` where that is faster.
        backend: ``torch`` for a folder, ``onnxruntime`` or ``openvino`` for an exported file,
            or ``auto``: the fastest that is installed and can do it.

    Raises:
        InputError: the encoder, its files or the device are not there or damaged, or the backend
            is not installed or cannot do what is asked.
    """
    path = find_encoder(path)
    opened = open_backend(path, device=device, precision=precision, backend=backend)
    return Embedder(opened, path)


def window_spans(seconds: float, windows: Windows) -> np.ndarray:
    """(windows, 2) seconds: as many as cover the recording; the last ends with it.

    Raises:
        InputError: windows below 0.2 s, or a hop that is not positive.
    """
    if windows.length < 0.2 or not windows.hop > 0:
        raise InputError(
            f"window={windows.length}, hop={windows.hop}: windows last 0.2 s at least, and their "
            "hop is positive."
        )
    count = 1 + math.ceil(max(0.0, seconds - windows.length) / windows.hop - 1e-9)
    starts = np.arange(count) * windows.hop
    starts = starts[starts < seconds]
    return np.stack([starts, np.minimum(starts + windows.length, seconds)], axis=1)


def _spoken_spans(spans: np.ndarray, speech: SpeechWave) -> np.ndarray:
    """Those of some spans of which at least half is speech.

    Raises:
        InputError: none is.
    """
    kept = spans[speech.seconds_in(spans) >= (spans[:, 1] - spans[:, 0]) / 2]
    if not len(kept):
        raise InputError("less than half of every window is speech. Take shorter windows.")
    return kept


def _finite(vectors: np.ndarray) -> np.ndarray:
    """Refuse to hand out what no score can be made of.

    Raises:
        InputError: the encoder's weights do not give finite numbers.
    """
    if not np.isfinite(vectors).all():
        raise InputError("the embedding is not finite: the encoder's weights are damaged.")
    return vectors


def _map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """``map`` in a pool, in order, with at most ``depth`` items under way."""
    remaining = iter(items)
    pending: deque[Future[Result]] = deque(
        pool.submit(function, item) for item in islice(remaining, depth)
    )
    while pending:
        yield pending.popleft().result()
        pending.extend(pool.submit(function, item) for item in islice(remaining, 1))


def _numbered(error: InputError, number: int) -> InputError:
    """Which of several recordings that have no names it was."""
    return InputError(f"recording {number}: {error}")


def _key(audio: Audio) -> str | int:
    """What tells recordings apart that are in memory together."""
    return str(audio) if isinstance(audio, str | Path) else id(audio)


def _warn_of_short(item: Answer, audio: Audio) -> None:
    """Warn of a recording that is too short to tell much."""
    seconds, what = item[1]
    if seconds < SHORT_SECONDS:
        logger.warning(
            "%s: %.2f s of %s: below %g s, errors are far more frequent than it seems.",
            name_of(audio),
            seconds,
            what,
            SHORT_SECONDS,
        )


def _or_error(function: Callable[[], Result]) -> Result | InputError:
    try:
        return function()
    except InputError as error:
        return error


def describe_failures(failures: list[InputError], total: int) -> str:
    """How many of the files failed, and why the first few."""
    if total == 1:
        return str(failures[0])
    return (
        f"{len(failures)} of {total} files cannot be embedded: {first_few(map(str, failures), 3)}"
    )
