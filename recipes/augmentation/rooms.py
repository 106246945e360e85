"""Simulated room impulse responses, for ``augment.rir_manifest``.

    python recipes/augmentation/rooms.py data/rooms --count 2000

writes one wav a room and ``data/rooms/manifest.csv``. Needs ``pip install -e ".[rooms]"``.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from speakervlad.audio.writing import write_audio
from speakervlad.cli.console import notes
from speakervlad.cli.recipe import run_recipe
from speakervlad.corpus.work import map_parallel
from speakervlad.extras import require
from speakervlad.files import check_writable
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.manifest import Manifest, save_manifest

# Simulated rooms, in metres: width and length, height, distance from walls.
FLOOR, HEIGHT, WALL_DISTANCE = (3.0, 10.0), (2.5, 4.0), 0.5
REVERB_SECONDS = (0.15, 0.6)
# Reflections beyond this order are hardly heard and cost cubically.
MAX_ORDER = 30


def simulate_rooms(
    folder: str | Path,
    *,
    num_rooms: int,
    seed: int = 0,
    num_workers: int | None = None,
) -> Manifest:
    """Write impulse responses of shoebox rooms (image sources; Allen and Berkley 1979).

    Room n depends on ``(seed, n)`` alone, so a larger bank contains the smaller one.

    Args:
        folder: made when missing; the root of the manifest.
        num_rooms: responses, one a room.
        seed: key of all randomness.
        num_workers: processes; one per core when None.

    Raises:
        InputError: pyroomacoustics is not installed, or ``folder`` cannot be written.
    """
    require("pyroomacoustics", "rooms", "simulating rooms")
    folder = Path(folder)
    check_writable(folder / "room.wav")
    names = [f"room{number:06d}" for number in range(num_rooms)]
    lengths = map_parallel(
        partial(_write_room, folder, seed),
        range(num_rooms),
        num_workers=num_workers,
        description="Simulating rooms",
    )
    return Manifest.of(
        folder,
        utterance_ids=names,
        paths=[f"{name}.wav" for name in names],
        speakers=names,
        sessions=names,
        num_samples=lengths,
    )


def _write_room(folder: Path, seed: int, number: int) -> int:
    """Simulate one room; return the length of its response in samples."""
    response = simulate_room(np.random.default_rng((seed, number)))
    write_audio(folder / f"room{number:06d}.wav", response, subtype="FLOAT")
    return len(response)


def simulate_room(rng: np.random.Generator) -> np.ndarray:
    """A random room, speaker and microphone: float32 (samples,), peak 1."""
    return simulate_places(rng, 1)[0]


def simulate_places(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """A random room and microphone, and ``count`` places of speakers: float32 (samples,), peak 1.

    Raises:
        InputError: pyroomacoustics is not installed.
    """
    require("pyroomacoustics", "rooms", "simulating rooms")
    import pyroomacoustics

    size = np.array([*rng.uniform(*FLOOR, 2), rng.uniform(*HEIGHT)])
    seconds = rng.uniform(*REVERB_SECONDS)
    # Sabine's formula: 0.161 V / (S T); a large room cannot ring shorter than with bare openings.
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    absorption = min(0.161 * size.prod() / (surface * seconds), 0.95)
    order = min(int(np.ceil(343 * seconds / size.min())), MAX_ORDER)
    room = pyroomacoustics.ShoeBox(
        size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    room.add_source(rng.uniform(WALL_DISTANCE, size - WALL_DISTANCE))
    room.add_microphone(rng.uniform(WALL_DISTANCE, size - WALL_DISTANCE))
    for _ in range(count - 1):
        room.add_source(rng.uniform(WALL_DISTANCE, size - WALL_DISTANCE))
    room.compute_rir()
    assert room.rir is not None
    longest = int(2 * REVERB_SECONDS[1] * SAMPLE_RATE)
    responses = (np.asarray(response)[:longest] for response in room.rir[0])
    return [(one / np.abs(one).max()).astype(np.float32) for one in responses]


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the responses and their manifest.csv.")],
    count: Annotated[int, typer.Option(min=1, help="Rooms.")] = 2000,
    seed: Annotated[int, typer.Option(help="Key of all randomness.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; one per core by default.")
    ] = None,
) -> None:
    """Simulate room impulse responses."""
    manifest = simulate_rooms(out, num_rooms=count, seed=seed, num_workers=workers)
    save_manifest(out / "manifest.csv", manifest)
    notes.print(f"{len(manifest)} rooms: {out / 'manifest.csv'}")


if __name__ == "__main__":
    run_recipe(main)
