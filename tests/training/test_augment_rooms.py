import numpy as np
import pytest

from speakervlad.audio.spans import load_audio
from speakervlad.errors import InputError
from speakervlad.tables.manifest import load_manifest, save_manifest

pytest.importorskip("pyroomacoustics")

from speakervlad.training.sources import RoomSource


@pytest.fixture(scope="module")
def rooms(load_script):
    return load_script("recipes/augmentation/rooms.py")


def decay_seconds(response):
    """Time of a 60 dB decay, from the -5 to -25 dB of Schroeder's integral."""
    energy = np.cumsum(np.square(response[::-1].astype(float)))[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-12)
    return 3 * float((level < -25).argmax() - (level < -5).argmax()) / 16000


def test_rooms_ring_as_long_as_rooms_do(rooms):
    seconds = [decay_seconds(rooms.simulate_room(np.random.default_rng(n))) for n in range(6)]
    shortest, longest = rooms.REVERB_SECONDS
    assert all(0.3 * shortest < value < 2 * longest for value in seconds)
    assert max(seconds) > 1.5 * min(seconds)


def test_a_bank_is_a_manifest_and_a_larger_one_contains_it(rooms, tmp_path):
    small = rooms.simulate_rooms(tmp_path / "small", num_rooms=2, num_workers=0)
    large = rooms.simulate_rooms(tmp_path / "large", num_rooms=3, num_workers=0)
    save_manifest(tmp_path / "small/manifest.csv", small)
    again = load_manifest(tmp_path / "small/manifest.csv")
    for row in range(2):
        np.testing.assert_array_equal(load_audio(again.path(row)), load_audio(large.path(row)))
    response = RoomSource(again, 4000).draw(np.random.default_rng(0))
    assert np.abs(response).max() == pytest.approx(1)


def test_the_recipe_writes_a_bank_and_its_manifest(rooms, tmp_path, capsys):
    rooms.main(tmp_path / "bank", count=2, seed=0, workers=0)
    assert "2 rooms" in capsys.readouterr().err
    assert len(load_manifest(tmp_path / "bank/manifest.csv")) == 2


def test_a_full_disk_is_one_line_and_leaves_no_cut_room(rooms, tmp_path, full_disk):
    with full_disk(2000), pytest.raises(InputError, match=r"room000000\.wav: cannot be written"):
        rooms.simulate_rooms(tmp_path, num_rooms=1, num_workers=0)
    assert list(tmp_path.iterdir()) == []
