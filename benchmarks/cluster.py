"""What Ray costs: recordings a second by `embed`, and by `embed --engine ray` on this machine.

    python benchmarks/cluster.py FOLDER --files 400 --cores 2

Ray runs with as many workers as `embed` has streams. Both have computed some recordings before, so
that encoders are loaded. Processor times are those of all processes, Ray's own too (Linux).
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import ray  # pyright: ignore[reportMissingImports]

from speakervlad import load_encoder
from speakervlad.corpus.inputs import Recordings, from_folder
from speakervlad.encoder.cluster import Job, embed_on_ray
from speakervlad.encoder.location import find_encoder
from speakervlad.tables.interchange import load_embeddings


def processor_seconds() -> float:
    """Of this process and all that live below it."""
    above, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        process = int(path.parent.name)
        above[process], seconds[process] = int(fields[1]), sum(map(int, fields[11:13])) / 100
    total = 0.0
    for process, used in seconds.items():
        while process in above and process != os.getpid():
            process = above[process]
        total += used if process == os.getpid() else 0.0
    return total


class Clock:
    """Seconds and processor seconds that have passed."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), processor_seconds()

    def read(self) -> dict[str, float]:
        """Both so far."""
        wall, used = self.began
        return {"wall": time.perf_counter() - wall, "processor": processor_seconds() - used}


def main() -> None:
    """Measure both, turn by turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=25)
    parser.add_argument("--encoder", default="default")
    given = parser.parse_args()
    everything = from_folder(given.folder)
    order = np.random.default_rng(0).permutation(len(everything.ids))[: given.files]
    recordings = Recordings(
        [everything.ids[row] for row in order],
        [everything.paths[row].absolute() for row in order],
    )
    place = find_encoder(given.encoder).resolve()
    encoder = load_encoder(place, device="cpu")
    ray.init(num_cpus=given.cores, log_to_driver=False, logging_level="error")
    told = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.rounds + 1):
            clock = Clock()
            alone = encoder.embed_files(recordings.paths)
            plain, clock = clock.read(), Clock()
            job = Job(f"{folder}/{turn}", str(place), encoder.fingerprint)
            embed_on_ray(recordings, job, rows=given.rows)
            shared = clock.read()
            assert np.array_equal(load_embeddings(job.out).vectors, alone)
            if turn:  # the first is for loading
                told.append({"embed": plain, "ray": shared})
                print(json.dumps(told[-1]), flush=True)
    for way in ("embed", "ray"):
        wall, used = (np.median([each[way][kind] for each in told]) for kind in told[0][way])
        print(f"{way}: {given.files / wall:.1f} files a second, {1000 * used / given.files:.0f} ms "
              "of processor time each (medians)")  # fmt: skip


if __name__ == "__main__":
    main()
