"""The commands of scores and lists where no extra is installed: they work, or name the extra."""

import sys

import numpy as np
import pytest

from speakervlad.scoring.lists import save_trials
from speakervlad.scoring.scores import save_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import save_embeddings

EXTRAS = ["torch", "scipy", "sklearn", "matplotlib", "matplotlib.figure", "pyarrow", "kaldiio"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for module in EXTRAS:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    ids = [f"s{speaker}/{n}.wav" for speaker in range(6) for n in range(3)]
    pairs = [(a, b) for a in ids for b in ids if a < b]
    is_target = np.array([a[:2] == b[:2] for a, b in pairs])
    trials = Trials.from_ids(*zip(*pairs, strict=True), is_target)
    save_trials("list.txt", trials)
    for name in "AB":
        save_scores(f"{name}.txt", trials, rng.normal(size=len(pairs)) + is_target)
    save_embeddings("E.npz", Embeddings(np.array(ids), rng.normal(size=(18, 8))))
    rows = [f"{name[:-4]},{name},{name[:2]},{name},16000" for name in ids]
    heading = "utterance_id,path,speaker,session,num_samples"
    (tmp_path / "m.csv").write_text("\n".join([heading, *rows]) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "list.txt", "--embeddings", "E.npz", "--out", "S.txt"],
        ["metrics", "A.txt", "--resamples", 5],
        ["compare", "A.txt", "B.txt", "--resamples", 5],
        ["calibrate", "A.txt", "B.txt", "--out", "c.json"],
        ["convert-scores", "A.txt", "K.txt", "--format", "voxsrc"],
        ["convert-embeddings", "E.npz", "E.ark"],
        ["convert-embeddings", "E.npz", "E.scp"],
        ["trials", "make", "m.csv", "--out", "made.txt"],
    ],
)
def test_works(run, folder, arguments):
    assert run(*arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["metrics", "A.txt", "--det", "d.png"], "plots"),
        (["metrics", "A.txt", "--histogram", "h.png"], "plots"),
        (["report", "A.txt", "--out", "r.html"], "plots"),
        (["convert-embeddings", "E.npz", "E.parquet"], "interchange"),
    ],
)
def test_names_the_extra_in_one_line(run, folder, capsys, arguments, extra):
    assert run(*arguments) == 2
    said = capsys.readouterr().err.strip()
    assert f"pip install 'speakervlad[{extra}]'" in said
    assert "\n" not in said
