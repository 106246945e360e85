"""The directory of a Parquet file, read as pyarrow reads it, and refused where it is damaged."""

import numpy as np
import pytest

from speakervlad.tables.parquet import COLUMNS, METADATA, NUM_VALUES, PATH, UNCOMPRESSED_SIZE
from speakervlad.tables.thrift import Reader


@pytest.fixture
def directory(tmp_path):
    """Content of a file's directory, and pyarrow's reading of it."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    table = pyarrow.table(
        {
            "id": [f"utterance-{number}" for number in range(300)],
            "embedding": [rng.normal(size=7).tolist() for _ in range(300)],
            "is_long": [None if number % 7 else True for number in range(300)],
        }
    )
    table = table.replace_schema_metadata({b"note": b"x" * 200})
    path = tmp_path / "t.parquet"
    parquet.write_table(table, path, compression="zstd", row_group_size=70)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    return content[-8 - length : -8], parquet.ParquetFile(path).metadata


def test_the_directory_is_what_pyarrow_reads(directory):
    content, metadata = directory
    values = Reader(content).structure()
    assert values[3] == metadata.num_rows == 300
    assert len(values[4]) == metadata.num_row_groups == 5
    for number, group in enumerate(values[4]):
        for place, column in enumerate(group[COLUMNS]):
            ours, theirs = column[METADATA], metadata.row_group(number).column(place)
            assert b".".join(ours[PATH]).decode() == theirs.path_in_schema
            assert ours[NUM_VALUES] == theirs.num_values
            assert ours[UNCOMPRESSED_SIZE] == theirs.total_uncompressed_size


def test_a_directory_that_is_cut_short_is_refused(directory):
    content, _ = directory
    for length in range(0, len(content) - 1, 13):
        with pytest.raises(ValueError, match=r"cut short|no type|64 bits|nested too deep"):
            Reader(content[:length]).structure()


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"\x00", {}),
        (b"\x15\x02\x00", {1: 1}),
        (b"\x15\x01\x00", {1: -1}),
        (b"\x11\x12\x00", {1: True, 2: False}),
        (b"\x06\x20\x80\x80\x04\x00", {16: 1 << 15}),
        (b"\x18\x03abc\x00", {1: b"abc"}),
        (b"\x19\x25\x02\x04\x00", {1: [1, 2]}),
        (b"\x19\x21\x01\x02\x00", {1: [True, False]}),
        (b"\x17" + np.float64(1.5).tobytes() + b"\x00", {1: 1.5}),
        (b"\x1b\x01\x85\x01a\x02\x00", {1: {"b'a'": 1}}),
        (b"\x1b\x00\x00", {1: {}}),
        (b"\x1c\x15\x02\x00\x00", {1: {1: 1}}),
    ],
)
def test_values_of_every_type(content, values):
    assert Reader(content).structure() == values


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1c" * 100, "nested too deep"),
        (b"\x19\x19" * 100_000, "nested too deep"),
        (b"\x1d\x00", "no type 13"),
        (b"\x15" + b"\xff" * 20, "64 bits"),
        (b"\x18\xff\xff\xff\xff\x0fabc", "cut short"),
        (b"\x19\xf3\xff\xff\xff\xff\x0f\x00", "cut short"),
    ],
)
def test_content_that_claims_too_much_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        Reader(content).structure()
