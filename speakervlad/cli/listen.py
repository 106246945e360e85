"""The command that hears a microphone or a pipe and says who is speaking: ``listen``."""

import hashlib
import json
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speakervlad.cli.console import clock, console, counted, errors, notes, shown
from speakervlad.cli.options import DEFAULT_ENCODER, BackendOption, EncoderOption
from speakervlad.cli.people import (
    NamesOption,
    StoreOption,
    confirmed,
    encoder_and_names,
    open_people,
)
from speakervlad.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from speakervlad.audio.pipe import PipedSound
    from speakervlad.diarization.live import LiveDiarizer, Said
    from speakervlad.diarization.turns import Turns
    from speakervlad.encoder.encoder import Encoder
    from speakervlad.people.people import PeopleStore

# Of the meter: the quietest level that it shows, and its width.
QUIETEST_DB, METER_WIDTH = -60.0, 24


def listen(
    source: Annotated[
        str | None,
        typer.Argument(help="- for WAV or raw samples from standard input; else a microphone."),
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    device: Annotated[
        str | None, typer.Option(help="Number of a microphone, or part of its name.")
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="List the microphones, and exit.")
    ] = False,
    rate: Annotated[int | None, typer.Option(help="Of raw samples, in Hz; 16000.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--format", help="Of raw samples: s16, s24, s32, f32, u8, mulaw, alaw."),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Of raw samples.")] = 1,
    store: StoreOption = None,
    names: NamesOption = True,
    fpir: Annotated[
        float, typer.Option(help="Share of strangers who may get a name of the store.")
    ] = 0.01,
    add: Annotated[
        str | None, typer.Option("--add", help="Enrol what is said, all of it, as this person.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Enrol in spite of doubts, without a question.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the turns here: .rttm, .srt, .json, .txt.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")] = False,
    backend: BackendOption = "auto",
) -> None:
    """Say who is speaking while they speak, until Ctrl-C or the end of the input.

    People of the store get their names.
    `ffmpeg -i call.mp3 -f wav - | speakervlad listen -` hears what another program sends.

    Example: speakervlad listen --store people.db
    """
    if list_devices:
        print_devices()
        return
    check_source(source, device, rate, encoding)
    form = None if out is None else form_of(out)
    from speakervlad.diarization.live import diarize_live
    from speakervlad.diarization.turns import save_turns

    embedder, people = encoder_and_people(
        store, encoder, names=names, adds=add is not None, backend=backend
    )
    # An empty store knows nobody, until somebody is added.
    is_asked = names and people is not None and (add is None or people.people())
    with opened(source, device, rate, encoding, channels) as sound:
        diarizer = diarize_live(
            embedder,
            sample_rate=sound.sample_rate,
            store=people if is_asked else None,
            fpir=fpir,
        )
        digest = hashlib.sha256()
        printer = Printer(diarizer, as_json=as_json)
        failure = hear(sound, diarizer, printer, digest)
    turns = diarizer.turns(out.stem if out else "live")
    printer.summary(turns)
    if out is not None and form is not None:
        save_turns(out, turns, form)
        notes.print(f"{out}: {counted(len(turns), 'turn')}")
    if add is not None and people is not None:
        enrol(people, add, diarizer, digest.hexdigest(), turns, yes=yes)
    if failure is not None:
        raise failure


def encoder_and_people(
    store: str | None, encoder: Path, *, names: bool, adds: bool, backend: str
) -> "tuple[Encoder, PeopleStore | None]":
    """The encoder, and the store that names speakers or to which somebody is added."""
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.people.people import encoder_for

    if not adds:
        return encoder_and_names(store, encoder, names=names, device="cpu", backend=backend)
    loaded = load_encoder(encoder_for(store, encoder), device="cpu", backend=backend)
    return loaded, open_people(store, loaded, create=True)


def check_source(
    source: str | None, device: str | None, rate: int | None, encoding: str | None
) -> None:
    """Refuse what does not go together.

    Raises:
        InputError: names it.
    """
    if source not in (None, "-"):
        raise InputError(
            f"{source}: `listen` hears a microphone, or standard input (-). Of a file, "
            "`speakervlad diarize` says who speaks when."
        )
    if source == "-" and device is not None:
        raise InputError("--device names a microphone; - reads standard input. Give one of them.")
    if source == "-" and sys.stdin.buffer.isatty():
        raise InputError(
            "-: nobody sends sound to standard input. `ffmpeg -i call.mp3 -f wav - | speakervlad "
            "listen -` does; without - the microphone is heard."
        )
    if source is None and (rate is not None or encoding is not None):
        raise InputError("--rate and --format are of raw samples from standard input: `listen -`.")


def form_of(out: Path) -> str:
    """The form of turns that a suffix means.

    Raises:
        InputError: none, or a path that cannot be written.
    """
    from speakervlad.diarization.turns import FORMS
    from speakervlad.files import check_writable

    forms = {form.suffix: name for name, form in FORMS.items()}
    if out.suffix.lower() not in forms:
        raise InputError(f"{out}: turns are written as {', '.join(forms)}. Take one of these.")
    check_writable(out)
    return forms[out.suffix.lower()]


def print_devices() -> None:
    """A line for each microphone."""
    from speakervlad.audio.microphone import devices

    found = devices()
    if not found:
        raise InputError("no microphone was found. Plug one in, or send sound: `listen -`.")
    for each in found:
        mark = "*" if each.is_default else " "
        console.print(f"{mark} {each.number:3d}  {each.name}  ({each.sample_rate} Hz)")


@contextmanager
def opened(
    source: str | None, device: str | None, rate: int | None, encoding: str | None, channels: int
) -> "Iterator[PipedSound]":
    """What is listened to."""
    from speakervlad.audio.pipe import PipedSound, piped

    if source == "-":
        yield piped(sys.stdin.buffer, sample_rate=rate, encoding=encoding, channels=channels)
        return
    from speakervlad.audio.microphone import Microphone

    with Microphone(device) as microphone:
        notes.print(f"listening to {microphone.name}; Ctrl-C ends")
        yield PipedSound(microphone.sample_rate, microphone.blocks())
        if microphone.num_lost:
            seconds = microphone.num_lost / microphone.sample_rate
            errors.print(f"{seconds:.1f} s were lost: this machine is too slow for this encoder")


def hear(
    sound: "PipedSound",
    diarizer: "LiveDiarizer",
    printer: "Printer",
    digest: Any,  # noqa: ANN401
) -> InputError | None:
    """Hear all of it, until its end or Ctrl-C.

    Returns:
        What stopped it too early, to be raised when what was heard is safe.
    """
    import numpy as np

    failure = None
    try:
        for block in until_interrupt(sound.blocks):
            digest.update(np.ascontiguousarray(block, "<f4").data)
            printer.say(diarizer.add(block))
            printer.meter(block)
    except InputError as error:
        failure = error
    printer.say(diarizer.finish())
    printer.clear()
    return failure


def until_interrupt(blocks: "Iterator[np.ndarray]") -> "Iterator[np.ndarray]":
    """The same, until Ctrl-C is pressed; pressed again, it ends the command as usual."""
    is_pressed = is_waiting = False
    usual = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        nonlocal is_pressed
        is_pressed = True
        signal.signal(signal.SIGINT, usual)
        if is_waiting:  # for a pipe, it may be for ever
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        while not is_pressed:
            is_waiting = True
            block = next(blocks, None)
            is_waiting = False
            if block is None:
                return
            yield block
    except KeyboardInterrupt:
        if not is_pressed:
            raise
    finally:
        signal.signal(signal.SIGINT, usual)


class Printer:
    """What the command prints: lines for people or programs, a meter on a terminal."""

    def __init__(self, diarizer: "LiveDiarizer", *, as_json: bool) -> None:
        self._diarizer = diarizer
        self._as_json = as_json
        self._speaker: str | None = None
        self._end = 0.0
        self._renamed: dict[str, str] = {}
        self._has_meter = notes.is_terminal and not notes.quiet

    def say(self, said: "list[Said]") -> None:
        """A line for every change of speaker; as JSON, for everything."""
        self._rename(self._diarizer.renamed)
        for each in said:
            if self._as_json:
                line = {"event": "speech", "start": round(each.start, 3),
                        "end": round(each.end, 3), "speaker": each.speaker,
                        "corrects": each.corrects}  # fmt: skip
                self._print(line if each.also is None else line | {"also": each.also})
                continue
            from speakervlad.diarization.live import PAUSE

            if each.speaker is None or (each.corrects and each.end - each.start < PAUSE):
                continue  # boundaries that moved a little
            goes_on = each.speaker == self._speaker and each.start <= self._end + 4 * PAUSE
            if each.corrects or not goes_on:
                self.clear()
                note = "  (correction)" if each.corrects else ""
                console.print(f"{clock(each.start, 1)}  {each.speaker}{note}")
            if not each.corrects or each.end >= self._end:
                self._speaker, self._end = each.speaker, each.end
        sys.stdout.flush()

    def _rename(self, renamed: dict[str, str]) -> None:
        """A line for each who got a name, or turned out to be another."""
        for speaker, now in renamed.items():
            if self._renamed.get(speaker) == now:
                continue
            if self._as_json:
                self._print({"event": "renamed", "speaker": speaker, "now": now})
            else:
                self.clear()
                console.print(f"{speaker} is {now}")
        self._renamed = renamed

    def meter(self, block: "np.ndarray") -> None:
        """Level, time and speaker in a line that is drawn again and again."""
        if not self._has_meter or not len(block):
            return
        level = 20 * math.log10(max(float(abs(block).max()), 1e-6))
        filled = round(METER_WIDTH * min(1.0, max(0.0, 1 - level / QUIETEST_DB)))
        bar = "#" * filled + "-" * (METER_WIDTH - filled)
        stream = self._diarizer.stream
        line = f"[{bar}] {clock(stream.seconds, 1)}  {shown(self._speaker or '')[:40]}"
        sys.stderr.write(f"\r{line}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the meter away."""
        if self._has_meter:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def summary(self, turns: "Turns") -> None:
        """Who spoke how long."""
        seconds = self._diarizer.stream.seconds
        if self._as_json:
            self._print({"event": "summary"} | json.loads(turns.to_json()))
            return
        notes.print(
            f"{seconds:.1f} s heard, {self._diarizer.stream.speech_seconds:.1f} s of speech"
        )
        for name, spoken in turns.speakers.items():
            console.print(f"{name}: {spoken:.1f} s")
        if not turns.turns:
            console.print("nobody spoke")

    def _print(self, line: dict) -> None:
        typer.echo(json.dumps(line, ensure_ascii=False))


def enrol(
    people: "PeopleStore", name: str, diarizer: "LiveDiarizer", digest: str, turns: "Turns",
    *, yes: bool,
) -> None:  # fmt: skip
    """Enrol all speech of a stream as a person's.

    Raises:
        InputError: too little was said, or a doubt that nobody takes away.
    """
    from speakervlad.audio.speech import check_spoken
    from speakervlad.people.doubts import Doubt, DoubtfulError
    from speakervlad.people.hearing import Heard

    stream = diarizer.stream
    check_spoken(stream.num_spoken, round(stream.seconds * 16000), "what was heard")
    heard = Heard("what was heard", digest, stream.sums, stream.speech_seconds)
    doubts = people.doubts(name, [heard])
    if len(turns.speakers) > 1:
        words = f"{len(turns.speakers)} voices: {', '.join(turns.speakers)}"
        doubts.append(Doubt("what was heard", words, 0.0))
    if doubts and not partial(confirmed, name)(doubts, yes=yes):
        raise DoubtfulError(name, doubts, "Nothing was stored.")
    people.enrol(name, [heard])
    notes.print(f"{name}: enrolled by {stream.speech_seconds:.1f} s of speech")
