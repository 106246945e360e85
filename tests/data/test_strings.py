import numpy as np
import pytest

from speakervlad.data.strings import CategoryColumn, StringColumn

ALPHABETS = ["ab", "0123456789", "aä€\U0001f600", "\0a"]


def random_strings(seed, alphabet, longest):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(longest + 1, size=rng.integers(1, 60))
    return ["".join(rng.choice(list(alphabet), size)) for size in sizes]


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("seed", range(40))
def test_columns_equal_their_definition(seed, alphabet):
    strings = random_strings(seed, alphabet, longest=(1, 3, 9, 20)[seed % 4])
    column = StringColumn.of(strings)
    assert list(column) == strings
    assert column.is_distinct() == (len(set(strings)) == len(strings))
    for place in (0, 2):
        expected = [(string.encode()[place : place + 1] or b"\0")[0] for string in strings]
        assert column.bytes_at(place).tolist() == expected
    runs = [i for i in range(len(strings)) if i == 0 or strings[i] != strings[i - 1]]
    assert column.run_starts().tolist() == runs
    coded = CategoryColumn.of(strings)
    assert list(coded) == strings
    assert list(coded.names) == sorted(set(strings))
    rows = np.random.default_rng(seed).integers(len(strings), size=30)
    assert list(column.take(rows)) == [strings[row] for row in rows]


@pytest.mark.parametrize("longest", [1, 5, 18])
def test_integers(longest):
    strings = [text or "7" for text in random_strings(longest, "0123456789", longest)]
    assert StringColumn.of(strings).integers().tolist() == [int(text) for text in strings]


@pytest.mark.parametrize("text", ["", "-1", "1.5", " 1", "1" * 19, "١"])
def test_other_texts_are_no_integers(text):
    assert StringColumn.of(["12", text]).integers() is None


def test_rows_are_cut_out_of_a_text():
    text = np.frombuffer("one,twö,,".encode(), np.uint8)
    cut = StringColumn.cut(text, np.array([4, 0, 9]), np.array([8, 3, 9]))
    assert list(cut) == ["twö", "one", ""]
    assert cut.may_contain("öo")
    assert not cut.may_contain("two")
