import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings


@pytest.fixture
def table(rng):
    ids = [
        f"id{speaker}/s{session}/{n}.wav"
        for speaker in range(3)
        for session in (0, 1)
        for n in "12"
    ]
    return Embeddings(np.array(ids), rng.normal(size=(len(ids), 8)))


def test_save_and_load(tmp_path, table):
    save_embeddings(tmp_path / "E.npz", table)
    again = load_embeddings(tmp_path / "E.npz")
    assert again.ids.tolist() == table.ids.tolist()
    assert again.vectors.dtype == np.float32
    np.testing.assert_array_equal(again.vectors, table.vectors)
    with np.load(tmp_path / "E.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"ids", "vectors"}


@pytest.mark.parametrize(
    "name",
    ["id1/s0/2.wav", "id1/s0/2.flac", "id1/s0/2", "/data/wav/id1/s0/2.m4a", "wav\\id1\\s0\\2.wav"],
)
def test_names_may_differ_in_extension_and_leading_folders(table, name):
    assert table.rows([name, "id0/s0/1.wav"]).tolist() == [table.index.exact["id1/s0/2.wav"], 0]


def test_ids_may_carry_more_folders_than_the_list(table):
    longer = Embeddings(np.char.add("/corpus/", table.ids), table.vectors)
    assert longer.rows(["id2/s1/1.flac"]).tolist() == [table.index.exact["id2/s1/1.wav"]]


def test_a_tail_that_fits_several_ids_is_missing(table):
    with pytest.raises(InputError, match="1 of 1 utterances"):
        table.rows(["2.wav"])


def test_all_missing_names_are_counted_and_five_named(table):
    names = ["id0/s0/1.wav", *(f"nobody/{n}.wav" for n in range(7))]
    with pytest.raises(InputError, match=r"7 of 8 utterances.*nobody/4.wav, \.\.\.") as caught:
        table.rows(names)
    assert "nobody/5" not in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "a"], np.ones((2, 3)), "1 ids stand for several vectors: a"),
        (["a"], np.ones((2, 3)), "do not fit"),
        (["a"], np.ones(3), "do not fit"),
        ([], np.ones((0, 3)), "do not fit"),
        (["a", "b"], [[0.0, np.nan], [1.0, 2.0]], "1 embeddings hold NaN or infinite numbers: a"),
    ],
)
def test_refuses_what_is_no_table(ids, vectors, message):
    with pytest.raises(InputError, match=message):
        Embeddings(np.array(ids, dtype=str), np.array(vectors))


def write_text(path):
    path.write_text("1 a b\n")


def write_pickle(path):
    np.savez(path, ids=np.array(["a"], dtype=object), vectors=np.ones((1, 3)))


def write_other_arrays(path):
    np.savez(path, scores=np.ones(3))


def write_truncated(path):
    np.savez(path, ids=np.array(["a"]), vectors=np.ones((1, 3)))
    path.write_bytes(path.read_bytes()[:-40])


def write_empty(path):
    path.touch()


@pytest.mark.parametrize(
    "write", [write_text, write_pickle, write_other_arrays, write_truncated, write_empty]
)
def test_other_files_are_refused_by_name(tmp_path, write):
    path = tmp_path / "E.npz"
    write(path)
    with pytest.raises(InputError, match="no embedding file") as caught:
        load_embeddings(path)
    assert str(path) in str(caught.value)
