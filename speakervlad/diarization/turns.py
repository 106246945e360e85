"""Who speaks when: the turns of a recording, and the files that hold them; no torch."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from speakervlad.diarization.captions import captions, cue_times, read_captions, voices
from speakervlad.errors import InputError, did_you_mean
from speakervlad.files import atomic_path
from speakervlad.texts import parse_json, read_text, seconds_in

RTTM_TYPES = frozenset(
    "SPEAKER LEXEME NON-LEX NON-SPEECH FILLER SEGMENT SU CB IP EDIT A/P SPKR-INFO NOSCORE NO_RT_METADATA".split()  # noqa: E501, SIM905
)
# Type, recording, channel, start, duration, two fields without meaning, speaker; confidence and
# lookahead may follow.
RTTM_FIELDS, MOST_RTTM_FIELDS = 8, 10
NOT_KNOWN = "<NA>"
# Of a table of turns.
COLUMNS = ("recording", "start", "end", "speaker")
# Turns that overlap by less only touch: their ends are sums of rounded numbers.
TOUCHING = 1e-6


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
        """Turns of one speaker that overlap, touch, or leave at most ``gap`` seconds, as one.

        A negative ``gap`` joins only those that overlap by more than that.
        """
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
        names = {name: without_spaces(name) for name in self.speakers}
        if len(set(names.values())) < len(names):
            raise InputError(
                f"{self.recording}: RTTM has no white space in names, and without it two speakers "
                f"of {', '.join(names)} have the same name. Rename one of them."
            )
        recording = without_spaces(self.recording)
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
        """Subtitles that say who speaks.

        Raises:
            InputError: a name that would be read as another one.
        """
        texts = captions(self.speakers)
        return "".join(
            f"{number}\n{cue_times(turn.start, turn.end)}\n{texts[turn.speaker]}\n\n"
            for number, turn in enumerate(self.turns, 1)
        )

    def to_vtt(self) -> str:
        """WebVTT with voice spans, which say who speaks.

        Raises:
            InputError: a name that would be read as another one.
        """
        texts = voices(self.speakers)
        cues = (
            f"{cue_times(turn.start, turn.end, '.')}\n{texts[turn.speaker]}\n"
            for turn in self.turns
        )
        return "\n".join(["WEBVTT\n", *cues])

    def to_csv(self) -> str:
        """A table: recording, start, end and speaker."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        for start, end, speaker in self.turns:
            writer.writerow((self.recording, f"{start:.3f}", f"{end:.3f}", speaker))
        return table.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Recording, duration, seconds of every speaker, and turns, as JSON has them."""
        speakers = [
            {"name": name, "seconds": round(seconds, 3)} for name, seconds in self.speakers.items()
        ]
        turns = [
            {"start": round(start, 3), "end": round(end, 3), "speaker": speaker}
            for start, end, speaker in self.turns
        ]
        whole = {"recording": self.recording, "seconds": self.seconds, "speakers": speakers}
        return whole | {"turns": turns}

    def to_json(self) -> str:
        """What ``to_dict`` gives, as text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"


def without_spaces(name: str) -> str:
    """A name as a field of RTTM, which holds no white space and is not empty."""
    return "_".join(name.split()) or "_"


class Form(NamedTuple):
    """One kind of file for turns: its suffix, and what writes it."""

    suffix: str
    write: Callable[[Turns], str]


FORMS = {
    "rttm": Form(".rttm", Turns.to_rttm),
    "labels": Form(".txt", Turns.to_labels),
    "srt": Form(".srt", Turns.to_srt),
    "vtt": Form(".vtt", Turns.to_vtt),
    "csv": Form(".csv", Turns.to_csv),
    "json": Form(".json", Turns.to_json),
}


def save_turns(path: str | Path, turns: Turns | Iterable[Turns], form: str = "rttm") -> None:
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


def load_turns(path: str | Path) -> dict[str, Turns]:
    """Read what ``save_turns`` wrote, or others' RTTM, by the suffix; RTTM if it is another.

    Subtitles (.srt, .vtt) say who speaks in front of each text, see ``captions``; a table (.csv)
    has columns ``recording, start, end, speaker``, or lacks the first.

    Args:
        path: a file, or a folder: all files of the first form in it, RTTM before the others.

    Returns:
        The turns by recording; in labels and subtitles the recording is the file's name. A file of
        RTTM without a line names no recording, but one in a folder is of a recording of its name
        in which nobody speaks.

    Raises:
        InputError: missing, no text, a damaged line, which is named, or a recording twice.
    """
    path = Path(path)
    return _read_folder(path) if path.is_dir() else _read_file(path)


