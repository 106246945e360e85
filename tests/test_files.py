import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speakervlad.errors import InputError
from speakervlad.files import atomic_path, exclusive, remove_stale


def test_a_full_disk_names_the_file(tmp_path, full_disk):
    out = tmp_path / "a.bin"
    message = r"a\.bin: cannot be written \(File too large\)"
    with full_disk(1000), pytest.raises(InputError, match=message), atomic_path(out) as temporary:
        temporary.write_bytes(bytes(2000))
    assert list(tmp_path.iterdir()) == []


def test_permissions_are_those_that_are_asked_for_before_the_name_is(tmp_path, monkeypatch):
    seen = []
    replace = Path.replace

    def replace_and_look(self, target):
        seen.append(self.stat().st_mode & 0o777)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_and_look)
    path = tmp_path / "secret"
    path.touch(0o644)
    with atomic_path(path, mode=0o600) as temporary:
        temporary.write_text("voices")
    assert seen == [0o600]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_input_that_cannot_be_read_keeps_its_own_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"in\.bin"), atomic_path(tmp_path / "a.bin"):
        (tmp_path / "in.bin").read_bytes()
    assert list(tmp_path.iterdir()) == []


HOLDER = """
import sys, time
from speakervlad.files import atomic_path, exclusive

with exclusive(sys.argv[1] + "/.lock", "taken"), atomic_path(sys.argv[1] + "/a.bin"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_dies_with_its_process_and_what_that_left_can_be_removed(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = pytest.raises(InputError, match=r"^taken by another$")
        with refused, exclusive(tmp_path / ".lock", "taken by another"):
            pytest.fail("two processes hold one lock")
        holder.send_signal(signal.SIGKILL)
    (tmp_path / "a.bin").write_bytes(b"an output")
    (tmp_path / ".ab.12345678.bin").write_bytes(b"of another output")
    assert len(list(tmp_path.glob(".a.*.bin"))) == 1
    for _ in range(2):
        with exclusive(tmp_path / ".lock", "taken by another"):
            remove_stale(tmp_path / "a.bin")
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {".lock"} == {"a.bin", ".ab.12345678.bin"}


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with exclusive(tmp_path / ".lock", "taken"):
        assert "has no locks; start no second process here" in caplog.text
