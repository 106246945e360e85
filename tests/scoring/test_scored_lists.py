import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.align import align, with_labels
from speakervlad.scoring.judge import judge
from speakervlad.scoring.scores import save_scores
from speakervlad.scoring.speakers import speakers_if_known
from speakervlad.scoring.systems import load_scores, load_systems
from speakervlad.scoring.trials import Trials


@pytest.fixture
def key():
    enrol, test = ["a/1", "a/1", "b/1", "a/1"], ["a/2", "b/1", "b/2", "a/2"]
    return Trials.from_ids(enrol, test, np.array([1, 0, 1, 1]))


def test_labels_come_from_the_key_whatever_order_and_spelling(key):
    scored = Trials.from_ids(["/w/b/1.wav", "/w/a/1.wav"], ["/w/b/2.wav", "/w/b/1.wav"])
    assert with_labels(scored, key).labels().tolist() == [True, False]


def test_trials_outside_the_key_are_counted(key):
    scored = Trials.from_ids(["b/1", "b/2", "a/1"], ["a/2", "z", "a/2"])
    with pytest.raises(InputError, match="2 of 3 scored trials are not in the trial list: b/1 a/2"):
        with_labels(scored, key)


def test_arrays_are_in_the_order_of_the_key(tmp_path, key):
    np.save(tmp_path / "s.npy", np.arange(4.0))
    trials, scores = load_scores(tmp_path / "s.npy", key)
    assert trials is key
    assert scores.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="Give the trial list with --trials"):
        load_scores(tmp_path / "s.npy")
    np.save(tmp_path / "short.npy", np.arange(3.0))
    with pytest.raises(InputError, match=r"shape \(3,\) for 4 trials"):
        load_scores(tmp_path / "short.npy", key)


def test_a_score_file_without_labels_and_a_key(tmp_path, key):
    save_scores(tmp_path / "S.txt", Trials(key.names, key.enrol, key.test), np.arange(4.0))
    trials, _ = load_scores(tmp_path / "S.txt", key)
    assert trials.labels().tolist() == key.labels().tolist()


def test_systems_are_brought_into_one_order(key):
    order = np.array([2, 0, 3, 1])
    second = Trials.from_ids(key.enrol_ids[order], key.test_ids[order], key.labels()[order])
    scores = np.array([5.0, 6.0, 7.0, 5.0])
    trials, columns = align([(key, scores), (second, scores[order])])
    assert trials is key
    np.testing.assert_array_equal(columns, np.column_stack([scores, scores]))


def test_systems_on_other_trials_are_refused(key):
    other = Trials.from_ids(["a/1", "a/1", "b/1", "x"], ["a/2", "b/1", "b/2", "a/2"])
    with pytest.raises(InputError, match="score files 2, 3 hold other trials"):
        align([(key, np.zeros(4)), (other, np.zeros(4)), (key.select(np.arange(3)), np.zeros(3))])


def test_systems_with_other_labels_are_refused(key):
    order = np.array([2, 0, 3, 1])
    labels = np.array([True, True, True, True])
    second = Trials.from_ids(key.enrol_ids[order], key.test_ids[order], labels)
    blind = Trials(key.names, key.enrol, key.test)
    systems = [(blind, np.zeros(4)), (key, np.zeros(4)), (second, np.zeros(4))]
    with pytest.raises(InputError, match=r"files 2 and 3 disagree about 1 of 4 .* of a/1 b/1\."):
        align(systems)
    assert align([*systems[:2], systems[0]])[1].shape == (4, 3)


def test_labels_that_give_way_are_counted(tmp_path, key, caplog):
    path = tmp_path / "S.txt"
    save_scores(path, key, np.arange(4.0))
    load_scores(path, key)
    assert not caplog.text
    other = Trials(key.names, key.enrol, key.test, np.array([True, True, True, True]))
    save_scores(path, other, np.arange(4.0))
    trials, _ = load_scores(path, key)
    assert trials.labels().tolist() == key.labels().tolist()
    assert f"{path}: 1 of 4 labels differ from those of the trial list" in caplog.text


def test_intervals_only_where_speakers_are_known(rng):
    names = [f"{speaker}/{n}" for speaker in range(8) for n in range(4)]
    pairs = [(a, b) for a in names for b in names if a < b]
    is_target = np.array([a[0] == b[0] for a, b in pairs])
    scores = rng.normal(size=len(pairs)) + is_target
    trials = Trials.from_ids(*zip(*pairs, strict=True), is_target)
    assert judge(trials, scores, num_resamples=20).intervals
    assert not judge(trials, scores, num_resamples=0).intervals
    renamed = Trials(np.array([f"u{n}" for n in range(32)]), trials.enrol, trials.test, is_target)
    assert speakers_if_known(renamed, None) is None
    assert not judge(renamed, scores, num_resamples=20).intervals
    few = trials.select(np.flatnonzero((trials.enrol < 16) & (trials.test < 16)))
    assert speakers_if_known(few, None) is None


def test_a_score_file_of_half_the_list(tmp_path, key, caplog):
    """On 0.1.0 the half that was there was judged without a word."""
    half = key.select(np.array([0, 2]))
    save_scores(tmp_path / "S.txt", half, np.array([0.5, 0.25]))
    expected = r"S\.txt: 1 of 4 trials of the list have no score: a/1 b/1\. .* --partial"
    with pytest.raises(InputError, match=expected):
        load_scores(tmp_path / "S.txt", key)
    trials, _ = load_scores(tmp_path / "S.txt", key, partial=True)
    assert trials.labels().tolist() == [True, True]
    assert "1 of 4 trials of the list have no score" in caplog.text


@pytest.mark.parametrize(
    "scores",
    [
        np.zeros(4, dtype=[("score", "f4")]),
        np.array(["0.1", "0.2", "0.3", "0.4"]),
        np.zeros(4, complex),
        np.zeros(4, "datetime64[s]"),
        np.zeros(4, bool),
        np.array([0, 1, 2, None], dtype=object),
    ],
    ids=lambda scores: str(scores.dtype),
)
def test_arrays_of_other_types_are_no_scores(tmp_path, key, scores):
    np.save(tmp_path / "s.npy", scores, allow_pickle=True)
    with pytest.raises(InputError, match=r"s\.npy: "):
        load_scores(tmp_path / "s.npy", key)


def test_systems_are_named_by_their_files_or_by_hand(tmp_path, key):
    for name in ("a", "x/a", "b"):
        save_scores(tmp_path / f"{name}.txt", key, np.arange(4.0))
    a, other_a, b = (tmp_path / f"{name}.txt" for name in ("a", "x/a", "b"))
    assert list(load_systems([a, b])[1]) == ["a", "b"]
    assert list(load_systems([f"one={a}", b])[1]) == ["one", "b"]
    assert list(load_systems([a, other_a])[1]) == [str(a), str(other_a)]
    assert len(load_systems([a, a])[1]) == 2
