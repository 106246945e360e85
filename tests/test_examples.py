"""The examples in docstrings run, and every public name of VLAD has one."""

import doctest
import inspect

import pytest

import speakervlad

NAMES = [
    "ActionVLAD",
    "GhostVLAD",
    "GlobalAveragePooling",
    "NetVLAD",
    "WeaklySupervisedRankingLoss",
    "vlad",
]


@pytest.mark.parametrize("name", NAMES)
def test_example_of_a_public_name(name):
    item = getattr(speakervlad, name)
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(item), {}, name, None, None)
    assert example.examples
    outcome = doctest.DocTestRunner().run(example)
    assert outcome.failed == 0
