"""Who speaks in subtitles (SRT and WebVTT), where their texts say it; no torch.

A speaker stands before the text of a cue as ``[NAME]: text``, ``(NAME) text``, ``NAME: text`` or
``<v NAME>text``, in one of these forms throughout a file, or is all of the text.
"""

import html
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from speakervlad.errors import InputError, first_few

logger = logging.getLogger(__name__)

TIMES = re.compile(r"\s*(\S+)\s+-->\s+(\S+)(?:\s.*)?")
CLOCK = re.compile(r"(?:(\d{1,6}):)?([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,6}))?", re.ASCII)
# What draws a text; other angle brackets may belong to a name.
TAG = re.compile(r"</?(?:i|b|u|s|c|font|ruby|rt|lang)(?:[.\s][^>]*)?>|\{\\[^}]*\}", re.IGNORECASE)
VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>(.*)", re.DOTALL)
BEFORE_COLON = re.compile(r"([^:：?!;]{1,80})(?:：|:\s|:$).*", re.DOTALL)
# A change of speaker, in some subtitles.
DASH = re.compile(r"\A\s*(?:[-–—]|>>+)\s*")
BRACKETS = {"[": "]", "【": "】", "(": ")", "（": "）"}
# Texts that end so, or have more words, are sentences rather than names.
SENTENCE_ENDS, NAME_WORDS = tuple(".?!…,;。？！"), 4
# In fewer cues, texts that repeat may be those of more speakers than half of them.
FEW_CUES = 8


class Cue(NamedTuple):
    """A text and when it is shown.

    Attributes:
        line: number of the line of its times.
        start: in seconds.
        end: in seconds.
        texts: its lines, without what only draws them.
    """

    line: int
    start: float
    end: float
    texts: tuple[str, ...]


class Spoken(NamedTuple):
    """Who speaks in a cue, and when, in seconds."""

    start: float
    end: float
    speaker: str


def read_captions(text: str, where: str, *, is_vtt: bool = False) -> list[Spoken]:
    """The cues of a file of subtitles with their speakers; cues of no length are left out.

    Args:
        text: content of the file.
        where: names the file in messages.
        is_vtt: whether ``&lt;`` and the like stand for other characters.

    Raises:
        InputError: a line of times that is none, or a cue that does not say who speaks; both with
            the number of the line.
    """
    cues = list(_cues(text.splitlines(), where, is_vtt=is_vtt))
    form = _form_of(cues)
    if form is None:
        _check_names(cues, where)
    speaker_of = FORMS[form] if form else _whole
    return [
        Spoken(cue.start, cue.end, _speaker(cue, where, form, speaker_of))
        for cue in cues
        if cue.end > cue.start
    ]


def captions(speakers: Iterable[str]) -> dict[str, str]:
    """The texts that say who speaks, by speaker: the names, in brackets where that is needed.

    Raises:
        InputError: a name that would be read as another one.
    """
    names = {speaker: " ".join(speaker.split()) for speaker in speakers}
    sentences = sum(map(_is_sentence, names.values()))
    if 2 * sentences <= len(names) and all(map(_is_plain, names.values())):
        return names
    for speaker, name in names.items():
        is_read = _in_brackets(_drawn(f"[{name}]", is_vtt=False)) == name
        if not is_read or "-->" in name:
            raise _other_name(speaker)
    return {speaker: f"[{name}]" for speaker, name in names.items()}


def voices(speakers: Iterable[str]) -> dict[str, str]:
    """The texts of WebVTT that say who speaks, by speaker: voice spans, shown as the names.

    Raises:
        InputError: a name that would be read as another one.
    """
    texts = {}
    for speaker in speakers:
        name = " ".join(speaker.split())
        escaped = html.escape(name, quote=False)
        texts[speaker] = f"<v {escaped}>{escaped}"
        if _in_voice(_drawn(texts[speaker], is_vtt=True)) != name or "-->" in name:
            raise _other_name(speaker)
    return texts


def cue_times(start: float, end: float, point: str = ",") -> str:
    """The times of a cue, as ``00:00:01,500 --> 01:02:03,456``; WebVTT has another point."""
    return f"{_clock(start, point)} --> {_clock(end, point)}"


def _clock(seconds: float, point: str) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _other_name(speaker: str) -> InputError:
    return InputError(
        f"{speaker!r}: subtitles would say another name. Rename this speaker, or take another form."
    )


def _is_plain(name: str) -> bool:
    is_marked = any(speaker_of(name) for speaker_of in FORMS.values())
    is_drawn = _drawn(name, is_vtt=False) == name and not DASH.match(name)
    return bool(name) and is_drawn and not is_marked and "-->" not in name


