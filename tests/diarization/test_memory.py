"""Whose the speech of a stream is, as it is known better."""

import numpy as np
import pytest

from speakervlad.diarization.memory import MOST, LiveSpeaker, Memory
from speakervlad.models.sums import unit

ONE, TWO = np.array([1.0, 0.1, 0.0]), np.array([0.1, 1.0, 0.0])


def directions(rows):
    """Vectors of sums that are directions already."""
    return unit(rows, 1e-12).astype(np.float32)


@pytest.fixture
def memory():
    return Memory(directions, alike=0.65)


@pytest.fixture
def speakers():
    return [LiveSpeaker(1, 3), LiveSpeaker(2, 3)]


def say(memory, speaker, row, times=3, start=0):
    """Utterances of 2 s that do not touch."""
    for number in range(times):
        begin = start + 100_000 * number
        memory.add(begin, begin + 32_000, (row, 2.0), speaker)


def test_what_is_nearer_to_another_speaker_becomes_theirs(memory, speakers):
    one, two = speakers
    say(memory, one, ONE)
    say(memory, two, TWO, start=10**6)
    memory.add(0, 32_000, (TWO, 2.0), one)
    assert one.voice[1] == 8
    assert memory.tidy(speakers) == []
    assert (one.voice[1], two.voice[1]) == (6, 8)
    np.testing.assert_allclose(one.voice[0], 3 * ONE)
    np.testing.assert_allclose(two.voice[0], 4 * TWO)


def test_what_was_nobodys_is_taken_by_whom_it_is_near(memory, speakers):
    one, two = speakers
    say(memory, one, ONE)
    say(memory, two, TWO, start=10**6)
    memory.add(0, 32_000, (ONE, 2.0), None)
    memory.add(0, 32_000, (np.array([0.1, 0.1, 1.0]), 2.0), None)
    memory.tidy(speakers)
    assert (one.voice[1], two.voice[1]) == (8, 6)


def test_speakers_who_are_alike_are_the_one_of_the_lower_number(memory, speakers):
    one, two = speakers
    say(memory, one, ONE)
    say(memory, two, ONE + 0.3 * TWO, start=10**6)
    assert memory.tidy(speakers) == [(two, one)]
    assert two.label == one.label == "speaker 1"
    assert two.now is one
    assert one.voice[1] == 12
    # From now on it is the other's speech.
    memory.add(0, 32_000, (TWO, 2.0), two.now)
    assert one.voice[1] == 14


def test_a_name_goes_with_its_speaker_and_two_names_are_two_people(memory, speakers):
    one, two = speakers
    say(memory, one, ONE)
    say(memory, two, ONE + 0.3 * TWO, start=10**6)
    one.name, two.name = "Alex", "Jo"
    assert memory.tidy(speakers) == []
    one.name = None
    memory.tidy(speakers)
    assert one.label == "Jo"


def test_a_speaker_of_whom_nothing_is_left_is_who_took_it(memory, speakers):
    one, two = speakers
    say(memory, one, ONE, times=4)
    say(memory, two, ONE, times=2, start=10**6)
    third = LiveSpeaker(3, 3)
    say(memory, third, np.array([0.1, 0.0, 1.0]), start=3 * 10**6)
    memory.add(0, 8000, (np.array([0.1, 0.0, 1.0]), 0.5), two)
    assert memory.tidy([*speakers, third]) == [(two, one)]
    assert two.label == "speaker 1"
    assert (one.voice[1], third.voice[1]) == (12, 6.5)


def test_a_little_speech_makes_nobody_the_same(memory, speakers):
    one, two = speakers
    say(memory, one, ONE)
    memory.add(0, 32_000, (ONE, 1.5), two)
    assert memory.tidy(speakers) == []


def test_its_size_is_bounded(memory, speakers):
    say(memory, speakers[0], ONE, times=2 * MOST)
    assert len(memory._lately) == MOST
    assert speakers[0].voice[1] == 4 * MOST


def test_cells_that_touch_are_one_utterance_until_it_is_long(memory, speakers):
    for number in range(30):
        memory.add(1600 * number, 1600 * (number + 1), (ONE, 0.1), speakers[0])
    assert [round(each.voice[1], 6) for each in memory._lately] == [2.0, 1.0]
