"""Every command that takes an encoder takes one of another toolkit."""

import json
from itertools import combinations

import numpy as np
import pytest

from speakervlad import load_encoder
from speakervlad.audio.examples import copy_examples
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings


@pytest.fixture(scope="module")
def encoder(others, tmp_path_factory):
    """A WeSpeaker file with random weights."""
    return others.export_like(others.Residual(), tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture
def folder(tmp_path, monkeypatch, encoder):
    """The working folder: recordings in ``clips``, a trial list, and the encoder."""
    monkeypatch.chdir(tmp_path)
    copy_examples(tmp_path / "clips")
    names = sorted(path.name for path in (tmp_path / "clips").glob("*.opus"))
    lines = [f"{a} {b} {int(a[:3] == b[:3])}\n" for a, b in combinations(names, 2)]
    (tmp_path / "clips/all.trials").write_text("".join(lines))
    (tmp_path / "net.onnx").write_bytes(encoder.read_bytes())
    return tmp_path


def test_adopt_writes_a_folder_with_the_same_embeddings(run, folder, capsys):
    assert run("adopt", "net.onnx", "--out", "mine") == 0
    assert "wespeaker, 24 dimensions" in capsys.readouterr().err
    one, other = load_encoder("net.onnx"), load_encoder("mine")
    samples = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    assert np.array_equal(one.embed(samples), other.embed(samples))
    assert one.fingerprint == other.fingerprint
    assert run("adopt", "net.onnx", "--out", "mine") == 2
    assert "is there already" in capsys.readouterr().err


def test_adopt_asks_for_what_the_file_does_not_say(run, folder, others, capsys):
    others.export_like(others.Residual(), folder / "odd.onnx", ("x", "y"))
    assert run("adopt", "odd.onnx", "--out", "odd") == 2
    assert "'x' and gives 'y'" in capsys.readouterr().err
    mine = ("adopt", "odd.onnx", "--framework", "other", "--out", "odd")
    assert run(*mine, "--window", "povey") == 2
    said = capsys.readouterr().err
    assert "--samples unit or int16" in said
    assert "--normalise time_mean" in said
    told = ("--samples", "int16", "--window", "hamming", "--normalise", "time_mean")
    assert run(*mine, *told) == 0
    samples = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    cosine = load_encoder("odd").embed(samples) @ load_encoder("net.onnx").embed(samples)
    assert cosine > 0.99999
    assert run("adopt", "odd.onnx", "--framework", "wespeaker", "--out", "b", "--num-mels", 40) == 2
    assert "takes 80 features" in capsys.readouterr().err
    assert not (folder / "b").exists()


def test_info_names_the_toolkit(run, folder, capsys):
    assert run("info", "net.onnx") == 0
    assert "toolkit     wespeaker" in capsys.readouterr().out


def test_embed_score_and_verify(run, folder, capsys):
    assert run("embed", "clips", "--encoder", "net.onnx", "--out", "E.npz") == 0
    table = load_embeddings("E.npz")
    assert table.encoder == load_encoder("net.onnx").fingerprint
    assert table.dim == 24
    assert run("score", "clips/all.trials", "--embeddings", "E.npz", "--out", "S.txt") == 0
    capsys.readouterr()
    pair = ("clips/alex-1.opus", "clips/kim-1.opus", "--encoder", "net.onnx")
    assert run("verify", *pair) == 2
    assert "calibrate-encoder" in capsys.readouterr().err
    assert run("verify", *pair, "--threshold", "0.99999999") in (0, 1)


def test_calibrated_it_decides(run, folder, capsys):
    assert run("calibrate-encoder", "net.onnx", "clips/all.trials") == 0
    assert load_encoder("net.onnx").calibration is not None
    pair = ("clips/alex-1.opus", "clips/alex-2.opus", "--encoder", "net.onnx")
    assert run("verify", *pair, "--json") in (0, 1)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["threshold"] is not None
    assert run("calibrate-encoder", "net.onnx", "clips/all.trials", "--out", "copy") == 0
    assert load_encoder("copy/net.onnx").thresholds is not None


def test_a_copy_takes_along_what_describes_it(run, folder, others):
    pytest.importorskip("yaml")
    others.export_like(others.Residual(), folder / "odd.onnx", ("x", "y"))
    others.write_yaml(folder / "odd.yaml", {"framework": "3d-speaker"})
    assert run("calibrate-encoder", "odd.onnx", "clips/all.trials", "--out", "copy") == 0
    assert load_encoder("copy/odd.onnx").fingerprint == load_encoder("odd.onnx").fingerprint
    assert run("adopt", "odd.onnx", "--out", "folder") == 0
    assert run("calibrate-encoder", "folder", "clips/all.trials", "--out", "copied") == 0
    assert load_encoder("copied").fingerprint == load_encoder("folder").fingerprint


def test_people_and_conversations(run, folder, capsys):
    mine = ("--encoder", "net.onnx")
    store = ("--store", "people.db", *mine)
    clips = ("clips/alex-1.opus", "clips/alex-2.opus")
    assert run("people", "add", "Alex", *clips, *store, "--yes") == 0
    strangers = [f"s{number}" for number in range(120)]
    vectors = np.random.default_rng(0).standard_normal((120, 24))
    save_embeddings("E.npz", Embeddings(strangers, vectors, load_encoder("net.onnx").fingerprint))
    rows = "".join(f"{name},{name}.wav,{name},s,9999\n" for name in strangers)
    (folder / "M.csv").write_text(f"utterance_id,path,speaker,session,num_samples\n{rows}")
    assert run("people", "cohort", "E.npz", "--manifest", "M.csv", *mine) == 0
    capsys.readouterr()
    asked = ("--json", "--top", 1, "--fpir", "0.3")
    assert run("identify", "clips/alex-1.opus", *store, *asked) in (0, 1)
    (answer,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert answer["candidates"][0]["score"] > 0.9
    assert run("diarize", "clips/alex-1.opus", *mine, "--out", "turns") == 0
    assert len(list((folder / "turns").iterdir())) == 1


def test_explain_says_that_it_needs_frames(run, folder, capsys):
    assert run("explain", "clips/alex-1.opus", "--encoder", "net.onnx", "--out", "x.png") == 2
    assert "one vector a recording, and no frames" in capsys.readouterr().err
    assert not (folder / "x.png").exists()


def test_what_is_wrong_with_a_network_is_said(run, folder, others, capsys):
    others.export_like(others.Residual(), folder / "odd.onnx", ("x", "y"))
    for options, problem in (
        (("--piece-seconds", 0), "piece_seconds=0: must be 2 to 3600."),
        (("--framework", "wespeaker", "--piece-seconds", 1), "adopt: piece_seconds=1: must be"),
        (("--framework", "wespaker"), "Did you mean 'wespeaker'"),
        (("--framework", "wespeaker", "--num-mels", 40), "Adopt it with --num-mels 80"),
    ):
        name = "net.onnx" if "--framework" not in options else "odd.onnx"
        assert run("adopt", name, "--out", "made", *options) == 2
        assert problem in " ".join(capsys.readouterr().err.split())
    assert not (folder / "made").exists()


@pytest.mark.parametrize("name", ["someone/ecapa", "https://host/net.onnx", "hf://someone/ecapa"])
def test_encoders_of_elsewhere_are_not_downloaded(run, folder, name, capsys):
    assert run("embed", "clips", "--encoder", name, "--out", "E.npz") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no such encoder" in said
    assert "Encoders are not downloaded: fetch it" in said
    assert run("embed", "clips", "--encoder", "clips/none.onnx", "--out", "E.npz") == 2
    assert "not downloaded" not in capsys.readouterr().err
    assert not (folder / "E.npz").exists()
