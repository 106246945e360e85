"""Whether recordings are of one speaker: an encoder, what is known of its scores, and a rule."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speakervlad.audio.recording import AudioLike, Recording, takes_old_options
from speakervlad.audio.speech import MIN_SPEECH_SECONDS
from speakervlad.audio.waves import SpeechWave, Wave
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.streams import of_each
from speakervlad.errors import InputError
from speakervlad.progress import track
from speakervlad.scoring.calibration import Calibration
from speakervlad.scoring.points import OperatingPoint
from speakervlad.sound import SAMPLE_RATE
from speakervlad.verification.known import (
    check_weights,
    read_calibration,
    read_threshold,
    read_thresholds,
)
from speakervlad.verification.rules import Rule, Verification, choose_rule
from speakervlad.verification.thresholds import Thresholds

logger = logging.getLogger(__name__)

# What the model card of the encoder that ships calls too short to be fit for.
SHORT_SECONDS = 2.0


class Heard(NamedTuple):
    """A recording that was embedded.

    Attributes:
        vector: float32 unit vector (dim,).
        seconds: of speech where that was looked for, else of audio.
        what: which of both.
        doubt: that hardly anybody speaks in it, where that is allowed.
    """

    vector: np.ndarray
    seconds: float
    what: str
    doubt: str | None = None


class Verifier:
    """Says whether two recordings are of one speaker.

    Args:
        encoder: makes their embeddings.
        calibration: of its scores; by default what is known of the encoder, if anything is.
        rule: what decides; by default ``rule()``.
    """

    def __init__(
        self,
        encoder: Encoder,
        calibration: Calibration | None = None,
        rule: Rule | None = None,
    ) -> None:
        self.encoder = encoder
        self._calibration = calibration
        self._rule = rule

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """Where to decide, as the encoder's development recordings have taught; None if unknown.

        Raises:
            InputError: its ``thresholds.json`` is damaged.
        """
        return read_thresholds(*self._known)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What turns the encoder's scores into log-likelihood ratios; None if unknown.

        Raises:
            InputError: its ``calibration.json`` is damaged.
        """
        if self._calibration is not None:
            return self._calibration
        return read_calibration(*self._known)

    @property
    def _known(self) -> tuple[Path | None, Mapping[str, str], str | None]:
        encoder = self.encoder
        return encoder.folder, encoder.backend.notes, encoder.fingerprint

    def threshold(self, far: float | None = None) -> float:
        """The cosine from which on to accept: at the equal error rate, or at a false-accept rate.

        Args:
            far: any false-acceptance rate, a fraction, that the development recordings can tell of.

        Raises:
            InputError: the encoder has no thresholds, or none for that rate.
        """
        encoder, notes, weights = self._known
        return read_threshold(encoder, notes, far, weights)

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
            calibration: another one than the verifier's own.

        Raises:
            InputError: as ``choose_rule``.
        """
        if self._rule is not None and not any(
            each is not None for each in (threshold, far, point, calibration)
        ):
            return self._rule
        known = None if threshold is not None else self.thresholds
        if calibration is not None:
            check_weights(None, calibration.encoder, self.encoder.fingerprint)
        return choose_rule(
            known, calibration or self.calibration, threshold=threshold, far=far, point=point
        )

    @takes_old_options
    def verify(
        self,
        one: AudioLike,
        other: AudioLike,
        *,
        threshold: float | None = None,
        far: float | None = None,
        point: OperatingPoint | None = None,
        calibration: Calibration | None = None,
        any_sound: bool = False,
    ) -> Verification:
        """Say whether two recordings are of one speaker.

        The calibration decides, at a prior of 0.5 and equal costs or at ``point``, unless a
        ``threshold`` or ``far`` is given; without a calibration, the threshold of the equal error
        rate does.

        Args:
            one: a recording: what ``Recording`` takes, or one.
            other: another.
            threshold: as for ``rule``.
            far: as for ``rule``.
            point: as for ``rule``.
            calibration: as for ``rule``.
            any_sound: compare recordings in which hardly anybody speaks, too; the answer has
                ``doubts`` then.

        Raises:
            InputError: as ``Encoder.embed`` and ``rule``, or hardly anybody speaks in a recording.
        """
        rule = self.rule(threshold=threshold, far=far, point=point, calibration=calibration)
        answer = next(self.verify_pairs([(one, other)], rule, any_sound=any_sound))
        if isinstance(answer, InputError):
            raise answer
        return answer

    @takes_old_options
    def verify_pairs(
        self,
        pairs: Sequence[tuple[AudioLike, AudioLike]],
        rule: Rule | None = None,
        *,
        any_sound: bool = False,
    ) -> Iterator[Verification | InputError]:
        """Yield the answer for every pair, in order, or why there is none.

        A recording that occurs several times is embedded once, and all before the first answer.
        """
        rule = rule or self.rule()
        recordings = {_key(audio): audio for pair in pairs for audio in pair}
        found = self._heard(recordings, any_sound)
        told: set[str | int] = set()
        for pair in pairs:
            keys = [_key(audio) for audio in pair]
            one, other = (found[key] for key in keys)
            if isinstance(one, InputError) or isinstance(other, InputError):
                yield _joint(one, other)
            else:
                for key, heard in dict(zip(keys, (one, other), strict=True)).items():
                    if key not in told:
                        _warn_of_short(heard, recordings[key])
                told.update(keys)
                doubts = dict.fromkeys(heard.doubt for heard in (one, other) if heard.doubt)
                answer = rule.judge(float(one.vector @ other.vector))
                yield replace(answer, doubts=tuple(doubts))

    def _heard(
        self, recordings: dict[str | int, AudioLike], any_sound: bool
    ) -> dict[str | int, Heard | InputError]:
        encoder = self.encoder

        def read(recording: Recording) -> Wave:
            is_listened_to = recording.speech_only or not any_sound
            return recording.speech if is_listened_to else recording.whole

        def hear(recording: Recording) -> Heard:
            wave = read(recording)
            what = "speech" if isinstance(wave, SpeechWave) else "audio"
            seconds = wave.num_samples / SAMPLE_RATE
            doubt = None if what == "speech" else _doubt(recording)
            return Heard(encoder.embed(recording), seconds, what, doubt)

        given, count = list(recordings.values()), len(recordings)
        stream = of_each(given, read, hear, encoder.backend, encoder.streams_for(count))
        return dict(zip(recordings, track(stream, "embedding", count), strict=True))


def _key(audio: AudioLike) -> str | int:
    """What tells recordings apart that are in memory together."""
    return str(audio) if isinstance(audio, str | Path) else id(audio)


def _joint(one: Heard | InputError, other: Heard | InputError) -> InputError:
    """What is wrong with a pair: of both recordings, where both cannot be used."""
    lines = dict.fromkeys(str(each) for each in (one, other) if isinstance(each, InputError))
    return InputError(" ".join(lines))


def _doubt(recording: Recording) -> str | None:
    """That hardly anybody speaks in a recording, of which an encoder knows nothing."""
    try:
        found = recording.find_speech()
    except InputError:  # embedding says what is wrong
        return None
    if found.spoken_seconds >= MIN_SPEECH_SECONDS:
        return None
    return f"{recording.name}: {found.spoken_seconds:.2f} s of speech: no voice to compare"


def _warn_of_short(heard: Heard, audio: AudioLike) -> None:
    """Warn of a recording that is too short to tell much."""
    if heard.seconds < SHORT_SECONDS:
        logger.warning(
            "%s: %.2f s of %s: below %g s, errors are far more frequent than it seems.",
            Recording.of(audio).name,
            heard.seconds,
            heard.what,
            SHORT_SECONDS,
        )
