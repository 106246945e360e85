"""The recordings of the package: there, free, small, and told apart by the encoder that ships."""

from itertools import combinations

import numpy as np

from speakervlad import examples, load_audio, load_encoder, load_manifest, speech
from speakervlad.cli.quickstart import print_people


def test_examples_are_copied_with_their_licence(run, capsys, tmp_path):
    assert run("examples", tmp_path / "clips") == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(tmp_path / "clips" / f"{name}.opus") for name in examples()]
    for name, path in examples().items():
        assert (tmp_path / "clips" / f"{name}.opus").read_bytes() == path.read_bytes()
    assert "CC0" in (tmp_path / "clips" / "LICENSE.md").read_text()


def test_examples_are_small_and_hold_speech():
    paths = examples()
    assert len(paths) == 12
    assert sum(path.stat().st_size for path in paths.values()) < 150_000
    for path in paths.values():
        assert np.diff(speech(path)).sum() > 2.5


def test_the_encoder_that_ships_tells_them_apart():
    paths, encoder = examples(), load_encoder()
    vectors = dict(zip(paths, encoder.embed_files(list(paths.values())), strict=True))
    scores = {
        (one, other): float(vectors[one] @ vectors[other]) for one, other in combinations(paths, 2)
    }
    same = {pair: pair[0][:-1] == pair[1][:-1] for pair in scores}
    limit = encoder.threshold(far=0.001)
    assert min(scores[pair] for pair in scores if same[pair]) > limit + 0.1
    assert max(scores[pair] for pair in scores if not same[pair]) < limit - 0.2


def test_quickstart_knows_who_is_enrolled_and_who_is_not(capsys):
    print_people(examples())
    _, one, other = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (one[0], other[0]) == ("Alex", "unknown")


def test_generated_speakers_are_a_corpus_of_speaker_folders(run, capsys, tmp_path):
    assert run("examples", tmp_path / "ann", "--generated", 2) == 0
    assert capsys.readouterr().out.startswith("24 recordings of 2 generated speakers: ")
    assert run("prepare", tmp_path / "ann", tmp_path / "a.csv", "--layout", "speaker-folders") == 0
    manifest = load_manifest(tmp_path / "a.csv")
    assert manifest.speaker_names == ["ann000", "ann001"]
    assert len(set(manifest.sessions)) == 6
    assert run("examples", tmp_path / "bob", "--generated", 1) == 0
    heard = [load_audio(tmp_path / f"{name}/{name}000/session0/000.wav") for name in ("ann", "bob")]
    assert len(heard[0]) != len(heard[1]) or (heard[0] != heard[1]).any()
