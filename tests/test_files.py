import pytest

from speakervlad.errors import InputError
from speakervlad.files import atomic_path


def test_a_full_disk_names_the_file(tmp_path, full_disk):
    out = tmp_path / "a.bin"
    message = r"a\.bin: cannot be written \(File too large\)"
    with full_disk(1000), pytest.raises(InputError, match=message), atomic_path(out) as temporary:
        temporary.write_bytes(bytes(2000))
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_cannot_be_read_keeps_its_own_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"in\.bin"), atomic_path(tmp_path / "a.bin"):
        (tmp_path / "in.bin").read_bytes()
    assert list(tmp_path.iterdir()) == []
