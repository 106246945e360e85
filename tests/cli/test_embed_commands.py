"""``embed`` and ``verify`` beyond the plain chain: precision, windows, what is refused."""

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from speakervlad.cli.console import audio_bar
from speakervlad.errors import InputError
from speakervlad.schema import Part
from speakervlad.tables.interchange import load_embeddings


@pytest.fixture(scope="module")
def encoder(save_tiny_encoder, short_trunk, tmp_path_factory):
    return save_tiny_encoder(
        tmp_path_factory.mktemp("model") / "encoder",
        front_end=Part("log_mel", num_mels=40, normalise="time_mean"),
        trunk=short_trunk,
    )


@pytest.fixture
def folder(make_wav, tmp_path):
    for name, seconds in (("a", 2.0), ("b", 3.1), ("c", 0.4)):
        make_wav(tmp_path / f"audio/{name}.wav", seconds, seed=ord(name))
    return tmp_path / "audio"


def test_last_line_tells_the_speed(run, capsys, encoder, folder, tmp_path):
    assert run("embed", folder, "--encoder", encoder, "--out", tmp_path / "e.npz") == 0
    noted = capsys.readouterr().err
    assert "3 embeddings of 12 dimensions" in noted
    assert "files/s" in noted
    assert "x real time" in noted


def test_bar_shows_the_speed(monkeypatch):
    shown = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("speakervlad.cli.console.notes", shown)
    items = [SimpleNamespace(seconds=2.0), InputError("damaged")]
    assert list(audio_bar(items, "embedding", 2)) == items
    for words in ("2/2", "files/s", "x real time"):
        assert words in shown.file.getvalue()


def test_windows_are_named_by_their_span(run, encoder, folder, tmp_path):
    out = tmp_path / "e.npz"
    assert (
        run("embed", folder, "--encoder", encoder, "--out", out, "--window", 1, "--hop", 0.5) == 0
    )
    embeddings = load_embeddings(out)
    assert embeddings.ids[:3].tolist() == [
        "a.wav@0.000-1.000",
        "a.wav@0.500-1.500",
        "a.wav@1.000-2.000",
    ]
    assert embeddings.ids[-1] == "c.wav@0.000-0.400"
    with np.load(out) as arrays:
        named = [name.rpartition("@")[2].split("-") for name in arrays["ids"].tolist()]
        np.testing.assert_allclose(arrays["starts"], [float(a) for a, _ in named], atol=5e-4)
        np.testing.assert_allclose(arrays["ends"], [float(b) for _, b in named], atol=5e-4)
        np.testing.assert_array_equal(embeddings.spans[:, 1], arrays["ends"])
    np.testing.assert_allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-5)


def test_bfloat16_is_near(run, encoder, folder, tmp_path):
    for precision in ("float32", "bfloat16"):
        out = tmp_path / f"{precision}.npz"
        arguments = ("--encoder", encoder, "--out", out, "--precision", precision)
        assert run("embed", folder, *arguments) == 0
    one, other = (load_embeddings(tmp_path / f"{p}.npz") for p in ("float32", "bfloat16"))
    assert (np.einsum("nd,nd->n", one.vectors, other.vectors) > 0.999).all()
    assert not np.array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hop", 1), "--hop goes with --window"),
        (("--window", 0.01), "windows last 0.2 s"),
        (("--precision", "float16"), "precision=float16"),
    ],
)
def test_bad_options_end_in_one_line(run, capsys, encoder, folder, tmp_path, options, words):
    out = tmp_path / "e.npz"
    assert run("embed", folder, "--encoder", encoder, "--out", out, *options) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
    assert not out.exists()


def test_another_kind_of_file_is_refused_before_the_work(run, capsys, encoder, folder, tmp_path):
    out = tmp_path / "new" / "E.txt"
    assert run("embed", folder, "--encoder", encoder, "--out", out) == 2
    assert "E.txt: embeddings are written as .npz" in capsys.readouterr().err
    assert not out.parent.exists()


NO_TORCH = """
import sys
sys.modules["torch"] = None
sys.modules["onnx"] = None
sys.argv = ["speakervlad", *sys.argv[1:]]
from speakervlad.cli import main
main()
"""


