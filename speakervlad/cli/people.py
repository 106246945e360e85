"""The commands about who is enrolled: ``people ...`` and ``identify``."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import asked, console, counted, errors, notes
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    BackendOption,
    ChannelOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    PrecisionOption,
    SpeechOnlyOption,
)
from speakervlad.errors import InputError
from speakervlad.progress import track
from speakervlad.urls import called

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speakervlad.encoder.encoder import Encoder
    from speakervlad.people.doubts import Doubt
    from speakervlad.people.matching import Identification
    from speakervlad.people.people import PeopleStore
    from speakervlad.people.records import Person

StoreOption = Annotated[
    str | None,
    typer.Option(
        help="File of people, or postgresql:// URL; people.db in your data folder by default.",
        envvar="SPEAKERVLAD_STORE",
        show_envvar=True,
    ),
]
NamesOption = Annotated[
    bool, typer.Option("--names/--no-names", help="Whether people of the store get their names.")
]
NameArgument = Annotated[str, typer.Argument(help="Of the person.")]


def add(
    name: NameArgument,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Recordings or folders of that person.")
    ],
    store: StoreOption = None,
    note: Annotated[str, typer.Option(help="Kept with each recording.")] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Add recordings once more that are there already.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Enrol in spite of doubts, without a question.")
    ] = False,
    speech_only: SpeechOnlyOption = False,
    encoder: EncoderOption = DEFAULT_ENCODER,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
) -> None:
    """Enrol a person by recordings, or add recordings to one who is enrolled.

    A recording that sounds like somebody else, is unlike the person's others or has two voices is
    asked about; where no terminal can answer, it is an error. The store keeps sums of recordings,
    never audio: docs/privacy.md.

    Example: speakervlad people add "Ada Lovelace" ada1.wav ada2.wav
    """
    from speakervlad.audio.recording import Recording
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.people.people import encoder_for

    encoder = encoder_for(store, encoder)
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    with open_people(store, embedder, create=True) as people:
        done = people.add(
            name,
            [
                Recording(path, channel=channel, speech_only=speech_only)
                for path in find_files(inputs)
            ],
            note=note,
            again=again,
            confirm=partial(confirmed, name, yes=yes),
        )
    for known in done.known:
        notes.print(f"{known}: is there already, not added again (--again adds it)")
    for other in done.elsewhere:
        notes.print(f"a recording of {done.person.name} is enrolled as {other} too")
    console.print(describe_person(done.person.name, done.new, done.person))


def confirmed(name: str, doubts: "Sequence[Doubt]", *, yes: bool) -> bool:
    """Whether to enrol recordings all the same: as somebody at the terminal answers.

    Raises:
        DoubtfulError: nobody is there to answer.
    """
    from speakervlad.people.doubts import DoubtfulError

    if not yes and not (sys.stdin.isatty() and errors.is_terminal):
        raise DoubtfulError(name, doubts, "Listen to it; --yes enrols all the same.")
    for doubt in doubts:
        errors.print(f"{doubt}")
    return yes or asked(f"Enrol as {name} all the same?")


def list_people(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Everybody who is enrolled.

    Example: speakervlad people list
    """
    with open_people(store) as people:
        summaries = people.people()
    if as_json:
        console.print_json(json.dumps([each._asdict() for each in summaries]))
        return
    if not summaries:
        raise InputError("the store is empty. `speakervlad people add NAME FILE` enrols somebody.")
    width = max(len(each.name) for each in summaries)
    for each in summaries:
        recordings = counted(each.num_recordings, "recording")
        voices = counted(each.num_voices, "voice")
        console.print(
            f"{each.name:{width}}  {recordings:15}  {voices:9}  {each.seconds:8.1f} s  "
            f"{each.last_date[:10]}"
        )


def show(name: NameArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """What is stored of a person: each recording's seconds, date, voice, digest and note.

    Example: speakervlad people show "Ada Lovelace"
    """
    with open_people(store) as people:
        person = people.show(name)
    rows = [
        {"seconds": each.seconds, "date": each.date, "voice": each.voice, "digest": each.digest,
         "note": each.note}
        for each in person.recordings
    ]  # fmt: skip
    if as_json:
        console.print_json(json.dumps({"name": person.name, "recordings": rows}))
        return
    for row in rows:
        console.print(
            f"{row['date']}  {row['seconds']:8.1f} s  voice {row['voice'] + 1}  "
            f"{row['digest'][:12]}  {row['note']}".rstrip()
        )


def rename(
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="The new name.")],
    store: StoreOption = None,
) -> None:
    """Give a person another name.

    Example: speakervlad people rename Ada "Ada Lovelace"
    """
    with open_people(store) as people:
        people.rename(name, new)
    notes.print(f"{name} is called {new} now")


