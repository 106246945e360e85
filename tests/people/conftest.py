"""An encoder in miniature, and recordings as its sums, without any audio."""

import getpass
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from speakervlad.encoder.encoder import load_encoder
from speakervlad.models.sums import PoolingSums
from speakervlad.people.cohort import COHORT_NAME, Cohort
from speakervlad.people.people import Heard, PeopleStore


@pytest.fixture(scope="session")
def encoder(tmp_path_factory, save_tiny_encoder):
    """With random impostors as its cohort."""
    folder = save_tiny_encoder(tmp_path_factory.mktemp("people") / "encoder")
    embedder = load_encoder(folder, backend="torch")
    vectors = np.random.default_rng(9).standard_normal((120, embedder.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    Cohort(embedder.fingerprint, vectors).save(folder / COHORT_NAME)
    return embedder


@pytest.fixture(scope="session")
def hear(encoder):
    """``hear(speaker, take)``: what a recording of somebody would add up to."""
    pooling = encoder.backend.ends.pooling
    clusters, dim = pooling.centers.shape

    def make(speaker, take=0, seconds=3.0):
        voice = np.random.default_rng((1, speaker)).standard_normal((dim, 1))
        rng = np.random.default_rng((2, speaker, take))
        frames = voice + 0.3 * rng.standard_normal((dim, 40))
        weights = np.abs(rng.standard_normal((clusters + pooling.num_clusters, 40)))
        sums = PoolingSums.empty(pooling).add(frames, weights)
        digest = hashlib.sha256(f"{speaker} {take}".encode()).hexdigest()
        return Heard(f"{speaker}-{take}.wav", digest, sums, seconds)

    return make


class Postgres(NamedTuple):
    """A server: its URL without a database, and what stops it and starts it again."""

    url: str
    restart: Callable[[], None]


@pytest.fixture(scope="session")
def postgres_server(postgres):
    """URL of a PostgreSQL server with pgvector, started for these tests, without a database."""
    return postgres.url


@pytest.fixture(scope="session")
def postgres():
    psycopg = pytest.importorskip("psycopg")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed")
    binaries = Path(initdb).resolve().parent
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    # Sockets have short paths; the server refuses to run as root.
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True, user=user).strip())

    def run(*command):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(list(map(str, command)), check=True, user=user, cwd=folder, **quiet)

    control = (binaries / "pg_ctl", "-D", folder / "data")
    try:
        run(initdb, "-D", folder / "data", "--auth=trust", "--no-sync", "--encoding=UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        run(*control, "-w", "-o", options, "-l", folder / "server.log", "start")
        url = f"postgresql://{user}@/{{}}?host={folder}"
        with psycopg.connect(url.format("postgres")) as server:
            known = "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
            if server.execute(known).fetchone() is None:
                pytest.skip("pgvector is not installed")
        yield Postgres(url, lambda: run(*control, "-w", "-m", "fast", "-o", options, "restart"))
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_database(postgres_server):
    """``new_database(name)``: the URL of an empty database, gone after the test."""
    import psycopg

    names = []
    with psycopg.connect(postgres_server.format("postgres"), autocommit=True) as server:

        def make(name):
            names.append(name)
            server.execute(f"CREATE DATABASE {name}")
            return postgres_server.format(name)

        yield make
    # A test may have restarted the server.
    with psycopg.connect(postgres_server.format("postgres"), autocommit=True) as server:
        for name in names:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def path(tmp_path):
    """Of a store in SQLite."""
    return tmp_path / "people.db"


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, path):
    """A store that does not exist yet, in each kind of database."""
    if request.param == "sqlite":
        return path
    return request.getfixturevalue("new_database")("people")


@pytest.fixture
def store(where, encoder):
    with PeopleStore(where, encoder) as people:
        yield people
