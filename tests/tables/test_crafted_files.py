"""Files made to run code, to read other files or to eat the memory are refused in words."""

import gzip
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.enrolment import load_enrolment
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.scores import read_scores
from speakervlad.scoring.scoring import load_cohort
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings

VECTOR = b"\0BFV \4" + (2).to_bytes(4, "little") + np.ones(2, "<f4").tobytes()
MATRIX = b"\0BDM \4" + (1).to_bytes(4, "little") + b"\4" + (2).to_bytes(4, "little")
MATRIX += np.ones(2, "<f8").tobytes()


class Runs:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("read", [load_embeddings, load_cohort])
def test_a_pickle_in_an_ark_is_not_run(tmp_path, read):
    """On 0.1.0 kaldiio unpickled it."""
    ran, ark, scp = tmp_path / "ran", tmp_path / "E.ark", tmp_path / "E.scp"
    ark.write_bytes(b"a PKL" + pickle.dumps(Runs(ran)))
    scp.write_text(f"a {ark}:2\n")
    for path in (ark, scp):
        with pytest.raises(InputError, match=r"no vector of floats|is no vector"):
            read(path)
    assert not ran.exists()


@pytest.mark.parametrize(
    "place", ["-", "cat {ark} |", "| cat", "{ark}", "{ark}:2[0:1]", "{wav}", "{ark}:-2", "{ark}:x"]
)
def test_an_scp_names_arks_at_offsets_only(tmp_path, place):
    ark, wav, scp = (tmp_path / name for name in ("E.ark", "a.wav", "E.scp"))
    ark.write_bytes(b"a " + VECTOR)
    wav.write_bytes(b"RIFF")
    scp.write_text(f"a {place.format(ark=ark, wav=wav)}\n")
    with pytest.raises(InputError, match=r"E\.scp, line 1: .* is no `id file\.ark:offset`"):
        load_embeddings(scp)


@pytest.mark.parametrize("content", [b"secret=12345\n", b"[ secret ]", b"\0BXX secret", b"secret"])
def test_an_error_never_quotes_the_file_that_is_pointed_to(tmp_path, content):
    private, scp = tmp_path / "private", tmp_path / "E.scp"
    private.write_bytes(content)
    scp.write_text(f"a {private}:0\n")
    with pytest.raises(InputError) as caught:
        load_embeddings(scp)
    assert "secret" not in str(caught.value)


def test_lists_of_kaldi_take_marks_tabs_and_both_kinds_of_text(tmp_path):
    (tmp_path / "E.ark").write_bytes(
        b"a " + VECTOR + b"b " + MATRIX + b"c  [ 1 1 ]\nd [\n  1 1 ]\n"
    )
    assert load_embeddings(tmp_path / "E.ark").vectors.tolist() == [[1, 1]] * 4
    (tmp_path / "E.scp").write_bytes(b"\xef\xbb\xbfa\tE.ark:2\r\nb \t E.ark:22\n")
    again = load_embeddings(tmp_path / "E.scp")
    assert again.ids.tolist() == ["a", "b"]
    (tmp_path / "L.scp").write_bytes(b"M\xfcller E.ark:2\n")
    with pytest.raises(InputError, match=r"L\.scp, line 1: not UTF-8"):
        load_embeddings(tmp_path / "L.scp")
    (tmp_path / "enroll").write_bytes(b"\xef\xbb\xbfm1\ta.wav\n")
    assert load_enrolment(tmp_path / "enroll").recordings == {"m1": ("a.wav",)}


@pytest.mark.parametrize("size", [2**31 - 1, -1, 10**6])
def test_an_ark_that_claims_too_much(tmp_path, size):
    head = b"a \0BFV \4" + size.to_bytes(4, "little", signed=True)
    (tmp_path / "E.ark").write_bytes(head + np.ones(4, "<f4").tobytes())
    with pytest.raises(InputError, match=r"E\.ark: 'a' is no vector of floats"):
        load_embeddings(tmp_path / "E.ark")


@pytest.mark.parametrize("suffix", [".ark", ".parquet"])
def test_pipes_and_devices_are_no_files(tmp_path, suffix):
    os.mkfifo(tmp_path / f"E{suffix}")
    with pytest.raises(InputError, match="no regular file"):
        load_embeddings(tmp_path / f"E{suffix}")


