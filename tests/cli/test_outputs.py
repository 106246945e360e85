"""Wherever a command writes a file, a pipe, a link or ``-`` may stand, and results stay alone."""

import fcntl
import json
import os
import sys

import numpy as np
import pytest
import soundfile

from speakervlad.scoring.lists import load_trials, save_trials
from speakervlad.scoring.scores import read_scores, save_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes with names, as on Linux")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_waveform, save_tiny_encoder):
    folder, rng = tmp_path_factory.mktemp("outputs"), np.random.default_rng(4)
    ids = [f"s{speaker}/{n}.wav" for speaker in range(4) for n in range(2)]
    pairs = [(a, b) for a in ids for b in ids if a < b]
    is_target = np.array([a[:2] == b[:2] for a, b in pairs])
    trials = Trials.from_ids(*zip(*pairs, strict=True), is_target)
    save_trials(folder / "list.txt", trials)
    for name in "AB":
        save_scores(folder / f"{name}.txt", trials, rng.normal(size=len(pairs)) + is_target)
    save_embeddings(folder / "E.npz", Embeddings(np.array(ids), rng.normal(size=(8, 8))))
    rows = [f"{name[:-4]},{name},{name[:2]},{name},16000" for name in ids]
    heading = "utterance_id,path,speaker,session,num_samples"
    (folder / "m.csv").write_text("\n".join([heading, *rows]) + "\n")
    (folder / "wav" / "s").mkdir(parents=True)
    for seed in range(2):
        soundfile.write(folder / "wav" / "s" / f"{seed}.wav", make_waveform(0.5, seed), 16000)
    (folder / "wav" / "s" / "bad.wav").write_text("text")
    save_tiny_encoder(folder / "encoder")
    return folder


EMBED = ["embed", "wav", "--encoder", "encoder", "--max-bad", "50%"]
SCORE = ["score", "list.txt", "--embeddings", "E.npz", "--out"]
METRICS = ["metrics", "A.txt", "--resamples", 0]
# The output, and how a command is told of it.
TEXTS = {
    "S.txt": SCORE,
    "K.txt": ["convert-scores", "A.txt"],
    "F.txt": ["fuse", "A.txt", "--calibration", "one.json", "--out"],
    "c.json": ["calibrate", "A.txt", "B.txt", "--out"],
    "r.html": ["report", "A.txt", "--resamples", 0, "--out"],
    "made.txt": ["trials", "make", "m.csv", "--out"],
    "made.csv": ["prepare", "wav", "--max-bad", "50%"],
    "bad.csv": [*EMBED, "--out", "good.npz", "--bad-list"],
}
FILES = {
    "n.json": [*METRICS, "--json-out"],
    "d.png": [*METRICS, "--det"],
    "h.svg": [*METRICS, "--histogram"],
    "C.npz": ["convert-embeddings", "E.npz"],
    "C.ark": ["convert-embeddings", "E.npz"],
    "C.scp": ["convert-embeddings", "E.npz"],
    "C.parquet": ["convert-embeddings", "E.npz"],
    "V.npz": [*EMBED, "--out"],
}


@pytest.fixture(autouse=True)
def calibration(folder, monkeypatch, run):
    monkeypatch.chdir(folder)
    if not (folder / "one.json").exists():
        assert run("calibrate", "A.txt", "--out", "one.json") == 0


@pytest.mark.parametrize(("name", "words"), (TEXTS | FILES).items())
def test_a_pipe_and_a_link_get_what_a_file_gets(run, folder, tmp_path, name, words):
    links, pipes = tmp_path / "links", tmp_path / "pipes"
    for made in (links, pipes, tmp_path / "far"):
        made.mkdir()
    (links / name).symlink_to("../far/target")
    os.mkfifo(pipes / name)
    reader = os.open(pipes / name, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 2**20)
    assert run(*words, links / name) == 0
    assert run(*words, pipes / name) == 0
    piped = os.read(reader, 2**20)
    os.close(reader)
    assert (links / name).is_symlink()
    assert (pipes / name).is_fifo()
    written = (tmp_path / "far" / "target").read_bytes()
    assert len(piped) > 0
    assert piped == written or name in ("C.npz", "V.npz", "h.svg", "made.csv")
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["target"]
    if name == "V.npz":
        assert len(load_embeddings(links / name).ids) == 2


@pytest.mark.parametrize(("name", "words"), TEXTS.items())
def test_standard_output_holds_the_text_alone(run, folder, capfd, name, words):
    assert run(*words, name) == 0
    assert capfd.readouterr().out == ""
    assert run(*words, "-") == 0
    assert capfd.readouterr().out == (folder / name).read_text()
    assert not (folder / "-").exists()


def test_numbers_on_standard_output_stand_alone(run, capfd):
    for words in (["--json"], ["--json-out", "-"]):
        assert run(*METRICS, *words) == 0
        assert 0 <= json.loads(capfd.readouterr().out)["eer"] <= 1


def test_the_switch_that_was_an_option_is_taken_and_told(run, folder, capfd):
    for words in (["--json", "old.json"], ["--json=old.json"], ["--json", "-"]):
        assert run(*METRICS, *words) == 0
        shown = capfd.readouterr()
        assert "--json FILE is --json-out FILE now" in shown.err
        numbers = shown.out if words[-1] == "-" else (folder / "old.json").read_text()
        assert 0 <= json.loads(numbers)["eer"] <= 1
        (folder / "old.json").unlink(missing_ok=True)


@pytest.mark.parametrize("quiet", [["--quiet"], []])
def test_quiet_leaves_results_and_errors(run, folder, capfd, quiet):
    assert run(*SCORE, "S.txt", *quiet) == 0
    assert ("28 trials scored: S.txt" in capfd.readouterr().err) == (not quiet)
    assert run(*quiet, *METRICS) == 0
    shown = capfd.readouterr()
    assert "EER" in shown.out
    assert run("metrics", "absent.txt", *quiet) == 2
    assert "absent.txt" in capfd.readouterr().err
    assert len(read_scores("S.txt")[0]) == len(load_trials("list.txt"))


def test_what_cannot_go_to_a_pipe_is_one_line(run, capfd):
    for words in (["convert-embeddings", "E.npz", "-"], [*EMBED, "--out", "-"]):
        assert run(*words) == 2
        assert capfd.readouterr().err.count("\n") == 1