def without_torch(*arguments):
    command = [sys.executable, "-c", NO_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_exported_encoder_runs_without_torch(run, encoder, folder, tmp_path):
    model = tmp_path / "e.onnx"
    assert run("export", encoder, model) == 0
    for source, name in ((encoder, "torch"), (model, "onnx")):
        out = tmp_path / f"{name}.npz"
        assert run("embed", folder, "--encoder", source, "--out", out) == 0
    out = tmp_path / "bare.npz"
    done = without_torch("embed", folder, "--encoder", model, "--out", out)
    assert done.returncode == 0, done.stderr
    theirs, ours, bare = (
        load_embeddings(tmp_path / f"{name}.npz").vectors for name in ("torch", "onnx", "bare")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_array_equal(bare, ours)
    pair = (folder / "a.wav", folder / "b.wav", "--encoder", model, "--threshold=-1")
    done = without_torch("verify", *pair, "--any-sound")
    assert done.returncode == 0, done.stderr
    assert "same speaker" in done.stdout


def test_export_refuses_another_suffix(run, capsys, encoder, tmp_path):
    assert run("export", encoder, tmp_path / "e.bin") == 2
    assert "name it .onnx" in capsys.readouterr().err


def test_int8_export_says_what_it_costs(run, capsys, encoder, folder, tmp_path):
    trials = folder / "list.trials"
    trials.write_text("1 a.wav a.wav\n1 b.wav b.wav\n0 a.wav b.wav\n0 b.wav c.wav\n")
    model = tmp_path / "e.onnx"
    assert run("export", encoder, model, "--int8", folder, "--trials", trials) == 0
    shown = capsys.readouterr()
    assert "away from torch" in shown.err
    out = " ".join(shown.out.split())
    assert "list.trials: EER 0.000% in float32, 0.000% in int8" in out
    assert run("embed", folder, "--encoder", model, "--out", tmp_path / "e.npz") == 0


def test_trials_without_int8_are_refused(run, capsys, encoder, tmp_path):
    assert run("export", encoder, tmp_path / "e.onnx", "--trials", tmp_path / "l.trials") == 2
    assert "--trials goes with --int8" in capsys.readouterr().err


def test_files_with_names_that_are_not_of_audio_are_looked_into(tmp_path, make_wav):
    from speakervlad.cli.embed import find_recordings

    content = make_wav(tmp_path / "a.wav").read_bytes()
    names = [tmp_path / name for name in ("a.mov", "a.MP2", "a.recording", "a")]
    for path in names:
        path.write_bytes(content)
        assert find_recordings([path], None).paths == [path]
    assert find_recordings([*names, tmp_path / "a.wav"], None).paths == [
        *names,
        tmp_path / "a.wav",
    ]
    (tmp_path / "list.txt").write_text("1 a.wav a.mov\n")
    assert sorted(find_recordings([tmp_path / "list.txt"], None).ids) == ["a.mov", "a.wav"]
    with pytest.raises(InputError, match="give one manifest"):
        find_recordings([tmp_path / "list.txt", names[0]], None)


@pytest.fixture
def partly_bad(folder):
    (folder / "d.wav").write_text("no audio")
    return folder


def test_bad_recordings_are_tolerated_listed_and_tried_again(
    run, capsys, encoder, partly_bad, make_wav, tmp_path
):
    command = ("embed", partly_bad, "--encoder", encoder, "--out", tmp_path / "e.npz")
    assert run(*command) == 2
    listed = tmp_path / "bad.csv"
    assert run(*command, "--max-bad", "20%", "--bad-list", listed) == 2
    assert "1 of 4 files cannot be used, more than 20.00% (--max-bad): d.wav" in (
        capsys.readouterr().err
    )
    assert listed.read_text().count("d.wav") >= 1
    assert not (tmp_path / "e.npz").exists()
    assert run(*command, "--max-bad", "0.25") == 0
    assert load_embeddings(tmp_path / "e.npz").ids.tolist() == ["a.wav", "b.wav", "c.wav"]
    assert list(tmp_path.glob("*.parts")) == []
    make_wav(partly_bad / "d.wav", 1.0)
    assert run(*command) == 0
    assert len(load_embeddings(tmp_path / "e.npz")) == 4


def test_embeddings_know_their_encoder(run, capsys, encoder, folder, tmp_path, save_tiny_encoder):
    other = save_tiny_encoder(tmp_path / "other", seed=3)
    for name, where in (("e", encoder), ("f", other)):
        assert run("embed", folder, "--encoder", where, "--out", tmp_path / f"{name}.npz") == 0
    one, two = (load_embeddings(tmp_path / f"{name}.npz").encoder for name in "ef")
    assert None not in (one, two)
    assert one != two
    (tmp_path / "t.txt").write_text("1 a.wav b.wav\n0 a.wav c.wav\n")
    score = ("score", tmp_path / "t.txt", "--embeddings", tmp_path / "e.npz", "--mean-of")
    assert run(*score, tmp_path / "f.npz", "--out", tmp_path / "s.txt") == 2
    assert "encoder" in capsys.readouterr().err
    assert run(*score, tmp_path / "e.npz", "--out", tmp_path / "s.txt") == 0
