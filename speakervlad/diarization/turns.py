"""Who speaks when: the turns of a recording, and the files that hold them; no torch."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from speakervlad.errors import InputError, did_you_mean
from speakervlad.files import atomic_path, parse_json

RTTM_TYPES = frozenset(
    "SPEAKER LEXEME NON-LEX NON-SPEECH FILLER SEGMENT SU CB IP EDIT A/P SPKR-INFO NOSCORE NO_RT_METADATA".split()  # noqa: E501, SIM905
)
# Recording, channel, start, duration, two fields that are not used, speaker.
RTTM_FIELDS = 8


class Turn(NamedTuple):
    """One speaker from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    speaker: str

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end - self.start


@dataclass(frozen=True)
class Turns:
    """Who speaks when in one recording.

    Attributes:
        recording: its name, as in the second column of RTTM.
        turns: sorted by start, end and speaker; those of different speakers may overlap.
        seconds: duration of the recording, where it is known.
    """

    recording: str
    turns: tuple[Turn, ...] = ()
    seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(sorted(Turn(*turn) for turn in self.turns)))
        for turn in self.turns:
            if not (math.isfinite(turn.start) and 0 <= turn.start < turn.end < math.inf):
                raise InputError(
                    f"{self.recording}: a turn from {turn.start} to {turn.end} s. Turns start at 0 "
                    "or later and end after that."
                )

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def speakers(self) -> dict[str, float]:
        """Seconds of speech by speaker, in the order of their first turns."""
        seconds: dict[str, float] = {}
        for turn in self.turns:
            seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.seconds
        return seconds

    def rename(self, names: Mapping[str, str]) -> "Turns":
        """With other names; two speakers who get the same name become one."""
        renamed = [
            turn._replace(speaker=names.get(turn.speaker, turn.speaker)) for turn in self.turns
        ]
        return replace(self, turns=tuple(renamed)).joined()

    def joined(self, gap: float = 0.0) -> "Turns":
        """Turns of one speaker that overlap, touch, or leave at most ``gap`` seconds, as one."""
        last: dict[str, Turn] = {}
        done: list[Turn] = []
        for turn in self.turns:
            before = last.get(turn.speaker)
            if before is not None and turn.start <= before.end + gap:
                turn = before._replace(end=max(before.end, turn.end))
            elif before is not None:
                done.append(before)
            last[turn.speaker] = turn
        return replace(self, turns=(*done, *last.values()))

    def to_rttm(self) -> str:
        """NIST's Rich Transcription Time Marked: a ``SPEAKER`` line a turn.

        White space in names becomes ``_``, as fields may not hold any.

        Raises:
            InputError: two speakers would get the same name.
        """
        names = {name: "_".join(name.split()) or "_" for name in self.speakers}
        if len(set(names.values())) < len(names):
            raise InputError(
                f"{self.recording}: RTTM has no white space in names, and without it two speakers "
                f"of {', '.join(names)} have the same name. Rename one of them."
            )
        recording = "_".join(self.recording.split())
        return "".join(
            f"SPEAKER {recording} 1 {turn.start:.3f} {turn.seconds:.3f} <NA> <NA> "
            f"{names[turn.speaker]} <NA> <NA>\n"
            for turn in self.turns
        )

    def to_labels(self) -> str:
        """A label track of Audacity: start, end and speaker between tabs."""
        return "".join(
            f"{turn.start:.3f}\t{turn.end:.3f}\t{' '.join(turn.speaker.split())}\n"
            for turn in self.turns
        )

    def to_srt(self) -> str:
        """Subtitles that say who speaks."""
        return "".join(
            f"{number}\n{_clock(turn.start)} --> {_clock(turn.end)}\n"
            f"{' '.join(turn.speaker.split())}\n\n"
            for number, turn in enumerate(self.turns, 1)
        )

    def to_json(self) -> str:
        """Recording, duration, seconds of every speaker, and turns."""
        speakers = [
            {"name": name, "seconds": round(seconds, 3)} for name, seconds in self.speakers.items()
        ]
        turns = [
            {"start": round(start, 3), "end": round(end, 3), "speaker": speaker}
            for start, end, speaker in self.turns
        ]
        whole = {"recording": self.recording, "seconds": self.seconds, "speakers": speakers}
        return json.dumps(whole | {"turns": turns}, indent=1, ensure_ascii=False) + "\n"


class Form(NamedTuple):
    """One kind of file for turns: its suffix, and what writes it."""

    suffix: str
    write: Callable[[Turns], str]


FORMS = {
    "rttm": Form(".rttm", Turns.to_rttm),
    "labels": Form(".txt", Turns.to_labels),
    "srt": Form(".srt", Turns.to_srt),
    "json": Form(".json", Turns.to_json),
}


