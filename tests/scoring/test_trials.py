import gzip

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.lists import load_trials, save_trials
from speakervlad.scoring.trials import Trials

PAIRS = [("a/1.wav", "a/2.wav"), ("a/1.wav", "b/1.wav"), ("b/1.wav", "b/2.wav")]
IS_TARGET = [True, False, True]


def lines(template, words):
    return [
        template.format(label=words[target], enrol=enrol, test=test)
        for (enrol, test), target in zip(PAIRS, IS_TARGET, strict=True)
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{label} {enrol} {test}", ("0", "1")),
        ("{label}\t{enrol}\t{test}", ("0", "1")),
        ("{enrol} {test} {label}", ("nontarget", "target")),
        ("{enrol} {test} {label}", ("0", "1")),
        ("{enrol} {test} {label}", ("imp", "tgt")),
        ("{enrol}  {test}\t{label}", ("FALSE", "True")),
    ],
)
def test_recognises_labelled_lists(tmp_path, template, words, pack, ending):
    text = ending.join(lines(template, words)) + ending + ending
    path = tmp_path / "list.txt"
    path.write_bytes(pack(text.encode()))
    trials = load_trials(path)
    assert list(zip(trials.enrol_ids, trials.test_ids, strict=True)) == PAIRS
    assert trials.is_target is not None
    assert trials.is_target.tolist() == IS_TARGET


def test_blind_list_has_no_labels(tmp_path):
    path = tmp_path / "blind.txt"
    path.write_text("\n".join(f"{a} {b}" for a, b in PAIRS))
    trials = load_trials(path)
    assert trials.is_target is None
    assert list(zip(trials.enrol_ids, trials.test_ids, strict=True)) == PAIRS
    with pytest.raises(InputError, match="no labels"):
        trials.labels()


def test_nist_list_with_header(tmp_path):
    path = tmp_path / "trials.tsv"
    rows = [
        "modelid\tsegmentid\tside\ttargettrial",
        "1001\tx.sph\ta\ttrue",
        "1001\ty.sph\ta\tfalse",
    ]
    path.write_text("\n".join(rows))
    trials = load_trials(path)
    assert trials.enrol_ids.tolist() == ["1001", "1001"]
    assert trials.test_ids.tolist() == ["x.sph", "y.sph"]
    assert trials.labels().tolist() == [True, False]


def test_nist_sides_are_told_apart_only_where_both_occur(tmp_path):
    path = tmp_path / "trials.tsv"
    path.write_text("modelid\tsegmentid\tside\n1\tx\ta\n1\tx\tb\n")
    trials = load_trials(path)
    assert trials.test_ids.tolist() == ["x:a", "x:b"]
    assert trials.is_target is None


def test_names_with_spaces_survive_between_tabs(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1\tmy voice/1.wav\tmy voice/2.wav\n0\tmy voice/1.wav\tyours/1.wav\n")
    assert load_trials(path).enrol_ids.tolist() == ["my voice/1.wav"] * 2


def test_names_that_look_like_labels(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1 0 target\n1 1 nontarget\n")
    trials = load_trials(path)
    assert trials.enrol_ids.tolist() == ["1", "1"]
    assert trials.labels().tolist() == [True, False]


@pytest.mark.parametrize("is_target", [np.array(IS_TARGET), None], ids=["labelled", "blind"])
def test_write_and_read_again(tmp_path, is_target):
    trials = Trials.from_ids(*zip(*PAIRS, strict=True), is_target)
    save_trials(tmp_path / "list.txt", trials)
    again = load_trials(tmp_path / "list.txt")
    assert again.enrol_ids.tolist() == trials.enrol_ids.tolist()
    assert again.test_ids.tolist() == trials.test_ids.tolist()
    assert (again.is_target is None) == (is_target is None)
    assert is_target is None or again.labels().tolist() == IS_TARGET


def test_every_name_is_listed_once():
    trials = Trials.from_ids(*zip(*PAIRS, strict=True))
    assert trials.names.tolist() == ["a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav"]
    assert sorted(trials.enrol_names) == ["a/1.wav", "b/1.wav"]
    assert sorted(trials.test_names) == ["a/2.wav", "b/1.wav", "b/2.wav"]


def test_select_keeps_the_chosen_trials():
    trials = Trials.from_ids(*zip(*PAIRS, strict=True), np.array(IS_TARGET))
    chosen = trials.select(np.array([True, False, True]))
    assert list(zip(chosen.enrol_ids, chosen.test_ids, strict=True)) == [PAIRS[0], PAIRS[2]]
    assert chosen.labels().tolist() == [True, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"1 a b\n0 a c\n1 a\n", "line 3: 2 columns where line 1 has 3"),
        (b"1 a b\na c target\n0 a d\n", "line 2: the label 'a' is not 0/1"),
        (b"1 a b\n\nmaybe a c\n", "line 3: the label 'maybe'"),
        (b"a b target\na c 7\n", "line 2: the label '7'"),
        (b"a 1 b\na 0 c\n", "label stands between the names"),
        (b"a b c\n", "neither the first nor the last column is a label"),
        (b"1 a 0\n0 b 1\n", "both the first and the last column"),
        (b"a b 0.5 1\n", "make no trial list"),
        (b"1 a b\n0 a \xff\n", "line 2: not UTF-8"),
        (b"1 a b\n0 a c\0\n", r"line 2: not UTF-8 text \(byte 0x00\)"),
        (b"modelid\tsegmentid\n", "a header and no trial"),
        (b"modelid\ttest\n1\tx\n", "no 'segmentid' column"),
        (b"modelid\tsegmentid\tkey\n1\tx\tmaybe\n", "line 2: the label is not"),
        (gzip.compress(b"1 a b\n" * 50, mtime=0)[:-10], "damaged gzip"),
    ],
)
def test_bad_lists_are_named_by_line(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_trials(path)
    assert str(path) in str(caught.value)
