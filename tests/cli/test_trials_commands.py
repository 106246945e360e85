import numpy as np
import pytest

from speakervlad.tables.manifest import Manifest, save_manifest


@pytest.fixture
def corpus(tmp_path):
    rows = [(speaker, session, n) for speaker in range(6) for session in "xy" for n in range(2)]
    ids = [f"{speaker}/{session}/{n}" for speaker, session, n in rows]
    for name in ids:
        file = tmp_path / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    manifest = Manifest.of(
        tmp_path,
        utterance_ids=ids,
        paths=[f"{name}.wav" for name in ids],
        speakers=[f"spk{speaker}" for speaker, _, _ in rows],
        sessions=[f"{speaker}{session}" for speaker, session, _ in rows],
        num_samples=np.full(len(rows), 16_000),
        extra={"corpus": ["a" if speaker < 3 else "b" for speaker, _, _ in rows]},
    )
    save_manifest(tmp_path / "corpus.csv", manifest)
    save_manifest(tmp_path / "train.csv", manifest.select(np.arange(4)))
    return tmp_path


def test_make_then_check(run, corpus, capsys):
    listed, manifest = corpus / "list.txt", corpus / "corpus.csv"
    made = run("trials", "make", manifest, "--out", listed, "--match", "corpus", "--per-speaker", 3)
    assert made == 0
    assert len(listed.read_text().splitlines()) == 2 * 6 * 3
    assert run("trials", "check", listed, "--manifest", manifest) == 0
    out = capsys.readouterr().out
    assert "36: 18 target, 18 non-target" in out
    assert "speakers    6" in out


def test_check_finds_leaks_with_exit_code_1(run, corpus, capsys):
    listed = corpus / "list.txt"
    listed.write_text("1 0/x/0.wav 0/y/0.wav\n0 0/x/0.wav 1/y/0.wav\n")
    arguments = ["--manifest", corpus / "corpus.csv", "--train", corpus / "train.csv"]
    assert run("trials", "check", listed, *arguments) == 1
    out = capsys.readouterr().out
    assert "problem: 1 of 2 speakers are in the training set: spk0" in out
    assert "problem: 2 recordings are in the training set" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trials", "check", "none.txt"], "none.txt: No such file"),
        (
            ["trials", "make", "corpus.csv", "--out", "l.txt", "--match", "gender"],
            "no column 'gender'",
        ),
        (["trials", "make", "corpus.csv", "--out", "l.txt", "--per-speaker", "0"], "at least 1"),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, corpus, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(corpus)
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (corpus / "l.txt").exists()
