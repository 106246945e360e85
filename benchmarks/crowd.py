"""Stores of many people: adding, searching, and whether the index finds whom a scan finds.

    python benchmarks/crowd.py --store postgresql://user@/people?host=/tmp --count 100000
    python benchmarks/crowd.py --store /tmp/people.db --count 100000

People are drawn from the mean and covariance of an encoder's cohort, their recordings around them
so that the cosine to their person is 0.6 in the median. The store must be empty. Thresholds are
those of `identify`, from the encoder's own cohort; `--strangers E.npz` are embeddings of real
people who are asked for as well.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.location import find_encoder
from speakervlad.people.cohort import load_cohort
from speakervlad.people.matching import Matcher
from speakervlad.people.sql import SqlStore
from speakervlad.people.stores import open_store
from speakervlad.scoring.scoring import unit_vectors
from speakervlad.tables.interchange import load_embeddings

# As `identify` asks.
RATES = (0.01, 0.05)
TOP = 20
TICKS = 100


def unit(vectors: np.ndarray) -> np.ndarray:
    """Float32 vectors of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def draw(known: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors of people with the mean and covariance of known ones."""
    known = known.astype(np.float64)
    mean, covariance = known.mean(axis=0), np.cov(known.T)
    factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(mean))).T
    parts = [
        unit(mean + rng.standard_normal((min(100_000, count - at), len(mean))) @ factor)
        for at in range(0, count, 100_000)
    ]
    return np.concatenate(parts)


def recordings_of(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A recording of each of some people."""
    dim = people.shape[1]
    # 1 / sqrt(1 + d s^2) = 0.6
    spread = np.sqrt((1 / 0.36 - 1) / dim)
    return unit(people + spread * rng.standard_normal(people.shape))


def exact(people: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and cosine of the nearest of all people to each query."""
    best, row = np.full(len(queries), -2.0), np.zeros(len(queries), int)
    for at in range(0, len(people), 50_000):
        cosines = queries @ people[at : at + 50_000].T
        found = cosines.max(axis=1)
        better = found > best
        row[better] = at + cosines.argmax(axis=1)[better]
        best = np.maximum(best, found)
    return row, best


class Clock:
    """Seconds that pass, and those of the processor here and in the server of the store.

    The server's are read where it runs on this machine, under Linux.
    """

    def __init__(self, store: SqlStore) -> None:
        self.stat = None
        if "postgresql" in store.where:
            ((process,),) = store.run("SELECT pg_backend_pid()")
            self.stat = Path(f"/proc/{process}/stat")

    def read(self) -> np.ndarray:
        """(2,) wall and processor."""
        served = 0.0
        if self.stat is not None and self.stat.is_file():
            user, system = self.stat.read_text().rpartition(")")[2].split()[11:13]
            served = (int(user) + int(system)) / TICKS
        return np.array([time.perf_counter(), time.process_time() + served])


def search(store: SqlStore, clock: Clock, queries: np.ndarray) -> tuple[np.ndarray, dict]:
    """Row and cosine of the nearest to each query, one by one, and how long that took."""
    seconds, best, began = [], [], clock.read()
    for query in queries:
        start = time.perf_counter()
        ((match, *_),) = store.nearest(query[None], TOP)
        seconds.append(time.perf_counter() - start)
        best.append((int(match.name.split()[1]), match.cosine))
    _, used = clock.read() - began
    told = {
        "median_ms": 1000 * float(np.median(seconds)),
        "p99_ms": 1000 * float(np.quantile(seconds, 0.99)),
        "processor_ms": 1000 * used / len(queries),
    }
    return np.array(best), told


def thresholds(store: SqlStore, encoder: Encoder) -> dict[float, float]:
    """As `identify` takes them, by rate."""
    assert encoder.folder is not None
    assert encoder.fingerprint is not None
    cohort = load_cohort(encoder.folder, encoder.fingerprint)
    known = encoder.thresholds
    matcher = Matcher(
        store,
        cohort.vectors,
        encoder.calibration,
        lambda rate: None if known is None else known.near(rate),
    )
    return {rate: matcher.threshold(rate) for rate in RATES}


def measure(
    store: SqlStore, people: np.ndarray, asked: dict[str, np.ndarray], encoder: Encoder
) -> dict[str, object]:
    """Time, recall and rates of recordings by kind; those of enrolled people are `own`."""
    clock = Clock(store)
    began = clock.read()
    store.nearest(people[:1], 1)
    wall, used = clock.read() - began
    told: dict[str, object] = {"first_search_s": wall, "first_search_processor_s": used}
    began = clock.read()
    levels = thresholds(store, encoder)
    told["thresholds_s"], told["thresholds_processor_s"] = clock.read() - began
    told["thresholds"] = levels
    for kind, queries in asked.items():
        found, times = search(store, clock, queries)
        rows, cosines = exact(people, queries)
        named = {rate: float((cosines >= level).mean()) for rate, level in levels.items()}
        told[kind] = {
            "queries": len(queries),
            **times,
            "same_as_scan": float((found[:, 0] == rows).mean()),
            "largest_loss": float((cosines - found[:, 1]).max()),
            "named_by_rate": named,
        }
    return told


def main() -> None:
    """Measure one store of one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--strangers", type=Path)
    parser.add_argument("--filled", action="store_true", help="by an earlier run of this size")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    encoder = load_encoder(find_encoder(given.encoder))
    assert encoder.folder is not None
    assert encoder.fingerprint is not None
    known = load_cohort(encoder.folder, encoder.fingerprint).vectors
    people = draw(known, given.count, rng)
    chosen = rng.integers(given.count, size=given.queries)
    asked = {
        "own": recordings_of(people[chosen], rng),
        "strangers": draw(known, given.queries, rng),
    }
    if given.strangers:
        asked["real strangers"] = unit_vectors(load_embeddings(given.strangers))

    store = open_store(given.store, create=True)
    told: dict[str, object] = {"people": given.count}
    if not given.filled:
        names = [f"person {number}" for number in range(given.count)]
        began = Clock(store).read()
        store.load(names, people, ("synthetic", given.encoder, people.shape[1]))
        told["load_s"], told["load_processor_s"] = Clock(store).read() - began
    told |= measure(store, people, asked, encoder)
    if given.store.startswith("postgres"):
        sizes = "SELECT pg_relation_size('voices'), pg_relation_size(to_regclass('voices_near'))"
        told["table_bytes"], told["index_bytes"] = store.run(sizes)[0]
    else:
        told["file_bytes"] = Path(given.store).stat().st_size
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