def _cues(lines: list[str], where: str, *, is_vtt: bool) -> Iterator[Cue]:
    number = 0
    while number < len(lines):
        line, number = lines[number], number + 1
        if "-->" not in line:
            continue
        start, end = _times(line, f"{where}, line {number}")
        begin = number
        while number < len(lines) and lines[number].strip() and "-->" not in lines[number]:
            number += 1
        # Without an empty line between them, the number of the next cue stands behind the text.
        runs_on = number < len(lines) and lines[number].strip() and lines[number - 1].isdecimal()
        shown = lines[begin : number - 1 if runs_on and number - 1 > begin else number]
        texts = (_drawn(text, is_vtt=is_vtt) for text in shown)
        yield Cue(begin, start, end, tuple(text for text in texts if text))


def _times(line: str, where: str) -> tuple[float, float]:
    found = TIMES.fullmatch(line)
    times = [CLOCK.fullmatch(clock) for clock in found.groups()] if found else [None]
    start, *ends = (_seconds(time) if time else -1.0 for time in times)
    if not ends or start < 0 or ends[0] < start:
        raise InputError(
            f"{where}: {line.strip()[:120]!r} says no time. Expected "
            "`00:01:02,500 --> 00:01:04,000`."
        )
    return start, ends[0]


def _seconds(clock: re.Match[str]) -> float:
    hours, minutes, seconds, fraction = clock.groups()
    whole = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)
    return whole + float(f"0.{fraction or 0}")


def _drawn(text: str, *, is_vtt: bool) -> str:
    """A line of text as it is read on a screen."""
    bare = TAG.sub("", text).strip()
    return html.unescape(bare) if is_vtt else bare


def _in_voice(text: str) -> str | None:
    found = VOICE.match(text)
    return " ".join(found[1].split()) if found else None


def _in_brackets(text: str, opening: str = "[【") -> str | None:
    """What the brackets around the beginning of a text hold."""
    if not text or text[0] not in opening:
        return None
    opens, closes, depth = text[0], BRACKETS[text[0]], 0
    for place, letter in enumerate(text):
        depth += (letter == opens) - (letter == closes)
        if depth == 0:
            return " ".join(text[1:place].split()) or None
    return None


def _in_parentheses(text: str) -> str | None:
    return _in_brackets(text, "(（")


def _before_colon(text: str) -> str | None:
    found = BEFORE_COLON.fullmatch(text)
    return " ".join(found[1].split()) or None if found else None


def _whole(text: str) -> str | None:
    return " ".join(text.split()) or None


# Forms in which a text says who speaks, by what stands there.
FORMS: dict[str, Callable[[str], str | None]] = {
    "<v NAME>text": _in_voice,
    "[NAME]: text": _in_brackets,
    "(NAME) text": _in_parentheses,
    "NAME: text": _before_colon,
}


def _first_text(cue: Cue) -> str:
    first = cue.texts[0] if cue.texts else ""
    return first if first.startswith("<v") else DASH.sub("", first, count=1) or first


def _form_of(cues: list[Cue]) -> str | None:
    """The form of at least half of the cues; None where texts are names or nothing at all."""
    counts = {
        form: sum(speaker_of(_first_text(cue)) is not None for cue in cues)
        for form, speaker_of in FORMS.items()
    }
    best = max(counts, key=lambda form: counts[form])
    return best if 2 * counts[best] >= len(cues) > 0 else None


def _speaker(
    cue: Cue, where: str, form: str | None, speaker_of: Callable[[str], str | None]
) -> str:
    found = speaker_of(_first_text(cue)) if cue.texts else None
    shown = " ".join(cue.texts)[:120]
    if found is None:
        raise InputError(
            f"{where}, line {cue.line}: {shown!r} does not say who speaks"
            f"{f', as others do ({form})' if form else ''}. Put the name before the text, or "
            "remove the cue."
        )
    others = (text for text in cue.texts[1:] if DASH.match(text) or form != "NAME: text")
    again = {speaker_of(DASH.sub("", text, count=1)) for text in others} if form else set()
    if again - {None, found}:
        raise InputError(
            f"{where}, line {cue.line}: {shown!r} names two speakers for one time. Split the cue."
        )
    return found


def _check_names(cues: list[Cue], where: str) -> None:
    """Refuse texts that are what was said; warn where names and sentences cannot be told apart."""
    texts: dict[str, list[Cue]] = {}
    for cue in cues:
        if len(cue.texts) > 1:
            raise _no_names(cue, where)
        texts.setdefault(" ".join(cue.texts), []).append(cue)
    most = len(cues) // 2 if len(cues) >= FEW_CUES else len(cues) - 1
    if len(texts) <= most:
        return
    sentences = [text for text in texts if _is_sentence(text)]
    if 2 * len(sentences) > len(texts):
        raise _no_names(texts[sentences[0]][0], where)
    if len(cues) >= 3:
        logger.warning("%s: its texts are taken for names of speakers: %s", where, first_few(texts))


def _is_sentence(text: str) -> bool:
    return text.endswith(SENTENCE_ENDS) or len(text.split()) > NAME_WORDS


def _no_names(cue: Cue, where: str) -> InputError:
    return InputError(
        f"{where}, line {cue.line}: {' '.join(cue.texts)[:120]!r} is what was said, not who. "
        "Subtitles name their speakers as `[NAME]: text`, `(NAME) text` or `NAME: text`."
    )
