"""``embed`` in several processes, and after one was killed."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from speakervlad.tables.interchange import load_embeddings

NUM_FILES = 6


@pytest.fixture
def encoder(save_tiny_encoder, tmp_path):
    return save_tiny_encoder(tmp_path / "encoder")


@pytest.fixture
def folder(make_wav, tmp_path):
    for i in range(NUM_FILES):
        make_wav(tmp_path / f"audio/{i}.wav", 0.5 + 0.3 * i, seed=i)
    return tmp_path / "audio"


@pytest.fixture
def arguments(folder, encoder, tmp_path):
    def list_for(name):
        return ["embed", str(folder), "--encoder", str(encoder), "--out", str(tmp_path / name)]

    return list_for


def load(path):
    embeddings = load_embeddings(path)
    assert embeddings.ids.tolist() == [f"{i}.wav" for i in range(NUM_FILES)]
    assert not path.with_name(f"{path.name}.parts").exists()
    return embeddings.vectors


DIE_AFTER_TWO_PARTS = """
import os, signal
from speakervlad.encoder import shares as sharding
from speakervlad.cli import main

sharding.PART_SECONDS, add, parts = 0, sharding.FinishedParts.add, []

def add_or_die(self, *part):
    add(self, *part)
    parts.append(part)
    if len(parts) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

sharding.FinishedParts.add = add_or_die
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_run_goes_on_where_it_was(run, capfd, arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DIE_AFTER_TWO_PARTS, *arguments("killed.npz")], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed.npz").exists()
    assert run(*arguments("whole.npz")) == 0
    assert run(*arguments("killed.npz")) == 0
    assert "2 recordings are finished already" in capfd.readouterr().err
    np.testing.assert_array_equal(load(tmp_path / "killed.npz"), load(tmp_path / "whole.npz"))


@pytest.mark.slow
def test_two_processes_equal_one(run, arguments, tmp_path):
    command = [sys.executable, "-m", "speakervlad", *arguments("two.npz")]
    processes = [
        subprocess.Popen(command, env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2"})
        for rank in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert run(*arguments("one.npz")) == 0
    np.testing.assert_array_equal(load(tmp_path / "two.npz"), load(tmp_path / "one.npz"))


@pytest.mark.slow
def test_torchrun_equals_one_process(run, arguments, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launcher, "-m", "speakervlad", *arguments("two.npz")]
    subprocess.run(command, check=True)
    assert run(*arguments("one.npz")) == 0
    np.testing.assert_array_equal(load(tmp_path / "two.npz"), load(tmp_path / "one.npz"))
