"""A name is found without its folders only if nothing that was asked for is lost by it."""

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.align import with_labels
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest
from speakervlad.tables.names import NameIndex, required_rows


def table(*ids):
    vectors = np.random.default_rng(0).normal(size=(len(ids), 4))
    return Embeddings(np.array(ids), vectors)


def test_the_same_file_name_in_two_folders():
    """On 0.1.0 both names were row 1.wav, and the non-target scored 1.0."""
    with pytest.raises(InputError, match=r"spk1/1\.wav and spk2/1\.wav would both be 1\.wav"):
        cosine_scores(table("1.wav", "2.wav"), Trials.from_ids(["spk1/1.wav"], ["spk2/1.wav"]))


@pytest.mark.parametrize(
    ("ids", "wanted", "named"),
    [
        (["1.wav", "2.wav"], ["spk1/1.wav", "spk2/2.wav"], r"spk1/1\.wav as 1\.wav, spk2/2\.wav"),
        (["1.wav"], ["1.wav", "spk2/1.wav"], r"1\.wav and spk2/1\.wav would both be 1\.wav"),
        (["a/1"], ["a/1.wav", "a/1.flac"], r"a/1\.wav and a/1\.flac would both be a/1"),
        (["a/s/1", "b/s/1"], ["s/1.wav"], r"s/1\.wav could be a/s/1 or b/s/1"),
        (["a/1.wav", "a/1.flac"], ["a/1.m4a"], r"a/1\.m4a could be a/1\.wav or a/1\.flac"),
        (["1.wav", "1.flac", "2/1"], ["x/1.m4a"], r"x/1\.m4a could be 1\.wav or 1\.flac"),
        (["p/s/1", "p/s/2"], ["x/p/s/1", "y/p/s/1"], "x/p/s/1 and y/p/s/1 would both be p/s/1"),
    ],
)
def test_ambiguity_is_an_error_that_names_both(ids, wanted, named):
    with pytest.raises(InputError, match=named):
        table(*ids).rows(wanted)


@pytest.mark.parametrize(
    ("ids", "wanted", "rows"),
    [
        (["a/1", "b/1"], ["/data/x/a/1.wav", "/data/x/b/1.wav"], [0, 1]),
        (["/c/a/1.flac", "/c/b/1.flac"], ["b/1.wav", "a/1.wav"], [1, 0]),
        (["1.wav", "corpus/spk1/1.wav"], ["spk1/1.wav"], [1]),
        (["1.wav", "2.wav"], ["d/2.wav", "d/1.wav", "d/2.wav"], [1, 0, 1]),
        (["a/1.aiff", "a/2.amr", "a/3.au"], ["a/1", "a/2", "a/3"], [0, 1, 2]),
    ],
)
def test_what_is_certain_is_found(ids, wanted, rows):
    assert table(*ids).rows(wanted).tolist() == rows


def test_an_exact_name_keeps_its_row():
    assert NameIndex(["1.wav"]).find(["1.wav", "x/1.wav"]).tolist() == [0, -1]


def test_two_names_never_share_a_row(rng):
    """Whatever the folders: either an error, or every name has a row of its own."""
    pieces = ["a", "b", "1", "2", "1.wav"]
    for _ in range(500):
        ids = {"/".join(rng.choice(pieces, rng.integers(1, 4))) for _ in range(4)}
        wanted = sorted({"/".join(rng.choice(pieces, rng.integers(1, 4))) for _ in range(4)})
        rows = NameIndex(sorted(ids)).find(wanted)
        found = rows[rows >= 0].tolist()
        assert len(set(found)) == len(found)


def test_manifests_and_keys_follow_the_same_rule(tmp_path):
    manifest = Manifest.of(
        tmp_path,
        utterance_ids=["1", "2"],
        paths=["1.wav", "2.wav"],
        speakers=["A", "B"],
        sessions=["x", "y"],
        num_samples=[16_000, 16_000],
    )
    with pytest.raises(InputError, match=r"spk1/1\.wav and spk2/1\.wav would both be 1"):
        required_rows(manifest, np.array(["spk1/1.wav", "spk2/1.wav"]))
    key = Trials.from_ids(["1.wav"], ["2.wav"], np.array([True]))
    with pytest.raises(InputError, match=r"a/1\.wav as 1\.wav, b/2\.wav as 2\.wav"):
        with_labels(Trials.from_ids(["a/1.wav"], ["b/2.wav"]), key)
