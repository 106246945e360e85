import sys
from dataclasses import replace

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings


@pytest.fixture
def table(rng):
    return Embeddings(np.array(["a/1.wav", "b/2.wav", "ü"]), rng.normal(size=(3, 5)))


@pytest.mark.parametrize("suffix", [".npz", ".ark", ".scp", ".parquet"])
def test_round_trip(tmp_path, table, suffix):
    path = tmp_path / f"E{suffix}"
    save_embeddings(path, table)
    again = load_embeddings(path)
    assert again.ids.tolist() == table.ids.tolist()
    np.testing.assert_array_equal(again.vectors, table.vectors)


def test_scp_points_to_its_ark_and_both_can_move(tmp_path, table):
    save_embeddings(tmp_path / "here/E.scp", table)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["E.ark", "E.scp"]
    (tmp_path / "here").rename(tmp_path / "there")
    again = load_embeddings(tmp_path / "there/E.scp")
    np.testing.assert_array_equal(again.vectors, table.vectors)


def test_reads_what_kaldiio_writes_as_text_and_one_row_matrices(tmp_path, table):
    kaldiio = pytest.importorskip("kaldiio")
    vectors = {name: vector[None] for name, vector in zip(table.ids, table.vectors, strict=True)}
    kaldiio.save_ark(str(tmp_path / "E.ark"), vectors, text=False)
    np.testing.assert_array_equal(load_embeddings(tmp_path / "E.ark").vectors, table.vectors)
    rows = dict(zip(table.ids, table.vectors, strict=True))
    kaldiio.save_ark(str(tmp_path / "T.ark"), rows, text=True)
    np.testing.assert_allclose(
        load_embeddings(tmp_path / "T.ark").vectors, table.vectors, rtol=1e-5
    )


def test_reads_other_parquet_column_names(tmp_path, table):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"utterance_id": table.ids.tolist(), "vector": table.vectors.tolist()}
    parquet.write_table(pyarrow.table(columns), tmp_path / "E.parquet")
    np.testing.assert_allclose(load_embeddings(tmp_path / "E.parquet").vectors, table.vectors)


def test_pipes_are_refused_and_never_run(tmp_path):
    path = tmp_path / "E.scp"
    path.write_text(f"a touch {tmp_path}/ran |\n")
    with pytest.raises(InputError, match=r"line 1: .* Pipes are not run"):
        load_embeddings(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["E.npz", "E.ark", "E.scp", "E.parquet"])
@pytest.mark.parametrize("content", [b"", b"1 a b\n0 c d\n", b"\x00\x01\x02" * 30])
def test_other_contents_are_refused_by_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((InputError, OSError), match=name.replace(".", r"\.")):
        load_embeddings(path)


def test_vectors_of_different_sizes_are_refused(tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    kaldiio.save_ark(str(tmp_path / "E.ark"), {"a": np.ones(3, "f"), "b": np.ones(4, "f")})
    with pytest.raises(InputError, match="one size expected"):
        load_embeddings(tmp_path / "E.ark")


def test_unknown_suffix_and_white_space(tmp_path, table):
    with pytest.raises(InputError, match=r"Use \.npz, \.ark, \.scp, \.parquet"):
        save_embeddings(tmp_path / "E.h5", table)
    spaced = Embeddings(np.array(["a b", "c", "d"]), table.vectors)
    with pytest.raises(InputError, match="white space"):
        save_embeddings(tmp_path / "E.ark", spaced)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(monkeypatch, tmp_path, table):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"speakervlad\[interchange\]"):
        save_embeddings(tmp_path / "E.parquet", table)


def test_kaldi_files_need_no_extra_and_equal_kaldiios(monkeypatch, tmp_path, table):
    kaldiio = pytest.importorskip("kaldiio")
    save_embeddings(tmp_path / "E.scp", table)
    ours = dict(kaldiio.load_ark(str(tmp_path / "E.ark")))
    monkeypatch.chdir(tmp_path)
    pointed = kaldiio.load_scp("E.scp")
    for name, vector in zip(table.ids.tolist(), table.vectors, strict=True):
        np.testing.assert_array_equal(ours[name], vector)
        np.testing.assert_array_equal(pointed[name], vector)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_the_encoder_travels_with_its_embeddings(tmp_path, table, suffix):
    save_embeddings(tmp_path / f"E{suffix}", replace(table, encoder="1f3a"))
    assert load_embeddings(tmp_path / f"E{suffix}").encoder == "1f3a"
    save_embeddings(tmp_path / f"F{suffix}", table)
    assert load_embeddings(tmp_path / f"F{suffix}").encoder is None
