"""Embeddings as other toolkits and scripts leave them."""

import pickle

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings

IDS = ["a/1.wav", "b 2", "ü"]


@pytest.fixture
def vectors(rng):
    return rng.normal(size=(3, 5)).astype(np.float32)


def check(path, vectors, tolerance=0.0):
    found = load_embeddings(path)
    assert found.ids.tolist() == IDS
    np.testing.assert_allclose(found.vectors, vectors, rtol=tolerance)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
def test_one_array_an_id(tmp_path, vectors, shape):
    """(1, 1, dim) is what SpeechBrain's ``encode_batch`` gives for a recording."""
    rows = {name: row.reshape(shape) for name, row in zip(IDS, vectors, strict=True)}
    np.savez(tmp_path / "E.npz", **rows)
    check(tmp_path / "E.npz", vectors)


@pytest.mark.parametrize(("ids", "matrix"), [("names", "embeddings"), ("keys", "x")])
def test_ids_and_vectors_under_other_names(tmp_path, vectors, ids, matrix):
    np.savez(tmp_path / "E.npz", **{ids: IDS, matrix: vectors[:, None]})
    check(tmp_path / "E.npz", vectors)


def test_the_error_lists_the_arrays(tmp_path, vectors):
    np.savez(tmp_path / "E.npz", left=vectors, right=vectors[:, :2], names=np.arange(3))
    with pytest.raises(InputError, match=r"Found 3 arrays: left f\[3, 5\], right f\[3, 2\], names"):
        load_embeddings(tmp_path / "E.npz")
    np.savez(tmp_path / "E.npz", a=vectors[0], b=vectors[1][:3])
    with pytest.raises(InputError, match=r"a f\[5\], b f\[3\]"):
        load_embeddings(tmp_path / "E.npz")
    np.savez(tmp_path / "E.npz", a=np.array([{}], object))
    with pytest.raises(InputError, match=r"a O\[1\]"):
        load_embeddings(tmp_path / "E.npz")


@pytest.mark.parametrize("name", ["E.txt", "E.ids", "E_ids.npy", "ids.txt"])
def test_npy_with_ids_beside_it(tmp_path, vectors, name):
    np.save(tmp_path / "E.npy", vectors[:, None])
    with pytest.raises(InputError, match=r"no ids beside it.*into E\.txt"):
        load_embeddings(tmp_path / "E.npy")
    if name.endswith(".npy"):
        np.save(tmp_path / name, np.array(IDS))
    else:
        (tmp_path / name).write_text("\n".join(IDS) + "\n", encoding="utf-8")
    check(tmp_path / "E.npy", vectors)


def test_npy_with_too_few_ids(tmp_path, vectors):
    np.save(tmp_path / "E.npy", vectors)
    (tmp_path / "E.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="2 ids for 3 vectors"):
        load_embeddings(tmp_path / "E.npy")
    np.save(tmp_path / "E.npy", vectors[0])
    with pytest.raises(InputError, match=r"Vectors \(N, D\) expected"):
        load_embeddings(tmp_path / "E.npy")


@pytest.mark.parametrize("header", ["", "id,0,1,2,3,4\n", "utt_id,a,b,c,d,e\n"])
def test_csv_of_numbers(tmp_path, vectors, header):
    lines = [f"{name},{','.join(map(str, row))}" for name, row in zip(IDS, vectors, strict=True)]
    (tmp_path / "E.csv").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    check(tmp_path / "E.csv", vectors, 1e-6)


def test_csv_of_lists(tmp_path, vectors):
    lines = [f'7;{name};"{row.tolist()}"' for name, row in zip(IDS, vectors, strict=True)]
    text = "seconds;id;embedding\n" + "\n".join(lines) + "\n"
    (tmp_path / "E.csv").write_text(text, encoding="utf-8")
    check(tmp_path / "E.csv", vectors, 1e-6)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path\na.wav\nb.wav\n", "holds no numbers"),
        ("", "is empty"),
        ("a,1,2\nb,1,x\n", "line 2: no id and numbers"),
        ("a,1,2\nb,1\n", r"found sizes \[1, 2\]"),
        ("id,embedding\na\n", "line 2: no id"),
    ],
)
def test_csv_that_is_none(tmp_path, text, problem):
    (tmp_path / "E.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        load_embeddings(tmp_path / "E.csv")


@pytest.mark.parametrize("suffix", [".pkl", ".pt"])
def test_pickles_are_not_read(tmp_path, vectors, suffix):
    path = tmp_path / f"E{suffix}"
    path.write_bytes(pickle.dumps(dict(zip(IDS, vectors, strict=True))))
    with pytest.raises(InputError, match=r"could run code and is not read.*np\.savez"):
        load_embeddings(path)


def test_a_folder_of_shards(tmp_path, vectors):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    save_embeddings(tmp_path / "s/0.parquet", Embeddings(IDS[:1], vectors[:1], "abc"))
    rows = {
        "id": [*IDS[1:], "bad"],
        "embedding": [*vectors[1:].tolist(), None],
        "error": [None, None, "bad: damaged."],
    }
    table = pyarrow.table(rows).replace_schema_metadata({b"speakervlad.encoder": b"abc"})
    parquet.write_table(table, tmp_path / "s/1.parquet")
    parquet.write_table(table.slice(2), tmp_path / "s/2.parquet")
    check(tmp_path / "s", vectors, 1e-6)
    assert load_embeddings(tmp_path / "s").encoder == "abc"
    save_embeddings(tmp_path / "s/3.parquet", Embeddings(["z"], vectors[:1], "other"))
    with pytest.raises(InputError, match="shards of 2 encoders"):
        load_embeddings(tmp_path / "s")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"a folder without \.parquet files"):
        load_embeddings(tmp_path / "none")
    (tmp_path / "none/0.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"0\.parquet: no Parquet file"):
        load_embeddings(tmp_path / "none")
