"""Stores of many people: adding, searching, and whether the index finds whom a scan finds.

    python benchmarks/crowd.py --store postgresql://user@/people?host=/tmp --count 100000
    python benchmarks/crowd.py --store /tmp/people.db --count 100000

People are drawn from the mean and covariance of an encoder's cohort, their recordings around them
so that the cosine to their person is 0.6 in the median. The store must be empty.
"""

import argparse
import json
import time

import numpy as np
from safetensors.numpy import load_file

from speakervlad.encoder.location import find_encoder
from speakervlad.people.stores import open_store


def unit(vectors: np.ndarray) -> np.ndarray:
    """Float32 vectors of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def draw(count: int, encoder: str, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Unit vectors of people, and the standard deviation of a recording around its person."""
    state = load_file(find_encoder(encoder) / "cohort.safetensors")
    known = unit(next(iter(state.values())).astype(np.float64))
    mean, covariance = known.mean(axis=0), np.cov(known.T)
    factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(mean))).T
    parts = [
        unit(mean + rng.standard_normal((min(100_000, count - at), len(mean))) @ factor)
        for at in range(0, count, 100_000)
    ]
    # 1 / sqrt(1 + d s^2) = 0.6
    return np.concatenate(parts), float(np.sqrt((1 / 0.36 - 1) / len(mean)))


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


def main() -> None:
    """Measure one store of one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--encoder", default="default")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    people, spread = draw(given.count, given.encoder, rng)
    dim = people.shape[1]
    store = open_store(given.store, create=True)
    began = time.perf_counter()
    names = [f"person {number}" for number in range(given.count)]
    store.load(names, people, ("synthetic", given.encoder, dim))
    told: dict[str, object] = {"people": given.count, "load_s": time.perf_counter() - began}
    began = time.perf_counter()
    store.nearest(people[:1], 1)
    told["first_search_s"] = time.perf_counter() - began

    chosen = rng.integers(given.count, size=given.queries)
    own = unit(people[chosen] + spread * rng.standard_normal((given.queries, dim)))
    strangers, _ = draw(given.queries, given.encoder, rng)
    for kind, queries in (("own", own), ("strangers", strangers)):
        seconds, best = [], []
        for query in queries:
            began = time.perf_counter()
            ((match, *_),) = store.nearest(query[None], 10)
            seconds.append(time.perf_counter() - began)
            best.append((int(match.name.split()[1]), match.cosine))
        rows, cosines = exact(people, queries)
        found = np.array(best)
        told[kind] = {
            "median_ms": 1000 * float(np.median(seconds)),
            "p99_ms": 1000 * float(np.quantile(seconds, 0.99)),
            "same_as_scan": float((found[:, 0] == rows).mean()),
            "score_99": float(np.quantile(found[:, 1], 0.99)),
            "score_99_of_scan": float(np.quantile(cosines, 0.99)),
        }
    if given.store.startswith("postgres"):
        sizes = "SELECT pg_relation_size('voices'), pg_relation_size(to_regclass('voices_near'))"
        told["table_bytes"], told["index_bytes"] = store.run(sizes)[0]
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
