"""``calibrate-encoder``: an encoder learns where to decide, and ``verify`` decides there."""

import json
import shutil
from itertools import combinations

import pytest
import soundfile

from speakervlad.cli.evaluation import decision_threshold as find_threshold
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.location import find_encoder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_waveform):
    """Two recordings each of eight voices, and two trial lists."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed in range(8):
        waveform = make_waveform(2.4, seed=seed)
        for side, half in enumerate((waveform[:19200], waveform[19200:])):
            soundfile.write(folder / f"{seed}-{side}.wav", half, 16000)
    names = sorted(path.name for path in folder.glob("*.wav"))
    trials = [f"{a} {b} {int(a[0] == b[0])}\n" for a, b in combinations(names, 2)]
    (folder / "all.trials").write_text("".join(trials))
    (folder / "some.trials").write_text("".join(trials[:40]))
    return folder


@pytest.fixture
def exported(tmp_path):
    """A file that `export` wrote, alone in a folder."""
    (tmp_path / "alone").mkdir()
    return shutil.copy(find_encoder("small") / "model.onnx", tmp_path / "alone" / "e.onnx")


def learn(run, corpus, encoder, *more):
    return run("calibrate-encoder", encoder, corpus / "all.trials", corpus / "some.trials", *more)


def test_a_copy_of_the_encoder_that_ships_decides_as_it_learnt(run, capsys, corpus, tmp_path):
    out = tmp_path / "mine"
    assert learn(run, corpus, "default", "--out", out) == 0
    shown = capsys.readouterr()
    assert "2 lists, 10 target and 150 impostor trials" in shown.out
    assert "with fewer than 100 of one kind" in shown.err
    mine, shipped = load_encoder(out), load_encoder()
    assert mine.fingerprint == shipped.fingerprint
    assert f"threshold   {mine.threshold():.4f} at the equal error rate" in shown.out
    assert mine.threshold() != shipped.threshold()
    assert mine.rule().threshold != shipped.rule().threshold
    assert sorted(mine.thresholds.eer_by_list) == ["all", "some"]
    tones = {"any_sound": True}
    assert mine.verify(corpus / "0-0.wav", corpus / "0-1.wav", **tones).same
    assert not mine.verify(corpus / "0-0.wav", corpus / "5-1.wav", far=0.02, **tones).same
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_exported_file_learns_in_the_files_beside_it(run, corpus, exported):
    assert load_encoder(exported).calibration is None
    assert learn(run, corpus, exported, "--root", corpus) == 0
    assert load_encoder(exported).calibration.num_nontarget == 150
    # Again: what was there gives way.
    assert run("calibrate-encoder", exported, corpus / "all.trials") == 0
    assert load_encoder(exported).calibration.num_nontarget == 112
    assert find_threshold(None, exported, 0.1) == load_encoder(exported).threshold(0.1)
    names = {path.name for path in exported.parent.iterdir()}
    assert names == {"e.onnx", "thresholds.json", "calibration.json"}


def test_python_and_shell_say_the_same(run, capsys, corpus, exported):
    learn(run, corpus, exported)
    capsys.readouterr()
    pair = corpus / "1-0.wav", corpus / "2-1.wav"
    run("verify", *pair, "--encoder", exported, "--far", 0.03, "--json", "--any-sound")
    shown = json.loads(capsys.readouterr().out)
    answer = load_encoder(exported).verify(*pair, far=0.03, any_sound=True)
    assert shown["score"] == pytest.approx(answer.score, abs=1e-6)
    assert (shown["same"], shown["threshold"]) == (answer.same, answer.threshold)
    assert shown["rule"] == answer.rule


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["default", "all.trials"], "ships with the package, which stays as it is. Give --out"),
        (["default", "all.trials", "--out", "all.trials"], "all.trials: is there already"),
        (["default", "all.trials", "--out", "."], "is there already"),
        (["default", "all.trials", "all.trials", "--out", "new"], "have the same name"),
        (["default", "blind.trials", "--out", "new"], "label"),
        (["default", "one.trials", "--out", "new"], "needs both classes"),
        (["default", "all.trials", "--root", "nowhere", "--out", "new"], "Name their folder"),
    ],
)
def test_what_cannot_be_learnt_from_leaves_nothing(
    run, capsys, corpus, monkeypatch, arguments, words
):
    monkeypatch.chdir(corpus)
    (corpus / "blind.trials").write_text("0-0.wav 0-1.wav\n")
    (corpus / "one.trials").write_text("0-0.wav 0-1.wav 1\n")
    before = {path.name for path in corpus.iterdir()}
    assert run("calibrate-encoder", *arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert not shown.out
    assert {path.name for path in corpus.iterdir()} == before


def test_a_full_disk_leaves_what_was_there(run, capsys, corpus, exported, full_disk):
    learn(run, corpus, exported)
    files = {path.name: path.read_bytes() for path in exported.parent.iterdir()}
    with full_disk(100):
        assert run("calibrate-encoder", exported, corpus / "all.trials") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in exported.parent.iterdir()} == files
