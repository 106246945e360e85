"""Any names: what is written is read back as it was, or nothing is written."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from speakervlad.errors import InputError
from speakervlad.scoring.lists import load_trials, save_trials
from speakervlad.scoring.scores import read_scores, save_scores
from speakervlad.scoring.trials import Trials

ODD = ["\t", " ", "\n", "\r", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\ufeff", "\0"]
WORDS = ["a", "1", "0", "target", "0.5", "nan", "modelid", "segmentid", "é", "\udc80", *ODD]
NAMES = st.one_of(st.text(max_size=8), st.lists(st.sampled_from(WORDS), max_size=4).map("".join))
PAIRS = st.lists(st.tuples(NAMES, NAMES, st.booleans()), min_size=1, max_size=5)
SETTINGS = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SPACES = [("my voice/1", "your voice/2", True), ("my voice/1", "c", False)]


def trials_of(pairs, labelled):
    enrol, test, labels = zip(*pairs, strict=True)
    return Trials.from_ids(enrol, test, np.array(labels) if labelled else None)


def round_trip(folder: Path, trials, write, read):
    path = folder / "list.txt"
    path.unlink(missing_ok=True)
    try:
        write(path)
    except InputError:
        assert not list(folder.iterdir())
        return False
    again = read(path)
    assert again.enrol_ids.tolist() == trials.enrol_ids.tolist()
    assert again.test_ids.tolist() == trials.test_ids.tolist()
    assert (again.is_target is None) == (trials.is_target is None)
    if trials.is_target is not None:
        assert again.labels().tolist() == trials.is_target.tolist()
    return True


@SETTINGS
@given(pairs=PAIRS, labelled=st.booleans())
@example(pairs=SPACES, labelled=True)
@example(pairs=SPACES, labelled=False)
@example(pairs=[("1 x", "y", True)], labelled=False)
@example(pairs=[("b", "target", True), ("c", "nontarget", False)], labelled=True)
def test_trial_lists(tmp_path, pairs, labelled):
    trials = trials_of(pairs, labelled)
    round_trip(tmp_path, trials, trials.write, load_trials)


@SETTINGS
@given(
    pairs=PAIRS,
    labelled=st.booleans(),
    form=st.sampled_from(["speakervlad", "kaldi", "voxsrc"]),
)
@example(pairs=SPACES, labelled=True, form="speakervlad")
def test_score_files(tmp_path, pairs, labelled, form):
    trials = trials_of(pairs, labelled and form == "speakervlad")
    scores = np.linspace(-1.25, 2.5, len(trials))
    round_trip(
        tmp_path,
        trials,
        lambda path: save_scores(path, trials, scores, form),
        lambda path: read_scores(path, form)[0],
    )


@pytest.mark.parametrize("space", [" ", "\xa0", "\u3000", "\u2028", "\x85", "\x1c"])
@pytest.mark.parametrize("labelled", [True, False])
def test_names_with_white_space_survive(tmp_path, space, labelled):
    pairs = [(f"a{space}b", f"c{space}d{space}e", True), (f"a{space}b", "f", False)]
    trials = trials_of(pairs, labelled)
    assert round_trip(tmp_path, trials, trials.write, load_trials)
    scores = np.array([0.5, 0.25])
    write = lambda path: save_scores(path, trials, scores)  # noqa: E731
    assert round_trip(tmp_path, trials, write, lambda path: read_scores(path)[0])


@pytest.mark.parametrize("name", ["a\tb", "a\nb", " a", "a ", "", "\udce4"])
def test_names_that_no_list_holds_are_refused_before_writing(tmp_path, name):
    trials = Trials.from_ids(["x", "x"], [name, "y"], np.array([True, False]))
    with pytest.raises(InputError, match="cannot hold these names"):
        save_trials(tmp_path / "list.txt", trials)
    with pytest.raises(InputError, match="cannot hold these names"):
        save_scores(tmp_path / "S.txt", trials, np.array([0.5, 0.25]))
    assert not list(tmp_path.iterdir())
