"""Who speaks when, while they speak."""

import math

import numpy as np
import pytest

from speakervlad import PeopleStore, diarization_errors, examples, load_audio, load_encoder
from speakervlad.diarization.diarize import known_by
from speakervlad.diarization.live import CORRECTED_SECONDS, LiveDiarizer
from speakervlad.diarization.turns import Turn, Turns

RATE = 16000
ORDER = ("alex-1", "jo-1", "alex-2", "jo-2", "alex-3")


@pytest.fixture(scope="module")
def small():
    return load_encoder("small")


@pytest.fixture(scope="module")
def two():
    """Two people in turn, and who speaks when."""
    parts, turns, at = [], [], 0.0
    for name in ORDER:
        said = load_audio(examples()[name])
        turns.append(Turn(at, at + len(said) / RATE, name.split("-")[0]))
        parts += [said, np.zeros(RATE // 5, np.float32)]
        at += len(said) / RATE + 0.2
    return np.concatenate(parts), Turns("live", tuple(turns))


def moments(said):
    """The hundredths of a second that lie within."""
    return range(math.ceil(said.start * 100), math.ceil(said.end * 100))


def latest(said):
    """Who was said last to speak at every moment, and who else."""
    return {moment: (each.speaker, each.also) for each in said for moment in moments(each)}


def test_two_people_are_told_apart_and_keep_their_numbers(small, two, in_pieces):
    samples, reference = two
    diarizer = LiveDiarizer(small.frames, small.stream())
    said = in_pieces(diarizer, samples)
    turns = diarizer.turns()
    assert list(turns.speakers) == ["speaker 1", "speaker 2"]
    errors = diarization_errors(reference, turns)
    assert errors.confusion < 0.12 * sum(reference.speakers.values())
    # What was said last of every moment is what the turns say.
    last = latest(said)
    for moment, (speaker, also) in last.items():
        at = moment / 100
        speaking = {turn.speaker for turn in turns.turns if turn[0] <= at <= turn[1]}
        assert {speaker, also} - {None} <= speaking
    assert len([each for each in last.values() if each[0]]) > 100 * 0.65 * sum(
        reference.speakers.values()
    )


def test_only_the_last_seconds_are_corrected(small, two):
    samples, _ = two
    diarizer = LiveDiarizer(small.frames, small.stream())
    seen = {}
    for start in range(0, len(samples), 1600):
        for each in diarizer.add(samples[start : start + 1600]):
            before = [seen.get(moment, (None, None))[0] for moment in moments(each)]
            assert each.corrects == any(before)
            assert each.start >= start / RATE - CORRECTED_SECONDS
            seen |= latest([each])
    assert seen


def test_how_samples_are_cut_changes_nothing(small, two, in_pieces):
    samples = two[0][: 12 * RATE]
    whole = LiveDiarizer(small.frames, small.stream())
    cut = LiveDiarizer(small.frames, small.stream())
    assert in_pieces(whole, samples, 10**9) == in_pieces(cut, samples, 333)
    assert whole.turns() == cut.turns()


def test_people_of_a_store_get_their_names(small, two, tmp_path, in_pieces):
    samples, _ = two
    with PeopleStore(tmp_path / "people.db", small) as people:
        people.add("Jo", [examples()["jo-2"]])
        known = lambda vectors: known_by(people, 0.01, vectors)  # noqa: E731
        diarizer = LiveDiarizer(small.frames, small.stream(), known)
        in_pieces(diarizer, samples)
    assert set(diarizer.turns().speakers) == {"speaker 1", "Jo"}
    diarizer.call("speaker 1", "Alex")
    assert diarizer.renamed == {"speaker 1": "Alex"}


def test_a_speaker_who_is_another_has_its_number_from_the_beginning_on(small, two, in_pieces):
    samples, _ = two
    alone = np.concatenate([load_audio(examples()[f"alex-{number}"]) for number in (1, 2, 3)])
    diarizer = LiveDiarizer(small.frames, small.stream(), alike=-1.0)
    said = in_pieces(diarizer, np.concatenate([samples, alone]))
    assert {each.speaker for each in said} - {None} >= {"speaker 1", "speaker 2"}
    assert diarizer.renamed["speaker 2"] == "speaker 1"
    assert list(diarizer.turns().speakers) == ["speaker 1"]
    assert diarizer.heard_of("speaker 2")[1] == diarizer.heard_of("speaker 1")[1]


def test_silence_has_no_turns(small, in_pieces):
    diarizer = LiveDiarizer(small.frames, small.stream(8000))
    assert in_pieces(diarizer, np.zeros(8000 * 3, np.int16), 160) == []
    assert diarizer.turns() == Turns("live", (), 3.0)


def test_no_more_speakers_than_there_may_be(small, two, in_pieces):
    samples = two[0][: 14 * RATE]
    diarizer = LiveDiarizer(small.frames, small.stream(), max_speakers=1)
    in_pieces(diarizer, samples)
    assert list(diarizer.turns().speakers) == ["speaker 1"]


def test_less_than_a_millisecond_of_a_cell_is_no_turn(small, two, in_pieces):
    samples, _ = two
    diarizer = LiveDiarizer(small.frames, small.stream())
    in_pieces(diarizer, samples[: 5 * RATE])
    before = diarizer.turns()
    _, speaker = diarizer._done[-1]
    diarizer._done.append((Turn(4.0001, 4.0003, ""), speaker))
    assert diarizer.turns() == before
