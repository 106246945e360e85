import json

import numpy as np
import pytest

from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import save_embeddings


@pytest.fixture
def corpus(tmp_path):
    """Embeddings of 4 speakers x 3 utterances and the list of all pairs."""
    rng = np.random.default_rng(1)
    voices = rng.normal(size=(4, 8))
    ids = [f"spk{speaker}/{n}.wav" for speaker in range(4) for n in range(3)]
    vectors = np.repeat(voices, 3, axis=0) + 0.3 * rng.normal(size=(12, 8))
    save_embeddings(tmp_path / "E.npz", Embeddings(np.array(ids), vectors))
    pairs = [(a, b) for index, a in enumerate(ids) for b in ids[:index]]
    lines = [f"{int(a[:4] == b[:4])} {a} {b}" for a, b in pairs]
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    return tmp_path


def test_score_then_metrics(run, corpus, capsys):
    scores = corpus / "S.txt"
    assert (
        run("score", corpus / "trials.txt", "--embeddings", corpus / "E.npz", "--out", scores) == 0
    )
    assert len(scores.read_text().splitlines()) == 66
    numbers, picture = corpus / "m.json", corpus / "det.png"
    assert run("metrics", scores, "--json-out", numbers, "--det", picture) == 0
    report = json.loads(numbers.read_text())
    assert (report["num_target"], report["num_nontarget"]) == (12, 54)
    assert report["eer"] < 0.1
    assert set(report["min_dcf"]) == {"0.01", "0.05"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "EER" in capsys.readouterr().out


def test_metrics_draws_histogram_and_bars(run, tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"s{i % 4}/{i}", f"s{(i + shift) % 4}/t{i}") for i in range(60) for shift in (0, 1)]
    labels = np.tile([1, 0], 60)
    scores = labels + 0.4 * rng.standard_normal(120)
    lines = [f"{a} {b} {s:.4f} {t}" for (a, b), s, t in zip(rows, scores, labels, strict=True)]
    (tmp_path / "S.txt").write_text("\n".join(lines) + "\n")
    names = sorted({name for row in rows for name in row})
    manifest = ["utterance_id,path,speaker,session,num_samples,room"]
    for number, name in enumerate(names):
        room = "hall" if int(name[1]) < 2 else "cell"
        manifest.append(f"{name},{name}.wav,{name[:2]},x{number},16000,{room}")
    (tmp_path / "m.csv").write_text("\n".join(manifest) + "\n")
    pictures = ("--histogram", tmp_path / "h.svg", "--bars", tmp_path / "b.png")
    options = ("--manifest", tmp_path / "m.csv", "--by", "room", "--resamples", "0")
    assert run("metrics", tmp_path / "S.txt", *options, *pictures) == 0
    assert "<svg" in (tmp_path / "h.svg").read_text()
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert run("metrics", tmp_path / "S.txt", "--bars", tmp_path / "b.png") == 2


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({}, ["metrics", "none.txt"], "none.txt: No such file or directory. Check the path, which"),
        ({}, ["metrics", "."], ".: is a folder. Name a file."),
        ({"S.txt": ""}, ["metrics", "S.txt"], "S.txt: is empty"),
        ({"S.txt": "a b 0.5 1\n"}, ["metrics", "S.txt"], "1 target and 0 non-target"),
        ({"S.txt": "a b 0.5\n"}, ["metrics", "S.txt"], "no labels"),
        ({"S.txt": "a b nan 1\na c 1 0\n"}, ["metrics", "S.txt"], "1 of 2 scores are NaN"),
        (
            {"T.txt": "1 spk0/0.wav x.wav\n0 y.wav z.wav\n"},
            ["score", "T.txt", "--embeddings", "E.npz", "--out", "out.txt"],
            "3 of 4 utterances have no embedding: x.wav, y.wav, z.wav",
        ),
        (
            {"S.txt": "a b 0.5 1\na c 0.1 0\n"},
            ["metrics", "S.txt", "--det", "out.bmp"],
            "unknown picture type",
        ),
        (
            {"S.txt": "a b 0.5 1\na c 0.1 0\n", "file": "x"},
            ["metrics", "S.txt", "--json-out", "file/out.json"],
            "cannot be written",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    run, corpus, monkeypatch, capsys, files, arguments, message
):
    monkeypatch.chdir(corpus)
    for name, content in files.items():
        (corpus / name).write_text(content)
    before = sorted(corpus.iterdir())
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(corpus.iterdir()) == before


@pytest.mark.parametrize("sign", [1, -1])
def test_reversed_scores_are_hinted_at(run, tmp_path, capsys, sign):
    rows = [f"a{n} b{n} {sign * (label + 0.3 * (n % 5))} {label}" for n in range(20)
            for label in (0, 1)]  # fmt: skip
    (tmp_path / "S.txt").write_text("\n".join(rows) + "\n")
    assert run("metrics", tmp_path / "S.txt", "--resamples", "0") == 0
    assert ("these scores look reversed" in capsys.readouterr().err) == (sign == -1)