def names_recordings(path: str | Path) -> bool:
    """Whether what is read says itself which recordings it is of, or only its file's name does."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() not in (".txt", ".srt", ".vtt")


def _read_file(path: Path) -> dict[str, Turns]:
    return READERS.get(path.suffix.lower(), _read_rttm)(path, read_text(path))


def _read_folder(folder: Path) -> dict[str, Turns]:
    files = [sorted(folder.glob(f"*{form.suffix}")) for form in FORMS.values()]
    turns: dict[str, Turns] = {}
    for path in next(filter(None, files), []):
        found = _read_file(path) or {path.stem: Turns(path.stem)}
        again = turns.keys() & found.keys()
        if again:
            raise InputError(f"{path}: {min(again)!r} stands in another file too. Remove one.")
        turns |= found
    return turns


def _read_rttm(path: Path, text: str) -> dict[str, Turns]:
    turns: dict[str, list[Turn]] = {}
    confidences: dict[tuple[str, str], str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";;"):
            continue
        where = f"{path}, line {number}"
        _check_fields(where, line, fields)
        recording = turns.setdefault(fields[1], [])
        if fields[0] != "SPEAKER":
            continue
        _check_confidence(where, line, fields, confidences)
        start, seconds = _number(where, line, fields[3]), _number(where, line, fields[4])
        if seconds > 0:
            recording.append(Turn(start, start + seconds, fields[7]))
    return {name: Turns(name, tuple(of_it)) for name, of_it in turns.items()}


def _check_fields(where: str, line: str, fields: list[str]) -> None:
    """Refuse a line whose fields cannot stand where they do, as with white space in a name.

    Raises:
        InputError: says which.
    """
    if fields[0] not in RTTM_TYPES:
        raise _damaged(where, line, f"{fields[0]!r} is no type of RTTM")
    if len(fields) < (RTTM_FIELDS if fields[0] == "SPEAKER" else 2):
        raise _damaged(where, line, f"{len(fields)} fields")
    if len(fields) > MOST_RTTM_FIELDS:
        problem = f"{len(fields)} fields, more than {MOST_RTTM_FIELDS} (white space in a name)"
        raise _damaged(where, line, problem)
    if fields[0] != "SPEAKER":
        return
    is_shifted = any(_is_number(field) for field in fields[5:7]) or fields[7] == NOT_KNOWN
    is_cut = any(field != NOT_KNOWN and not _is_number(field) for field in fields[8:])
    if is_shifted or is_cut:
        which = "of the recording" if is_shifted else "of the speaker"
        raise _damaged(where, line, f"its fields are shifted (white space in the name {which})")


def _check_confidence(
    where: str, line: str, fields: list[str], confidences: dict[tuple[str, str], str]
) -> None:
    """Refuse whole numbers behind one name that differ: "speaker 1" and "speaker 2", cut in two."""
    if len(fields) > RTTM_FIELDS and fields[8].isdecimal():
        before = confidences.setdefault((fields[1], fields[7]), fields[8])
        if before != fields[8]:
            problem = f"{fields[7]!r} is followed by {fields[8]}, elsewhere by {before}"
            raise _damaged(where, line, f"{problem} (white space in the name of the speaker)")


def _is_number(text: str) -> bool:
    try:
        seconds_in(text)
    except ValueError:
        return False
    return True


def _damaged(where: str, line: str, problem: str) -> InputError:
    return InputError(
        f"{where}: {problem}. Expected `SPEAKER recording 1 start duration <NA> <NA> speaker <NA> "
        f"<NA>`. The line reads {line.strip()[:120]!r}."
    )


def _number(where: str, line: str, text: str) -> float:
    value = seconds_in(text) if _is_number(text) else math.nan
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


def _read_csv(path: Path, text: str) -> dict[str, Turns]:
    rows = csv.DictReader(io.StringIO(text))
    if missing := set(COLUMNS[1:]) - set(rows.fieldnames or ()):
        raise InputError(f"{path}: a table of turns has columns {', '.join(COLUMNS)}; this one "
                         f"has no {', '.join(sorted(missing))}.")  # fmt: skip
    turns: dict[str, list[Turn]] = {}
    for row in rows:
        where, line = f"{path}, line {rows.line_num}", ", ".join(map(str, row.values()))
        recording = turns.setdefault(row.get("recording") or path.stem, [])
        start, end, speaker = (row[name] or "" for name in COLUMNS[1:])
        recording.append(_turn(where, line, start, end, speaker))
    return {name: Turns(name, tuple(of_it)) for name, of_it in turns.items()} or _one(path, [])


def _read_captions(path: Path, text: str) -> dict[str, Turns]:
    spoken = read_captions(text, str(path), is_vtt=path.suffix.lower() == ".vtt")
    return _one(path, [Turn(*each) for each in spoken])


def _read_json(path: Path, text: str) -> dict[str, Turns]:
    try:
        whole: dict[str, Any] = parse_json(text)
        turns = [
            Turn(float(turn["start"]), float(turn["end"]), _speaker(turn["speaker"]))
            for turn in whole["turns"]
        ]
        seconds = whole.get("seconds")
        seconds = None if seconds is None else float(seconds)
        recording = str(path.stem if whole.get("recording") is None else whole["recording"])
        return {recording: Turns(recording, tuple(turns), seconds)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: holds no turns as JSON ({error!r}).") from error


def _speaker(name: object) -> str:
    if not isinstance(name, str | int) or name == "":
        raise TypeError(f"speaker is {name!r}")
    return str(name)


READERS: dict[str, Callable[[Path, str], dict[str, Turns]]] = {
    ".txt": _read_labels,
    ".srt": _read_captions,
    ".vtt": _read_captions,
    ".csv": _read_csv,
    ".json": _read_json,
}


def _one(path: Path, turns: list[Turn]) -> dict[str, Turns]:
    return {path.stem: Turns(path.stem, tuple(turns))}


def _turn(where: str, line: str, start: str, end: str, speaker: str) -> Turn:
    try:
        turn = Turn(seconds_in(start), seconds_in(end), speaker.strip())
    except ValueError:
        turn = Turn(math.nan, math.nan, "")
    if not (0 <= turn.start < turn.end < math.inf and turn.speaker):
        raise InputError(f"{where}: {line.strip()[:120]!r} is no turn: start, end and speaker.")
    return turn