def recordings(
    name: NameArgument,
    store: StoreOption = None,
    as_json: JsonOption = False,
    encoder: EncoderOption = DEFAULT_ENCODER,
) -> None:
    """What is kept of a person: each recording's id, date, length, voice and likeness.

    Likeness is the cosine with the nearest other recording; a low one may be of somebody else.

    Example: speakervlad people recordings "Ada Lovelace"
    """
    with open_people(store, encoder) as people:
        kept = people.recordings(name)
    if as_json:
        console.print_json(json.dumps([each._asdict() for each in kept]))
        return
    for each in kept:
        alike = "" if each.likeness is None else f"{each.likeness:.2f}"
        console.print(
            f"{each.id}  {each.date}  {each.seconds:8.1f} s  voice {each.voice + 1}  "
            f"{alike:>5}  {each.note}".rstrip()
        )


def forget(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Of the people.")],
    recording: Annotated[
        list[str] | None,
        typer.Option(help="Remove this recording alone, by its id of `people recordings`."),
    ] = None,
    store: StoreOption = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
) -> None:
    """Remove people or a recording from the store, and every byte of them from its file.

    Example: speakervlad people forget "Ada Lovelace"
    """
    if recording and len(names) > 1:
        raise InputError("--recording removes recordings of one person. Name one.")
    with open_people(store, encoder) as people:
        if not recording:
            people.forget(names)
            notes.print(f"forgotten: {', '.join(names)}")
            return
        person = people.forget_recordings(names[0], recording)
    left = f"{counted(len(person.recordings), 'recording')} left"
    notes.print(f"{person.name}: forgotten: {', '.join(recording)}; {left}")


def export_people(
    out: Annotated[Path, typer.Argument(help="File to write (.safetensors).")],
    store: StoreOption = None,
) -> None:
    """Write everybody into one file that any language reads.

    Example: speakervlad people export people.safetensors
    """
    with open_people(store) as people:
        count = people.export(out)
    notes.print(f"{counted(count, 'person', 'people')}: {out}")


def import_people(
    file: Annotated[Path, typer.Argument(help="File that `people export` wrote.")],
    store: StoreOption = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
) -> None:
    """Add everybody of an exported file; what is there already is not added again.

    Example: speakervlad people import people.safetensors
    """
    with open_people(store, encoder, create=True) as people:
        num_people, num_recordings = people.import_(file)
    people_there = counted(num_people, "person", "people")
    new = f"{counted(num_recordings, 'new recording')} of " if num_recordings else ""
    notes.print(f"{new}{people_there}")


def cohort(
    embeddings: Annotated[Path, typer.Argument(help="Of people who will not be enrolled (.npz).")],
    manifest: Annotated[Path, typer.Option(help="Says who speaks in each of them.")],
    encoder: EncoderOption = DEFAULT_ENCODER,
    by: Annotated[
        str | None, typer.Option(help="Column to draw evenly by, such as corpus.")
    ] = None,
    size: Annotated[int, typer.Option(help="How many people at most.")] = 550,
) -> None:
    """Give an encoder impostors, from which `identify` takes its thresholds.

    Example: speakervlad people cohort E.npz --manifest train.csv
    """
    import numpy as np

    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.encoder.location import companion, find_encoder
    from speakervlad.people.cohort import COHORT_NAME, make_cohort
    from speakervlad.tables.interchange import load_embeddings
    from speakervlad.tables.manifest import load_manifest
    from speakervlad.tables.names import required_rows

    table, known = load_embeddings(embeddings), load_manifest(manifest)
    known = known.select(required_rows(known, table.ids))
    speakers = np.array(known.speakers.tolist())
    made = make_cohort(table, speakers, speakers if by is None else known.column(by), size)
    if made.encoder != load_encoder(encoder).fingerprint:
        raise InputError(f"{embeddings}: made by another encoder. Embed with --encoder {encoder}.")
    out = companion(find_encoder(encoder), COHORT_NAME)
    made.save(out)
    notes.print(f"{len(made.vectors)} impostors: {out}")


