"""Slices, shards, and a Ray cluster of which a node is killed."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from speakervlad import load_encoder
from speakervlad.corpus.inputs import Recordings
from speakervlad.encoder import cluster
from speakervlad.encoder.cluster import Job, embed_on_ray, make_shards, shard_name, slices_of
from speakervlad.errors import InputError
from speakervlad.tables.interchange import load_embeddings
from speakervlad.tables.parquet import read_errors

pytest.importorskip("pyarrow", reason="needs the extra interchange")


@pytest.fixture
def recordings(tmp_path, make_wav):
    """Seven files, the fourth of which is damaged."""
    paths = [make_wav(tmp_path / f"{n}.wav", 0.6, n) for n in range(7)]
    paths[3].write_bytes(b"no sound")
    return Recordings([path.name for path in paths], paths)


@pytest.fixture
def job(save_tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    folder = save_tiny_encoder(tmp_path / "encoder")
    return Job(str(tmp_path / "out"), str(folder), load_encoder(folder).fingerprint)


def in_process(items, job, address):
    for item in items:
        make_shards({"slice": [json.dumps(item)]}, job)


def check(recordings, job):
    good = [row for row in range(7) if row != 3]
    found = load_embeddings(job.out)
    assert found.ids.tolist() == [recordings.ids[row] for row in good]
    assert found.encoder == job.fingerprint
    expected = load_encoder(job.encoder).embed_files([recordings.paths[row] for row in good])
    np.testing.assert_array_equal(found.vectors, expected)


def test_slices_have_fixed_numbers(recordings):
    parts = list(slices_of(recordings, 3))
    assert [part["number"] for part in parts] == [0, 1, 2]
    assert [name for part in parts for name in part["ids"]] == recordings.ids


def test_shards_are_the_embeddings_of_one_process(recordings, job, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr(cluster, "_run", in_process)
    bad = embed_on_ray(recordings, job, rows=3)
    assert list(bad) == ["3.wav"]
    check(recordings, job)
    assert list(read_errors(Path(job.out) / shard_name(1))) == ["3.wav"]
    again = []
    monkeypatch.setattr(cluster, "_run", lambda items, *_: again.extend(items))
    before = (Path(job.out) / shard_name(0)).stat().st_mtime_ns
    assert embed_on_ray(recordings, job, rows=3) == bad
    assert again == []
    assert (Path(job.out) / shard_name(0)).stat().st_mtime_ns == before
    with pytest.raises(InputError, match="with another slice rows, recordings"):
        embed_on_ray(recordings, job, rows=2)
    (Path(job.out) / shard_name(2)).write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"00000002\.parquet: no shard"):
        embed_on_ray(recordings, job, rows=3)


def test_a_file_is_no_folder_of_shards(recordings, job):
    pytest.importorskip("ray", reason="needs the extra ray")
    Path(job.out).write_text("mine")
    with pytest.raises(InputError, match="out: is a file"):
        embed_on_ray(recordings, job, rows=3)
    assert Path(job.out).read_text() == "mine"


def test_a_missing_shard_is_made_alone(recordings, job, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr(cluster, "_run", in_process)
    embed_on_ray(recordings, job, rows=3)
    (Path(job.out) / shard_name(1)).unlink()
    numbers = []

    def noted(items, job, address):
        numbers.extend(item["number"] for item in items)
        in_process(items, job, address)

    monkeypatch.setattr(cluster, "_run", noted)
    embed_on_ray(recordings, job, rows=3)
    assert numbers == [1]
    check(recordings, job)


@pytest.mark.slow
def test_a_cluster_of_two_nodes_one_of_which_is_killed(recordings, job, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        seen = []

        def kill_once(rows, *_):
            for row in rows:
                if not seen:
                    nodes.remove_node(second, allow_graceful=False)
                seen.append(row)
                yield row

        monkeypatch.setattr(cluster, "track", kill_once)
        assert list(embed_on_ray(recordings, job, rows=1)) == ["3.wav"]
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert len(seen) == 7
    check(recordings, job)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999", "auto"])
def test_a_cluster_that_is_not_there(recordings, job, address):
    pytest.importorskip("ray", reason="needs the extra ray")
    began = time.monotonic()
    with pytest.raises(InputError, match="no Ray cluster there"):
        embed_on_ray(recordings, job, address=address, rows=3)
    assert time.monotonic() - began < 60
    assert not Path(job.out).exists()
