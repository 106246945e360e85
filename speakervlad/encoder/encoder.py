"""Audio in, unit embeddings out: the encoder behind the commands, the page and the Python API."""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from speakervlad.audio.recording import AudioLike, Recording, takes_old_options
from speakervlad.encoder.backends import AUTO, Backend, fingerprint_of
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.location import DEFAULT, find_encoder
from speakervlad.encoder.runtimes import open_backend
from speakervlad.encoder.stream import EncoderStream, load_stream
from speakervlad.encoder.streams import describe_failures, of_each
from speakervlad.encoder.windows import Windows, spoken_spans, window_spans
from speakervlad.errors import InputError
from speakervlad.models.sums import Clusters, PoolingSums
from speakervlad.progress import track
from speakervlad.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from speakervlad import (
        Calibration,
        OperatingPoint,
        Rule,
        Thresholds,
        Verification,
        Verifier,
    )


# Seconds of the shortest recording whose sums may be merged. Sums of pieces of one recording give a
# cosine to the whole of 0.17 (0.1 s), 0.61 (0.25 s), 0.85 (0.5 s), 0.92 (1 s) with `default`.
SHORTEST_SUMS = 0.5
NO_FRAMES = "this encoder of another toolkit gives one vector a recording, and no frames."


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


class Encoder:
    """An encoder that is ready to embed; what ``load_encoder`` returns.

    Every utterance is computed alone, over its whole length: an embedding never depends on what
    else is embedded with it. Audio is whatever ``Recording`` takes, or a ``Recording``.

    Args:
        backend: what computes.
        folder: where the encoder came from, if from disk.
    """

    def __init__(self, backend: Backend, folder: Path | None = None) -> None:
        self.backend = backend
        self.frames: FrameEncoder = FrameEncoder(backend.ends, backend.describe)
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
        return fingerprint_of(self.folder, self.backend.notes)

    @takes_old_options
    def embed(self, audio: AudioLike) -> np.ndarray:
        """Embed one utterance.

        Args:
            audio: a path, the bytes of a file, a file object, samples, or a ``Recording``.

        Returns:
            float32 unit vector of shape ``(dim,)``.

        Raises:
            InputError: the audio is missing, damaged, empty, silent or shorter than 25 ms; or only
                speech is wanted and hardly anybody speaks.
        """
        return _finite(self.frames.embed(Recording.of(audio).wave))

    @takes_old_options
    def embed_windows(self, audio: AudioLike, windows: Windows) -> Embedded:
        """Embed sliding windows of one recording; its frames are computed once.

        A frame of ``small`` sees about 0.9 s to either side, so a window knows a little of its
        surroundings, as a window that is cut out of the recording does not; where every frame sees
        the whole recording, as with ``default``, windows are cut out and computed one by one. Of a
        recording whose silence does not count, windows of which less than half is speech are left
        out.

        Raises:
            InputError: as ``embed``, or the windows are too short, or ``hop`` is not positive.
        """
        return self._embedded(windows, Recording.of(audio))

    @takes_old_options
    def enrol(self, recordings: Sequence[AudioLike]) -> np.ndarray:
        """One embedding for a speaker: as if all frames of the recordings were of one.

        Returns:
            float32 unit vector of shape ``(dim,)``.

        Raises:
            InputError: as ``embed``, or there is no recording.
        """
        if not recordings:
            raise InputError("enrolment: no recording was given.")
        return _finite(self.frames.enrol([Recording.of(audio).wave for audio in recordings]))

    @takes_old_options
    def sums(self, audio: AudioLike) -> PoolingSums:
        """What the frames of a recording add up to, for enrolment that goes on later.

        ``total = total.merge(encoder.sums(new))`` adds a recording, ``encoder.finish(total)`` is
        the speaker's embedding at any time: as if ``enrol`` had had all recordings at once.
        Recordings, not pieces of one: each is normalised by its own mean.

        Raises:
            InputError: as ``embed``, or shorter than ``SHORTEST_SUMS``.
        """
        if not self.backend.ends.has_frames:
            raise InputError(
                f"sums: {NO_FRAMES} `enrol` takes several recordings: the mean of their vectors."
            )
        recording = Recording.of(audio)
        seconds = recording.wave.num_samples / SAMPLE_RATE
        if seconds < SHORTEST_SUMS:
            raise InputError(
                f"{recording.name}: {seconds:.2f} s are too little for sums to be merged: a "
                "spectrogram is normalised by the mean of its own recording, and frames see their "
                f"neighbours, which pieces of a stream do not have. Sum {SHORTEST_SUMS:g} s or "
                "more, or embed all of it at once."
            )
        return self.frames.sums(recording.wave)

    def finish(self, sums: PoolingSums) -> np.ndarray:
        """The float32 unit vector of shape ``(dim,)`` of all frames of ``sums``."""
        return _finite(self.frames.finish(sums))

    def stream(self, sample_rate: int = SAMPLE_RATE) -> EncoderStream:
        """What takes samples while somebody speaks, and gives the embedding so far.

        Args:
            sample_rate: of all samples that will be added, a whole number of Hz.

        Raises:
            InputError: an impossible rate.
        """
        return EncoderStream(self.frames, sample_rate, self.fingerprint)

    def load_stream(self, path: str | Path) -> EncoderStream:
        """A stream that ``EncoderStream.save`` wrote, which goes on here.

        Raises:
            InputError: no such file, damaged, or of another encoder.
        """
        return load_stream(self.frames, path, self.fingerprint)

    @takes_old_options
    def assignments(self, audio: AudioLike) -> np.ndarray:
        """The soft assignment of every frame: float32 ``(clusters + ghosts, frames)``, ghosts last.

        Each column adds up to 1; frames are ``ends.grid`` apart.

        Raises:
            InputError: as ``embed``, or the encoder does not pool by clusters.
        """
        clusters = self.check_clusters()
        return clusters.shares(self.frames.weights(Recording.of(audio).wave))

    @takes_old_options
    def embed_and_assign(self, audio: AudioLike) -> tuple[np.ndarray, np.ndarray | None]:
        """``embed`` and ``assignments`` from one pass of the network.

        Where the front end mirrors recordings, the last frames see the mirrored signal.

        Returns:
            float32 ``(dim,)``, and ``(clusters + ghosts, frames)`` of an encoder with clusters.

        Raises:
            InputError: as ``embed``.
        """
        wave = Recording.of(audio).wave
        parts: list[np.ndarray] = []
        vector = self.finish(self.frames.sums(wave, parts))
        clusters = self.backend.ends.pooling.clusters
        if clusters is None:
            return vector, None
        return vector, clusters.shares(np.concatenate(parts, axis=1))

    def check_clusters(self) -> Clusters:
        """The clusters of an encoder that pools by VLAD, or weighs its statistics by ghosts.

        Raises:
            InputError: it does not.
        """
        clusters = self.backend.ends.pooling.clusters
        if not self.backend.ends.has_frames:
            raise InputError(f"clusters: {NO_FRAMES} Name one that pools by VLAD.")
        if clusters is None:
            raise InputError("this encoder has no clusters: its pooling is not a VLAD layer.")
        return clusters

    @takes_old_options
    def embed_files(self, recordings: Sequence[AudioLike]) -> np.ndarray:
        """Embed many recordings, reading ahead while computing.

        Args:
            recordings: each as for ``embed``.

        Returns:
            float32 unit vectors of shape ``(recordings, dim)``, in their order.

        Raises:
            InputError: some cannot be embedded; all are tried, counted, the first few named.
        """
        items = self.embed_each(recordings)
        return np.concatenate(
            [item.vectors for item in items] or [np.empty((0, self.dim), np.float32)]
        )

    @takes_old_options
    def embed_each(
        self,
        recordings: Sequence[AudioLike],
        *,
        windows: Windows | None = None,
    ) -> list[Embedded]:
        """Embed many recordings or their windows, in their order.

        As many recordings as there are cores are computed at once, one on each; fewer get all
        cores one after the other.

        Raises:
            InputError: as ``embed_files``.
        """
        total = len(recordings)
        stream = self.embed_stream(recordings, self.streams_for(total), windows=windows)
        items = list(track(stream, "embedding", total))
        failures = [item for item in items if isinstance(item, InputError)]
        if failures:
            raise InputError(describe_failures(failures, total))
        return [item for item in items if isinstance(item, Embedded)]

    def streams_for(self, num_files: int) -> int:
        """How many of so many files to compute at once."""
        return self.backend.num_streams if num_files >= self.backend.num_streams else 1

    @takes_old_options
    def embed_stream(
        self, recordings: Sequence[AudioLike], count: int, *, windows: Windows | None = None
    ) -> Iterator[Embedded | InputError]:
        """Yield what becomes of each recording, in order; ``count`` are computed at once.

        With ``count > 1`` each is computed on one core, so its bits do not depend on the others.
        """
        compute = partial(self._embedded, windows)
        return of_each(recordings, lambda each: each.wave, compute, self.backend, count)

    def _embedded(self, windows: Windows | None, recording: Recording) -> Embedded:
        wave, seconds = recording.wave, recording.seconds
        if windows is None:
            vectors, spans = self.frames.embed(wave)[None], np.array([[0, seconds]])
        else:
            spans = window_spans(seconds, windows)
            spans = spoken_spans(spans, recording.speech) if recording.speech_only else spans
            vectors = self.frames.embed_windows(recording.whole, spans)
        return Embedded(_finite(vectors), spans, seconds)

    @cached_property
    def verifier(self) -> "Verifier":
        """Decides by what is known of this encoder: an encoder itself decides nothing."""
        import speakervlad

        return speakervlad.Verifier(self)

    @property
    def thresholds(self) -> "Thresholds | None":
        """See ``Verifier.thresholds``."""
        return self.verifier.thresholds

    @property
    def calibration(self) -> "Calibration | None":
        """See ``Verifier.calibration``."""
        return self.verifier.calibration

    def threshold(self, far: float | None = None) -> float:
        """See ``Verifier.threshold``."""
        return self.verifier.threshold(far)

    def rule(
        self,
        *,
        threshold: float | None = None,
        far: float | None = None,
        point: "OperatingPoint | None" = None,
        calibration: "Calibration | None" = None,
    ) -> "Rule":
        """See ``Verifier.rule``."""
        return self.verifier.rule(
            threshold=threshold, far=far, point=point, calibration=calibration
        )

    @takes_old_options
    def verify(
        self,
        one: AudioLike,
        other: AudioLike,
        *,
        threshold: float | None = None,
        far: float | None = None,
        point: "OperatingPoint | None" = None,
        calibration: "Calibration | None" = None,
        any_sound: bool = False,
    ) -> "Verification":
        """See ``Verifier.verify``."""
        return self.verifier.verify(
            one,
            other,
            threshold=threshold,
            far=far,
            point=point,
            calibration=calibration,
            any_sound=any_sound,
        )

    @takes_old_options
    def verify_pairs(
        self,
        pairs: Sequence[tuple[AudioLike, AudioLike]],
        rule: "Rule | None" = None,
        *,
        any_sound: bool = False,
    ) -> "Iterator[Verification | InputError]":
        """See ``Verifier.verify_pairs``."""
        return self.verifier.verify_pairs(pairs, rule, any_sound=any_sound)


def load_encoder(
    path: str | Path = DEFAULT,
    *,
    device: str = AUTO,
    precision: str = "float32",
    backend: str = AUTO,
) -> Encoder:
    """Load an encoder.

    Args:
        path: a name that ships (``default``, ``small``); the folder that training wrote
            (``config.json`` and ``model.safetensors``); the ``.onnx`` file that ``export``
            wrote, which may also lie in the folder as ``model.onnx``; or an ``.onnx`` file of
            another toolkit, see ``foreign.py``.
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
    return Encoder(opened, path)


def _finite(vectors: np.ndarray) -> np.ndarray:
    """Refuse to hand out what no score can be made of.

    Raises:
        InputError: the encoder's weights do not give finite numbers.
    """
    if not np.isfinite(vectors).all():
        raise InputError("the embedding is not finite: the encoder's weights are damaged.")
    return vectors