def identify(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Recordings, or folders of them.")
    ],
    store: StoreOption = None,
    fpir: Annotated[
        float, typer.Option(help="Share of recordings of others that may be given a name.")
    ] = 0.01,
    top: Annotated[int, typer.Option(min=1, help="How many people to name.")] = 3,
    as_json: JsonOption = False,
    speech_only: SpeechOnlyOption = False,
    encoder: EncoderOption = DEFAULT_ENCODER,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
) -> None:
    """Say whose voice each recording is: exit code 0 all known, 1 some unknown, 2 error.

    Example: speakervlad identify call.wav
    """
    from speakervlad.audio.recording import Recording
    from speakervlad.encoder.encoder import load_encoder

    files = find_files(inputs)
    from speakervlad.people.people import encoder_for

    encoder = encoder_for(store, encoder)
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    answers, failures = [], []
    with open_people(store, embedder) as people:
        people.threshold(fpir)
        for path in track(files, "identifying", len(files)):
            try:
                recording = Recording(path, channel=channel, speech_only=speech_only)
                (answer,) = people.identify([recording], fpir=fpir, top=top)
            except InputError as error:
                failures.append(error)
                errors.print(f"error: {error}")
                continue
            answers.append(answer)
            print_answer(path, answer, as_json=as_json)
    if answers and not as_json:
        notes.print(
            f"a name from a cosine of {answers[-1].threshold:.2f} on: that gives {fpir:.1%} of "
            "strangers a name with the people of this store; `verify` has another threshold"
        )
    if failures:
        raise typer.Exit(2)
    raise typer.Exit(0 if all(answer.name for answer in answers) else 1)


def open_people(
    store: str | None,
    encoder: "Path | Encoder" = DEFAULT_ENCODER,
    *,
    create: bool = False,
) -> "PeopleStore":
    """The store that an option names."""
    from speakervlad.people.people import PeopleStore

    return PeopleStore(store, encoder, create=create)


def encoder_and_names(
    store: str | None, encoder: Path, *, names: bool, **runtime: str
) -> "tuple[Encoder, PeopleStore | None]":
    """An encoder, and the people whose names speakers get; None for no names.

    The user's own store is used where none is named, if this encoder made it and somebody is there.

    Args:
        store: as it is named, or None.
        encoder: as ``load_encoder`` takes it.
        names: whether any are wanted.
        runtime: device, precision and backend for ``load_encoder``.

    Raises:
        InputError: the encoder or the store that is named is not there, or of no use.
    """
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.people.people import encoder_for
    from speakervlad.people.stores import default_path

    if not names or (store is None and not default_path().is_file()):
        return load_encoder(encoder, **runtime), None
    loaded = load_encoder(encoder_for(store, encoder), **runtime)
    people = open_people(store, loaded)
    if store is not None:
        return loaded, people
    made_by = people.store.header().encoder
    if made_by not in (None, loaded.fingerprint):
        notes.print(f"{default_path()}: was made by another encoder: nobody gets a name of it")
    elif people.people():
        return loaded, people
    people.close()
    return loaded, None


def find_files(inputs: list[Path]) -> list[Path]:
    """Audio files, and those below folders.

    Raises:
        InputError: something is missing.
    """
    from speakervlad.corpus.inputs import from_folder
    from speakervlad.urls import is_remote

    files = []
    for path in inputs:
        if not path.exists() and not is_remote(path):
            raise InputError(f"{path}: no such file or folder. Check the path.")
        files += from_folder(path).paths if path.is_dir() else [path]
    return files


def describe_person(name: str, new: int, person: "Person") -> str:
    """What is stored of somebody, in a line."""
    seconds = sum(each.seconds for each in person.recordings)
    voices = len(person.voices)
    apart = "" if voices == 1 else f", {voices} voices far apart"
    added = counted(new, "recording")
    return f"{name}: {added} added, {len(person.recordings)} in all, {seconds:.1f} s{apart}"


def print_answer(path: Path, answer: "Identification", *, as_json: bool) -> None:
    """One line for one recording, or one JSON object."""
    mixture = answer.mixture
    if as_json:
        values = answer._asdict() | {
            "file": called(path),
            "candidates": [each._asdict() for each in answer.candidates],
            "mixture": None if mixture is None else asdict(mixture),
        }
        console.print(json.dumps(values))
        return
    people = ", ".join(
        f"{each.name} {each.score:.2f}"
        + ("" if each.probability is None else f" ({each.probability:.1%})")
        for each in answer.candidates
    )
    name = answer.name or "unknown"
    console.print(f"{called(path)}  {name}  [{people}; from {answer.threshold:.2f} on]")
    if mixture is not None:
        errors.print(f"{called(path)}: {mixture.words}: `diarize --store` names each of them")
