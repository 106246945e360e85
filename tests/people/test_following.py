"""The sequence of speakers that ``people.listen`` believes in, from cosines alone."""

import numpy as np
import pytest

from speakervlad.people.following import LONGEST, SAID, SHARPNESS, UNKNOWN, Follower, Window
from speakervlad.people.matching import Candidate

THRESHOLD = 0.5


def windows(count, **cosines):
    """``count`` windows that end now, with the same cosines."""
    nearest = sorted(cosines.items(), key=lambda each: -each[1])
    people = tuple(Candidate(name, cosine, None) for name, cosine in nearest)
    return [Window(people, THRESHOLD, 0.5 * number) for number in range(1, count + 1)]


def said(follower, hops, **cosines):
    found = [follower.hear(windows(LONGEST, **cosines), after_pause=False) for _ in range(hops)]
    return [each.name if each.is_sure else "?" for each in found]


def follower_of(**cosines):
    """One that has heard six hops."""
    follower = Follower()
    for count in range(1, LONGEST + 1):
        follower.hear(windows(count, **cosines), after_pause=count == 1)
    return follower


def test_the_nearest_above_the_threshold_speaks_and_otherwise_somebody_unknown():
    assert said(follower_of(ada=0.7, eva=0.4), 1, ada=0.7, eva=0.4) == ["ada"]
    assert said(follower_of(ada=0.45, eva=0.4), 1, ada=0.45, eva=0.4) == [None]
    assert said(follower_of(ada=0.7, eva=0.7), 1, ada=0.7, eva=0.7) == ["?"]


def test_who_spoke_last_goes_on_where_another_is_hardly_nearer():
    follower = follower_of(ada=0.7, eva=0.2)
    assert "eva" not in said(follower, 3, ada=0.6, eva=0.62)
    assert said(follower, 3, ada=0.3, eva=0.7)[-1] == "eva"


def test_who_spoke_in_the_call_is_expected_again():
    """Somewhat below the threshold somebody new is unknown, and somebody who spoke is named."""
    follower = follower_of(ada=0.7, eva=0.2)
    assert said(follower, 6, ada=0.0, eva=0.0)[-1] is None
    assert said(follower, 6, ada=0.53, eva=0.0)[-1] == "ada"
    assert said(follower_of(ada=0.0, eva=0.0), 6, ada=0.53, eva=0.0)[-1] != "ada"


def test_the_first_hop_is_bayes_rule():
    """Of one window: odds ``exp(SHARPNESS / 2 * above - UNKNOWN)``, half a second counting half."""
    needed = THRESHOLD + 2 / SHARPNESS * (UNKNOWN + np.log(SAID / (1 - SAID)))
    for cosine, is_sure in ((needed + 1e-3, True), (needed - 1e-3, False)):
        answer = Follower().hear(windows(1, ada=cosine), after_pause=True)
        assert (answer.name, answer.is_sure) == ("ada", is_sure)


def test_hours_do_not_overflow():
    follower = follower_of(ada=0.9)
    for number in range(20_000):
        answer = follower.hear(windows(LONGEST, ada=0.9), after_pause=number % 9 == 0)
    assert answer.is_sure
    assert answer.name == "ada"


def test_a_store_where_nobody_is_near_gives_somebody_unknown():
    answer = Follower().hear(windows(1), after_pause=True)
    assert answer.name is None
    assert answer.is_sure
    assert windows(1)[0].nearest("ada").score == pytest.approx(-1.0)
