"""Recordings shared out over processes, and runs that were interrupted."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from speakervlad.corpus.inputs import Recordings
from speakervlad.encoder import shares as sharding
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.frames import FrameGrid
from speakervlad.encoder.shares import (
    FinishedParts,
    Share,
    embed_in_parts,
    hold_output,
    open_parts,
    share_from_environment,
)
from speakervlad.encoder.windows import Windows
from speakervlad.errors import InputError


class CountingBackend:
    """Embeds a recording as its length; a network would only take longer."""

    ends = SimpleNamespace(dim=3, grid=FrameGrid(160, 16, 92), pooling=None)
    num_streams = 1

    def __init__(self):
        self.num_embedded, self.notes = 0, {}

    def describe(self, spectrogram):
        raise AssertionError(spectrogram)

    def streams(self, count):
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(count)

    def embed(self, wave):
        self.num_embedded += 1
        return np.array([1.0, 0.0, wave.num_samples], np.float32)


@pytest.fixture
def recordings(make_wav, tmp_path):
    names = [f"{i}.wav" for i in range(7)]
    paths = [make_wav(tmp_path / "wav" / name, 0.1 + 0.01 * i) for i, name in enumerate(names)]
    return Recordings(names, paths)


def counting():
    embedder = Encoder(CountingBackend())
    embedder.frames = embedder.backend
    return embedder


@pytest.fixture
def embedder():
    return counting()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "e.npz"


def embed(embedder, recordings, out, rank=0, size=1, **settings):
    parts = open_parts(out, embedder, recordings, **settings)
    return embed_in_parts(embedder, recordings, parts, share=Share(rank, size), since=time.time())


def vectors_of(items):
    return np.concatenate([item.vectors for item in items])


@pytest.fixture
def plain(embedder, recordings):
    return vectors_of(counting().embed_each(recordings.paths))


def test_short_runs_leave_no_parts(embedder, recordings, out, plain):
    np.testing.assert_array_equal(vectors_of(embed(embedder, recordings, out)), plain)
    assert not out.with_name("e.npz.parts").exists()


def test_three_processes_make_one_table(embedder, recordings, out, plain):
    for rank in (2, 1):
        assert embed(embedder, recordings, out, rank, 3) is None
    assert embedder.backend.num_embedded == 4
    np.testing.assert_array_equal(vectors_of(embed(embedder, recordings, out, 0, 3)), plain)
    assert embedder.backend.num_embedded == 7


def test_finished_parts_are_not_computed_again(embedder, recordings, out, plain, monkeypatch):
    monkeypatch.setattr(sharding, "PART_SECONDS", 0)
    computed = embedder.backend.embed

    def die_at_the_fifth(wave):
        if embedder.backend.num_embedded == 4:
            raise KeyboardInterrupt
        return computed(wave)

    monkeypatch.setattr(embedder.backend, "embed", die_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        embed(embedder, recordings, out)
    again = counting()
    np.testing.assert_array_equal(vectors_of(embed(again, recordings, out)), plain)
    assert again.backend.num_embedded == 3


@pytest.mark.parametrize("content", [b"", b"PK\3\4 but no archive", None])
def test_a_damaged_part_is_computed_again(embedder, recordings, out, plain, caplog, content):
    embed(embedder, recordings, out, rank=1, size=2)
    (part,) = out.with_name("e.npz.parts").glob("*.npz")
    if content is None:
        np.savez(part, keys=np.array(["a"]), counts=np.array(["one"]))
    else:
        part.write_bytes(content)
    again = counting()
    np.testing.assert_array_equal(vectors_of(embed(again, recordings, out)), plain)
    assert again.backend.num_embedded == 7
    assert "Its recordings are computed again" in caplog.text


def test_a_second_run_with_the_same_output_is_refused(out):
    with hold_output(out, Share(0, 2)), hold_output(out, Share(1, 2)):
        with pytest.raises(InputError, match=r"e\.npz: another process is writing it"):
            hold_output(out, Share()).__enter__()
        with hold_output(out.with_name("f.npz"), Share()):
            assert len(list(out.parent.glob(".*.lock"))) == 3
    assert not list(out.parent.glob(".*.lock"))


def test_files_that_fail_do_not_cost_the_others(embedder, recordings, out, monkeypatch):
    monkeypatch.setattr(sharding, "PART_SECONDS", 0)
    recordings.paths[3].write_text("no audio")
    with pytest.raises(InputError, match=r"1 of 7 files cannot be embedded: .*3\.wav"):
        embed(embedder, recordings, out)
    fewer = Recordings(recordings.ids[:3], recordings.paths[:3])
    again = counting()
    assert len(embed(again, fewer, out)) == 3
    assert again.backend.num_embedded == 0


def test_parts_of_another_run_are_refused(embedder, recordings, out):
    embed(embedder, recordings, out, rank=1, size=2)
    with pytest.raises(InputError, match=r"another precision, windows\. Delete that folder"):
        open_parts(out, embedder, recordings, precision="bfloat16", windows=Windows(1.0, 0.5))
    for damaged in ("{", "3", "[1]", "[" * 100_000):
        (out.with_name("e.npz.parts") / "run.json").write_text(damaged)
        with pytest.raises(InputError, match="damaged"):
            open_parts(out, embedder, recordings)


def test_another_path_is_another_recording(embedder, recordings, out, make_wav, tmp_path):
    embed(embedder, recordings, out, rank=0, size=1)
    embed(embedder, recordings, out, rank=1, size=2)
    moved = [make_wav(tmp_path / "other" / name) for name in recordings.ids]
    assert not open_parts(out, embedder, recordings).found & set(
        sharding.keys_of(Recordings(recordings.ids, moved))
    )


def test_latecomers_see_that_all_is_merged(embedder, recordings, out):
    began = time.time() - 10
    out.write_bytes(b"")
    parts = FinishedParts(out, {})
    late = embed_in_parts(embedder, recordings, parts, share=Share(1, 2), since=began)
    assert late is None
    assert embedder.backend.num_embedded == 0


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("one", "2")])
def test_bad_environment_is_refused(monkeypatch, rank, size):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(InputError, match="WORLD_SIZE=2"):
        share_from_environment()


def test_settings_are_written_beside_the_parts(embedder, recordings, out):
    embed(embedder, recordings, out, rank=1, size=2, precision="bfloat16")
    written = json.loads((out.with_name("e.npz.parts") / "run.json").read_text())
    assert written["precision"] == "bfloat16"
    assert written["backend"] == "CountingBackend"


def test_two_recordings_of_one_name_are_refused_at_once(recordings):
    with pytest.raises(InputError, match=r"1 recordings are named twice: 0\.wav"):
        Recordings(["0.wav", "0.wav"], recordings.paths[:2])
