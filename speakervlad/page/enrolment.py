"""Who is enrolled, and whose voice a recording is, as the page asks for it."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from speakervlad.audio.recording import Recording
from speakervlad.audio.remarks import heard_by
from speakervlad.errors import InputError
from speakervlad.page.answers import Desk, heard
from speakervlad.page.uploads import Form, Upload
from speakervlad.people.records import check_name
from speakervlad.sound import SAMPLE_RATE
from speakervlad.texts import parse_json

# Of somebody's turns, the longest first; more hardly changes a voice.
MAX_TURN_SECONDS = 180
TOP = 5


def people(desk: Desk) -> dict:
    """Everybody who is enrolled, and where."""
    summaries = [summary._asdict() for summary in desk.people.people()]
    return {"people": summaries, "where": str(desk.people.store.where)}


def add(desk: Desk, form: Form) -> dict:
    """Enrol recordings of a person, or some turns of one recording.

    Raises:
        DoubtfulError: something speaks against it, and the form does not say that it is sure.
    """
    name = check_name(form.text("name"))
    uploads = form.all("recording")
    if "spans" in form.texts:
        upload = form.file("recording")
        recordings = [turns_of(upload, form.make(), read_spans(form.text("spans")))]
    else:
        recordings = [upload.recording() for upload in uploads]
    is_sure = form.text("sure", "") == "yes"
    added = desk.people.add(name, recordings, confirm=lambda _: is_sure)
    notes = [f"{upload.name}: {note}" for upload in uploads for note in dict.fromkeys(upload.notes)]
    return {"name": added.person.name, "new": added.new, "known": added.known,
            "elsewhere": added.elsewhere, "notes": notes}  # fmt: skip


def rename(desk: Desk, form: Form) -> dict:
    """Give a person another name."""
    desk.people.rename(form.text("name"), form.text("new"))
    return people(desk)


def forget(desk: Desk, form: Form) -> dict:
    """Remove a person, and every byte of them."""
    desk.people.forget([form.text("name")])
    return people(desk)


def recordings(desk: Desk, form: Form) -> dict:
    """What is kept of a person."""
    kept = desk.people.recordings(form.text("name"))
    return {"recordings": [each._asdict() for each in kept], "apart": desk.people.apart}


def forget_recording(desk: Desk, form: Form) -> dict:
    """Remove one recording of a person, and every byte of it."""
    desk.people.forget_recordings(form.text("name"), [form.text("recording")])
    return recordings(desk, form)


def identify(desk: Desk, form: Form) -> dict:
    """Whose voices some recordings are; of those that cannot be used, why.

    Raises:
        InputError: no recording can be used.
    """
    rate, answers, failures = form.number("fpir"), [], []
    desk.people.threshold(rate)
    for upload in form.all("recording"):
        try:
            answers.append(identified(desk, upload, rate))
        except InputError as error:
            failures.append(error)
            answers.append({"name": upload.name, "error": upload.shown(error)})
    if len(failures) == len(answers):
        raise failures[0]
    return {"recordings": answers}


def identified(desk: Desk, upload: Upload, rate: float) -> dict:
    """Whose voice one recording is.

    Raises:
        InputError: it cannot be used.
    """
    recording = upload.recording()
    (answer,) = desk.people.identify([recording], fpir=rate, top=TOP)
    found = answer._asdict() | heard(recording, upload.notes)
    found["candidates"] = [candidate._asdict() for candidate in answer.candidates]
    found["mixture"] = None if answer.mixture is None else asdict(answer.mixture)
    if answer.mixture is not None:
        found["notes"].append(f"{answer.mixture.words}: ask for the speakers of a conversation")
    return found | {"identified": answer.name, "seconds": recording.seconds}


def read_spans(text: str) -> list[tuple[float, float]]:
    """``[[begin, end], ...]`` in seconds.

    Raises:
        InputError: the text is something else.
    """
    try:
        spans = [(float(begin), float(end)) for begin, end in parse_json(text)]
    except (ValueError, TypeError) as error:
        raise InputError(f"spans: not a list of begins and ends ({error}).") from error
    if not spans or not all(0 <= begin < end < math.inf for begin, end in spans):
        raise InputError("spans: each begins at 0 s or later and ends after that. Give one.")
    return spans


def turns_of(upload: Upload, decoded: Path, spans: list[tuple[float, float]]) -> Recording:
    """Some spans of a recording, the longest ones where they are many.

    Args:
        upload: the recording.
        decoded: an empty file for its samples.
        spans: begins and ends in seconds.
    """
    whole = upload.decoded(decoded)
    with heard_by(upload.notes.append), whole.named():
        wave = Recording(whole.path).whole
    kept, seconds = [], 0.0
    for begin, end in sorted(spans, key=lambda span: span[0] - span[1]):
        if seconds < MAX_TURN_SECONDS:
            kept.append((begin, min(end, begin + MAX_TURN_SECONDS - seconds)))
            seconds += kept[-1][1] - begin
    cuts = np.rint(np.array(sorted(kept)) * SAMPLE_RATE).astype(int).clip(0, wave.num_samples)
    parts = [wave.read(start, stop) for start, stop in cuts.tolist() if start < stop]
    if not parts:
        raise InputError(f"{upload.name}: ends before these turns begin.")
    return Recording(np.concatenate(parts), name=upload.name)
