import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.scores import read_scores, save_scores
from speakervlad.scoring.trials import Trials


@pytest.mark.parametrize("is_target", [np.array([True, False]), None], ids=["labelled", "blind"])
def test_float32_scores_survive_the_file(tmp_path, rng, is_target):
    trials = Trials.from_ids(["a", "a"], ["b", "c"], is_target)
    scores = rng.normal(size=2).astype(np.float32)
    save_scores(tmp_path / "S.txt", trials, scores)
    again, values = read_scores(tmp_path / "S.txt")
    assert values.astype(np.float32).tolist() == scores.tolist()
    assert again.enrol_ids.tolist() == ["a", "a"]
    assert (again.is_target is None) == (is_target is None)


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("a b 0.25", None),
        ("0.25 a b", None),
        ("a b 0.25 1", True),
        ("a b 0.25 nontarget", False),
        ("a b 1 0.25", True),
        ("a b target 0.25", True),
        ("a b 0.25 target 11.5 12.5 0.1 0.2", True),
        ("12013 77 0.25", None),
    ],
)
def test_recognises_other_toolkits_files(tmp_path, line, label):
    path = tmp_path / "scores.txt"
    path.write_text(line + "\n")
    trials, values = read_scores(path)
    assert values.tolist() == [0.25]
    assert (None if trials.is_target is None else trials.is_target[0]) == label
    assert len(trials.names) == 2


def test_reads_nist_submissions(tmp_path):
    path = tmp_path / "scores.tsv"
    path.write_text("modelid\tsegmentid\tside\tLLR\n1001\tx.sph\ta\t-1.5\n1001\ty.sph\ta\t2\n")
    trials, values = read_scores(path)
    assert values.tolist() == [-1.5, 2]
    assert trials.test_ids.tolist() == ["x.sph", "y.sph"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b 0.1 1\na c nan 0\na d inf 0\n", r"2 of 3 scores .*: line 2 \(a c nan 0\), line 3"),
        ("a b 0.1 1\na c high 0\n", "line 2: 'high' is no score"),
        ("a b 0.1 1\na c 0.2 yes\n", "line 2: 'yes' is no label"),
        ("a b\n", "no score file"),
        ("modelid\tsegmentid\tLLR\n1\tx\tnan\n", r"line 2 \(1 x nan\)"),
        ("modelid\tsegmentid\tside\n1\tx\ta\n", "no LLR column"),
        ("1 a b\n0 a c\n", "a trial list, not a score file"),
        ("a b 1\na c 0\n", "a trial list, not a score file"),
        ("", "is empty"),
    ],
)
def test_bad_scores_are_named(tmp_path, content, message):
    path = tmp_path / "S.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_scores(path)


def test_other_number_of_scores_is_refused(tmp_path):
    with pytest.raises(InputError, match="3 scores for 1 trials"):
        save_scores(tmp_path / "S.txt", Trials.from_ids(["a"], ["b"]), np.zeros(3))
    assert not list(tmp_path.iterdir())


def test_forms_of_other_toolkits_rank_alike(tmp_path, rng):
    trials = Trials.from_ids("aab", "bcd", np.array([1, 0, 1]))
    scores = np.array([-3.5, 0.25, 7.0])
    for form in ("kaldi", "voxsrc"):
        save_scores(tmp_path / "S.txt", trials, scores, form)
        again, values = read_scores(tmp_path / "S.txt")
        assert again.is_target is None
        assert again.test_ids.tolist() == ["b", "c", "d"]
        assert np.argsort(values).tolist() == [0, 1, 2]
    assert values.tolist() == pytest.approx([0, 3.75 / 10.5, 1])
    with pytest.raises(InputError, match="Did you mean 'voxsrc'"):
        save_scores(tmp_path / "S.txt", trials, scores, "voxsrk")


@pytest.mark.parametrize(
    ("text", "form", "score"),
    [
        ("0.53 1001 2002\n-0.2 1001 2003\n", None, [0.53, -0.2]),
        ("1001 2002 0.53\n1001 2003 -0.2\n", None, [0.53, -0.2]),
        ("3 1001 2002\n-2 1001 2003\n", "voxsrc", [3, -2]),
        ("1001 2002 3\n1001 2003 -2\n", "speakervlad", [3, -2]),
        ("0.5 1001 2.5\n0.25 1001 3.5\n", "kaldi", [2.5, 3.5]),
        ("1001 2002 1 0\n1001 2003 0 0\n", "3d-speaker", [0, 0]),
        ("1001 2002 1 0\n1001 2003 0 0\n", "speakervlad", [1, 0]),
    ],
)
def test_numeric_names(tmp_path, text, form, score):
    """On 0.1.0 `0.53 1001 2002` was score 2002 of the trial 0.53 1001."""
    (tmp_path / "S.txt").write_text(text)
    trials, values = read_scores(tmp_path / "S.txt", form)
    assert values.tolist() == score
    assert set(trials.names) == {"1001", "2002", "2003"} or "1001" in trials.names


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("3 1001 2002\n-2 1001 2003\n", "--source-format speakervlad or --source-format voxsrc"),
        ("0.5 1001 2.5\n0.25 1001 3.5\n", "--source-format speakervlad or --source-format voxsrc"),
        (
            "1001 2002 1 0\n1001 2003 0 0\n",
            "--source-format speakervlad or --source-format 3d-speaker",
        ),
    ],
)
def test_ambiguous_forms_are_asked_about(tmp_path, text, forms):
    (tmp_path / "S.txt").write_text(text)
    with pytest.raises(InputError, match=f"line 1: can be read in two ways.*{forms}"):
        read_scores(tmp_path / "S.txt")


def test_a_form_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "S.txt").write_text("a b 0.5\n")
    with pytest.raises(InputError, match="no score file"):
        read_scores(tmp_path / "S.txt", "voxsrc")
    with pytest.raises(InputError, match="Did you mean 'voxsrc'"):
        read_scores(tmp_path / "S.txt", "voxsrk")
