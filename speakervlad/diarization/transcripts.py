"""Transcripts: read with their times, given speakers by the turns of a recording, written again.

Forms: the JSON of Whisper, faster-whisper, WhisperX and whisper.cpp; SRT; WebVTT; plain text and
CSV are written only.
"""

import csv
import html
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speakervlad.diarization.captions import cue_times
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.errors import InputError, did_you_mean
from speakervlad.files import atomic_path
from speakervlad.texts import parse_json

# A word beside a turn, but not within it, is of its speaker up to this distance in seconds: times
# of speech recognisers are seldom exact.
NEAR_SECONDS = 1.0
MAX_BYTES = 200_000_000
# Fields that describe a whole segment and none of its parts.
OF_WHOLE = frozenset({"tokens", "seek"})

CUE = re.compile(r"([\d:.,]+)\s+-->\s+([\d:.,]+)")


class Word(NamedTuple):
    """One word; its times in seconds are None where the recogniser gave none."""

    text: str
    start: float | None = None
    end: float | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Segment:
    """What is said from ``start`` to ``end``, in seconds.

    Attributes:
        start: seconds.
        end: seconds.
        text: as the transcript has it.
        words: with their times, where the transcript has any.
        speaker: None where nobody is known to speak.
        more: what else the transcript says of the segment, carried along.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    speaker: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Transcript:
    """The segments of a recording, in their order.

    Attributes:
        segments: what is said.
        more: what else a JSON transcript says, as its language; carried along.
    """

    segments: tuple[Segment, ...]
    more: dict[str, Any] = field(default_factory=dict)


def load_transcript(path: str | Path) -> Transcript:
    """Read a transcript; its suffix (.json, .srt, .vtt) says the form.

    Raises:
        InputError: missing, no text in UTF-8, of another form, or a damaged part, which is named.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: no transcript that can be read ({', '.join(READERS)}). Let the speech "
            "recogniser write one of these."
        )
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES / 1e6:.0f} MB, so no transcript.")
    try:
        return reader(path, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text file in UTF-8 ({error.reason}).") from error


def label_transcript(transcript: Transcript, turns: Turns) -> Transcript:
    """Give every word and segment the speaker of its time.

    A word is of the speaker who has most of its time; beside all turns, of the nearest one within
    a second. A word without times is of the speaker of the word before it. A segment with words is
    cut where the speaker changes; one without is of the speaker who has most of its time.

    Args:
        transcript: without speakers; those that it has are replaced.
        turns: of the same recording.
    """
    said_by = _Speakers(turns.turns)
    parts = (part for segment in transcript.segments for part in _labelled(segment, said_by))
    return replace(transcript, segments=tuple(parts))


class _Speakers:
    """Finds who speaks; ``turns`` are sorted by their starts."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = turns
        self._starts = np.array([turn.start for turn in turns])
        # No turn before one ends later than this.
        self._latest_ends = np.maximum.accumulate([turn.end for turn in turns] or [0.0])

    def of(self, start: float, end: float) -> str | None:
        """Who has most of a time; else who speaks nearest to it, within a second."""
        first = int(np.searchsorted(self._latest_ends, start - NEAR_SECONDS))
        stop = int(np.searchsorted(self._starts, end + NEAR_SECONDS, "right"))
        shares: dict[str, float] = {}
        nearest, distance = None, NEAR_SECONDS
        for turn in self.turns[first:stop]:
            shared = min(end, turn.end) - max(start, turn.start)
            if shared > 0:
                shares[turn.speaker] = shares.get(turn.speaker, 0.0) + shared
            elif -shared <= distance:
                nearest, distance = turn.speaker, -shared
        return max(shares, key=shares.__getitem__) if shares else nearest


def _labelled(segment: Segment, said_by: _Speakers) -> Iterator[Segment]:
    """The segment, or its parts where words of several speakers follow one another."""
    words = _labelled_words(segment.words, said_by)
    groups = [tuple(group) for _, group in groupby(words, key=lambda word: word.speaker)]
    if len(groups) < 2:
        speaker = groups[0][0].speaker if groups else said_by.of(segment.start, segment.end)
        yield replace(segment, words=words, speaker=speaker)
        return
    more = {name: value for name, value in segment.more.items() if name not in OF_WHOLE}
    start = segment.start
    for number, group in enumerate(groups):
        ends = [word.end for word in group if word.end is not None]
        end = segment.end if number == len(groups) - 1 else max(ends, default=start)
        starts = [word.start for word in group if word.start is not None]
        begin = segment.start if number == 0 else min(starts, default=start)
        yield Segment(begin, max(end, begin), _text_of(group), group, group[0].speaker, more)
        start = end


def _labelled_words(words: Sequence[Word], said_by: _Speakers) -> tuple[Word, ...]:
    found = [
        None if word.start is None or word.end is None else said_by.of(word.start, word.end)
        for word in words
    ]
    timed = [word.start is not None and word.end is not None for word in words]
    speaker = next((name for name, has_times in zip(found, timed, strict=True) if has_times), None)
    labelled = []
    for word, name, has_times in zip(words, found, timed, strict=True):
        speaker = name if has_times else speaker
        labelled.append(word._replace(speaker=speaker))
    return tuple(labelled)


def _text_of(words: Iterable[Word]) -> str:
    """Whisper's words begin with their space, WhisperX's have none."""
    texts = [word.text for word in words]
    return "".join(texts) if any(text[:1].isspace() for text in texts) else " ".join(texts)


def save_transcript(path: str | Path, transcript: Transcript, form: str | None = None) -> None:
    """Write a transcript; the suffix chooses the form, if none is named.

    Raises:
        InputError: an unknown form, or a path that cannot be written.
    """
    path = Path(path)
    form = form or path.suffix[1:].lower() or "txt"
    if form not in WRITERS:
        raise InputError(f"{form!r}: no form of transcripts. {did_you_mean(form, WRITERS)}")
    with atomic_path(path) as temporary:
        # A text of JSON may hold halves of characters, which no file can.
        temporary.write_bytes(WRITERS[form](transcript).encode(errors="replace"))


def _read_json(path: Path, text: str) -> Transcript:
    try:
        whole = parse_json(text)
        if isinstance(whole, list):
            whole = {"segments": whole}
        if "transcription" in whole:  # whisper.cpp counts milliseconds
            listed, read = whole["transcription"], _of_whisper_cpp
        else:
            listed, read = whole["segments"], _of_whisper
        segments = tuple(read(each) for each in listed)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: is not as Whisper, faster-whisper, WhisperX or whisper.cpp write ({error!r})."
        ) from error
    left_out = ("segments", "transcription", "word_segments")
    return Transcript(segments, {key: whole[key] for key in whole if key not in left_out})


def _of_whisper(segment: dict[str, Any]) -> Segment:
    words = tuple(
        Word(
            str(word["word"]),
            None if word.get("start") is None else _second(word["start"]),
            None if word.get("end") is None else _second(word["end"]),
        )
        for word in segment.get("words") or ()
    )
    known = ("start", "end", "text", "words", "speaker", "id")
    more = {name: value for name, value in segment.items() if name not in known}
    start, end = _second(segment["start"]), _second(segment["end"])
    return Segment(start, end, str(segment["text"]), words, more=more)


def _of_whisper_cpp(segment: dict[str, Any]) -> Segment:
    times = segment["offsets"]
    start, end = (_second(times[name]) / 1000 for name in ("from", "to"))
    return Segment(start, end, str(segment["text"]))


def _second(value: Any) -> float:  # noqa: ANN401 - what the JSON says
    """A time.

    Raises:
        ValueError, TypeError, OverflowError: it is none.
    """
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} is no time")
    return seconds


def _read_cues(path: Path, text: str) -> Transcript:
    """Cues of SRT and WebVTT: a line of times, then text up to an empty line."""
    segments = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip("\n").split("\n")
        row = next((row for row, line in enumerate(lines) if "-->" in line), None)
        if row is None:
            continue
        found = CUE.match(lines[row].strip())
        if found is None:
            raise InputError(f"{path}: {lines[row].strip()[:80]!r} are no times of a subtitle.")
        start, end = (_seconds(path, clock) for clock in found.groups())
        segments.append(Segment(start, end, "\n".join(lines[row + 1 :]).strip()))
    if not segments and text.strip() not in ("", "WEBVTT"):
        raise InputError(f"{path}: holds no subtitle: no line of times (`start --> end`).")
    return Transcript(tuple(segments))


def _read_vtt(path: Path, text: str) -> Transcript:
    read = _read_cues(path, text)
    plain = (replace(each, text=html.unescape(re.sub(r"<[^>]*>", "", each.text)))
             for each in read.segments)  # fmt: skip
    return replace(read, segments=tuple(plain))


def _seconds(path: Path, clock: str) -> float:
    try:
        parts = [float(part) for part in clock.replace(",", ".").split(":")]
        return _second(sum(part * 60**power for power, part in enumerate(reversed(parts))))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: {clock[:80]!r} is no time of a subtitle.") from error


def _to_json(transcript: Transcript) -> str:
    """As WhisperX writes it: ``speaker`` beside each segment and word."""
    segments = []
    for number, each in enumerate(transcript.segments):
        entry: dict[str, Any] = {"id": number, "start": round(each.start, 3)}
        entry |= {"end": round(each.end, 3), "text": each.text}
        if each.speaker is not None:
            entry["speaker"] = each.speaker
        if each.words:
            entry["words"] = [_word_entry(word) for word in each.words]
        segments.append(each.more | entry)
    whole = transcript.more | {"segments": segments}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def _word_entry(word: Word) -> dict[str, Any]:
    entry = {"word": word.text, "start": word.start, "end": word.end, "speaker": word.speaker}
    return {name: value for name, value in entry.items() if value is not None}


def _to_srt(transcript: Transcript) -> str:
    """Subtitles that begin with their speaker in brackets."""
    return "".join(
        f"{number}\n{cue_times(each.start, each.end)}\n"
        f"{'' if each.speaker is None else f'[{each.speaker}]: '}{each.text.strip()}\n\n"
        for number, each in enumerate(transcript.segments, 1)
    )


def _to_vtt(transcript: Transcript) -> str:
    """WebVTT with voice spans."""
    cues = (
        f"{cue_times(each.start, each.end, '.')}\n{_voice(each)}\n" for each in transcript.segments
    )
    return "\n".join(["WEBVTT\n", *cues])


def _voice(segment: Segment) -> str:
    text = html.escape(segment.text.strip(), quote=False)
    if segment.speaker is None:
        return text
    return f"<v {html.escape(segment.speaker, quote=False)}>{text}"


def _to_text(transcript: Transcript) -> str:
    """A paragraph for each run of one speaker, with the time at which it begins."""
    paragraphs = []
    for speaker, run in groupby(transcript.segments, key=lambda each: each.speaker):
        said = list(run)
        words = " ".join(" ".join(each.text.split()) for each in said)
        minutes, seconds = divmod(int(said[0].start), 60)
        clock = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        paragraphs.append(f"[{clock}] {speaker or 'unknown'}: {words}\n")
    return "\n".join(paragraphs)


def _to_csv(transcript: Transcript) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("start", "end", "speaker", "text"))
    for each in transcript.segments:
        text = " ".join(each.text.split())
        writer.writerow((f"{each.start:.3f}", f"{each.end:.3f}", each.speaker or "", text))
    return table.getvalue()


READERS: dict[str, Callable[[Path, str], Transcript]] = {
    ".json": _read_json,
    ".srt": _read_cues,
    ".vtt": _read_vtt,
}
WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": _to_text,
    "json": _to_json,
    "srt": _to_srt,
    "vtt": _to_vtt,
    "csv": _to_csv,
}