def npy(array=None, header=None):
    """The bytes of an .npy file, perhaps with another header than its data."""
    file = io.BytesIO()
    if header is None:
        np.lib.format.write_array(file, array, allow_pickle=True)
    else:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"\0" * 64)
    return file.getvalue()


def npz(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)


HUGE = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
IDS, VECTORS = npy(np.array(["a", "b"])), npy(np.ones((2, 3), "f"))


@pytest.mark.parametrize(
    "entries",
    [
        {"ids": IDS, "vectors": npy(header=HUGE)},
        {"ids": npy(header=HUGE | {"descr": "<U9", "shape": (10**12,)}), "vectors": VECTORS},
        {"ids": npy(header=HUGE | {"descr": "<U0", "shape": (10**12,)}), "vectors": VECTORS},
        {"ids": IDS, "vectors": npy(np.ones((2, 3), complex))},
        {"ids": IDS, "vectors": npy(np.array([["1"], ["2"]]))},
        {"ids": npy(np.zeros(2, [("a", "f4")])), "vectors": VECTORS},
        {"ids": npy(np.array(["a", None])), "vectors": VECTORS},
        {"ids": npy(np.array([1.5, 2.5])), "vectors": VECTORS},
        {"ids": IDS, "vectors": VECTORS, "encoder": npy(np.array([1, 2]))},
        {"ids": IDS, "vectors": b"\x93NUMPY\x01\x00" + b"\x10\x27" + b"(" * 10_000},
        {"ids": IDS, "vectors": b"\x93NUMPY\x09\x00"},
        {"ids": IDS},
    ],
)
def test_arrays_that_are_no_embeddings(tmp_path, entries):
    npz(tmp_path / "E.npz", **entries)
    with pytest.raises(InputError, match=r"E\.npz: no embedding file"):
        load_embeddings(tmp_path / "E.npz")


def test_damaged_archives_name_their_file(tmp_path, rng):
    """On 0.1.0 some ended in a bare `[Errno 22] Invalid argument`."""
    path = tmp_path / "E.npz"
    save_embeddings(path, Embeddings(np.array(["a", "b"]), np.ones((2, 3))))
    content = path.read_bytes()
    for _ in range(300):
        spoilt = bytearray(content)
        for place in rng.integers(len(content), size=3):
            spoilt[place] = rng.integers(256)
        path.write_bytes(spoilt)
        try:
            load_embeddings(path)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "columns",
    [
        {"id": ["a", None], "embedding": [[1.0], [2.0]]},
        {"id": ["a", "b"], "embedding": [[1.0], None]},
        {"id": ["a", "b"], "embedding": [[1.0], [None]]},
        {"id": ["a", "b"], "embedding": ["1.0", "2.0"]},
        {"id": ["a", "b"], "embedding": [{"x": 1.0}, {"x": 2.0}]},
        {"id": ["a", "b"], "embedding": [{"list": 1.0}, {"list": 2.0}]},
        {"id": ["a", "b"], "embedding": [["1"], ["2"]]},
        {"id": ["a", "b"], "embedding": [[1.0], [2.0, 3.0]]},
        {"id": ["a", "b"], "embedding": [[], []]},
        {"id": [{"x": 1}, {"x": 2}], "embedding": [[1.0], [2.0]]},
        {"id": ["a", "a"], "embedding": [[1.0], [2.0]]},
        {"id": [1.5, 2.5], "embedding": [[1.0], [2.0]]},
    ],
)
def test_parquet_of_other_types(tmp_path, columns):
    """On 0.1.0 a missing id became the name "None"."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), tmp_path / "E.parquet")
    with pytest.raises(InputError, match=r"E\.parquet: "):
        load_embeddings(tmp_path / "E.parquet")


def write_gzip_bomb(path):
    path.write_bytes(gzip.compress(b"1 a b\n" * 700_000) * 300)


def write_gzip_line(path):
    path.write_bytes(gzip.compress(b"a" * 4_200_000) * 300)


def write_npz_bomb(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("vectors.npy", "w", force_zip64=True) as file,
    ):
        shape = (300, 1_000_000)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        for _ in range(shape[0]):
            file.write(b"\0" * 4 * shape[1])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ids.npy", npy(np.array([str(n) for n in range(shape[0])])))


def write_parquet_bomb(path):
    import pyarrow
    from pyarrow import parquet

    flat = pyarrow.array(np.zeros(60_000_000, "f4"))
    table = pyarrow.table(
        {
            "id": [str(n) for n in range(1000)],
            "embedding": pyarrow.FixedSizeListArray.from_arrays(flat, 60_000),
        }
    )
    parquet.write_table(table, path, compression="zstd")


def write_parquet_names(path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"id": ["x" * 1_000_000] * 2000, "embedding": [[1.0]] * 2000})
    parquet.write_table(table, path, compression="zstd")


def write_long_name(path):
    path.write_text("1 a " + "x" * 5_000_000 + "\n" + "".join(f"0 a {n}\n" for n in range(400_000)))


LIMITED = """
import resource, sys
from pathlib import Path
import numpy, pyarrow.parquet
from speakervlad.errors import InputError
from speakervlad.{module} import {name} as read
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 1_000_000_000,) * 2)
try:
    read(sys.argv[1])