def write_turns(path: str | Path, turns: Turns | Iterable[Turns], form: str = "rttm") -> None:
    """Write the turns of a recording; RTTM takes those of several.

    Raises:
        InputError: an unknown form, several recordings in a form that holds one, names that the
            form cannot hold, or a path that cannot be written.
    """
    if form not in FORMS:
        raise InputError(f"unknown form {form!r} of turns. {did_you_mean(form, FORMS)}")
    recordings = [turns] if isinstance(turns, Turns) else list(turns)
    if form != "rttm" and len(recordings) != 1:
        raise InputError(f"{path}: {form} holds one recording, not {len(recordings)}. Take rttm.")
    text = "".join(map(FORMS[form].write, recordings))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_turns(path: str | Path) -> dict[str, Turns]:
    """Read what ``write_turns`` wrote, or others' RTTM, by the suffix; RTTM if it is another.

    Args:
        path: a file, or a folder: all files of the first form in it, RTTM before the others.

    Returns:
        The turns by recording; in labels and subtitles the recording is the file's name.

    Raises:
        InputError: missing, no text, a damaged line, which is named, or a recording twice.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is a device or a pipe, no file of turns.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text file in UTF-8 ({error.reason}).") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    return READERS.get(path.suffix.lower(), _read_rttm)(path, text)


def _read_folder(folder: Path) -> dict[str, Turns]:
    files = [sorted(folder.glob(f"*{form.suffix}")) for form in FORMS.values()]
    turns: dict[str, Turns] = {}
    for path in next(filter(None, files), []):
        found = read_turns(path)
        again = turns.keys() & found.keys()
        if again:
            raise InputError(f"{path}: {min(again)!r} stands in another file too. Remove one.")
        turns |= found
    return turns


def _read_rttm(path: Path, text: str) -> dict[str, Turns]:
    turns: dict[str, list[Turn]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";;"):
            continue
        where = f"{path}, line {number}"
        if fields[0] not in RTTM_TYPES:
            raise _damaged(where, line, f"{fields[0]!r} is no type of RTTM")
        if fields[0] != "SPEAKER":
            continue
        if len(fields) < RTTM_FIELDS:
            raise _damaged(where, line, f"{len(fields)} fields")
        start, seconds = _number(where, line, fields[3]), _number(where, line, fields[4])
        recording = turns.setdefault(fields[1], [])
        if seconds > 0:
            recording.append(Turn(start, start + seconds, fields[7]))
    return {name: Turns(name, tuple(of_it)) for name, of_it in turns.items()}


def _damaged(where: str, line: str, problem: str) -> InputError:
    return InputError(
        f"{where}: {problem}. Expected `SPEAKER recording 1 start duration <NA> <NA> speaker <NA> "
        f"<NA>`. The line reads {line.strip()[:120]!r}."
    )


def _number(where: str, line: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise _damaged(where, line, f"{text!r} is no number of seconds")
    return value


def _read_labels(path: Path, text: str) -> dict[str, Turns]:
    turns = []
    for number, line in enumerate(text.splitlines(), 1):
        # Audacity writes the frequencies of a spectral selection in a line of its own.
        if not line.strip() or line.startswith("\\"):
            continue
        start, end, speaker = (*line.split("\t", 2), "", "")[:3]
        turns.append(_turn(f"{path}, line {number}", line, start, end, speaker))
    return _one(path, turns)


def _read_srt(path: Path, text: str) -> dict[str, Turns]:
    turns, lines = [], text.splitlines()
    for number, line in enumerate(lines, 1):
        if "-->" not in line:
            continue
        start, _, end = line.partition("-->")
        speaker = lines[number] if number < len(lines) else ""
        begin, stop = (_seconds_of_clock(clock.strip()) for clock in (start, end))
        turns.append(_turn(f"{path}, line {number}", line, begin, stop, speaker))
    return _one(path, turns)


def _read_json(path: Path, text: str) -> dict[str, Turns]:
    try:
        whole: dict[str, Any] = parse_json(text)
        turns = [
            Turn(float(turn["start"]), float(turn["end"]), str(turn["speaker"]))
            for turn in whole["turns"]
        ]
        seconds = whole.get("seconds")
        seconds = None if seconds is None else float(seconds)
        recording = str(whole.get("recording", path.stem))
        return {recording: Turns(recording, tuple(turns), seconds)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: holds no turns as JSON ({error!r}).") from error


READERS: dict[str, Callable[[Path, str], dict[str, Turns]]] = {
    ".txt": _read_labels,
    ".srt": _read_srt,
    ".json": _read_json,
}


def _one(path: Path, turns: list[Turn]) -> dict[str, Turns]:
    return {path.stem: Turns(path.stem, tuple(turns))}


def _turn(where: str, line: str, start: str, end: str, speaker: str) -> Turn:
    try:
        turn = Turn(float(start), float(end), speaker.strip())
    except ValueError:
        turn = Turn(math.nan, math.nan, "")
    if not (0 <= turn.start < turn.end < math.inf and turn.speaker):
        raise InputError(f"{where}: {line.strip()[:120]!r} is no turn: start, end and speaker.")
    return turn


def _clock(seconds: float) -> str:
    """``01:02:03,456``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"


def _seconds_of_clock(clock: str) -> str:
    """The inverse of ``_clock`` as text; what is no clock stays as it is."""
    parts = clock.replace(",", ".").split(":")
    try:
        return str(sum(float(part) * 60**power for power, part in enumerate(reversed(parts))))
    except ValueError:
        return clock