except InputError as error:
    assert sys.argv[1] in str(error) or "name has" in str(error), error
    sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "suffix", "read"),
    [
        (write_gzip_bomb, ".txt", load_trials),
        (write_gzip_bomb, ".txt", read_scores),
        (write_gzip_line, ".txt", load_trials),
        (write_npz_bomb, ".npz", load_embeddings),
        (write_parquet_bomb, ".parquet", load_embeddings),
        (write_parquet_names, ".parquet", load_embeddings),
        (write_long_name, ".txt", load_trials),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_small_file_never_takes_a_gigabyte(tmp_path, write, suffix, read):
    pytest.importorskip("pyarrow")
    path = tmp_path / f"bomb{suffix}"
    write(path)
    assert path.stat().st_size < 10_000_000
    module = read.__module__.removeprefix("speakervlad.")
    code = LIMITED.format(module=module, name=read.__name__)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr


def test_ids_that_kaldi_cannot_hold_leave_nothing(tmp_path):
    for name in ("a b", "a\u3000b", "a\nb", "a\0b"):
        table = Embeddings(np.array([name, "c"]), np.ones((2, 3)))
        with pytest.raises(InputError, match="white space or control characters"):
            save_embeddings(tmp_path / "E.scp", table)
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize("order", "<>")
def test_characters_that_do_not_exist_are_refused(tmp_path, order):
    ids = np.array(["a", "b"]).astype(f"{order}U1")
    np.savez(tmp_path / "E.npz", ids=ids, vectors=np.eye(2))
    assert load_embeddings(tmp_path / "E.npz").ids.tolist() == ["a", "b"]
    wrong = np.array([0x110000, 98], f"{order}u4").view(f"{order}U1")
    np.savez(tmp_path / "E.npz", ids=wrong, vectors=np.eye(2))
    with pytest.raises(InputError, match="characters that do not exist"):
        load_embeddings(tmp_path / "E.npz")


def test_ids_of_parquet_that_are_not_utf_8_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ids = pyarrow.array([b"\xd1"]).view(pyarrow.string())
    vectors = pyarrow.array([[1.0, 0.0]], pyarrow.list_(pyarrow.float32()))
    parquet.write_table(pyarrow.table({"id": ids, "embedding": vectors}), tmp_path / "E.parquet")
    with pytest.raises(InputError, match="ids that are damaged or not UTF-8"):
        load_embeddings(tmp_path / "E.parquet")


def test_an_scp_that_points_nowhere_names_its_line(tmp_path):
    for place in ("absent.ark", "x" * 300 + ".ark"):
        (tmp_path / "E.scp").write_text(f"a {place}:5\n")
        with pytest.raises(InputError, match=r"E\.scp, line 1: .*\.ark:5: "):
            load_embeddings(tmp_path / "E.scp")


def test_a_directory_of_parquet_on_which_pyarrow_ends_the_process_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    vectors = pyarrow.array([[1.0, 0.0], [0.0, 1.0]], pyarrow.list_(pyarrow.float32()))
    path = tmp_path / "E.parquet"
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "embedding": vectors}), path)
    # The column of ids as one that is required, while its statistics are of an optional one.
    optional, required = b"\x25\x02\x18\x02id", b"\x25\x00\x18\x02id"
    content = path.read_bytes()
    assert content.count(optional) == 1
    path.write_bytes(content.replace(optional, required))
    with pytest.raises(InputError, match=r"E\.parquet: no Parquet file"):
        load_embeddings(path)
