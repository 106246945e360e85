"""Links are written through, pipes and devices are written to; nothing is put in their place."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from speakervlad.errors import InputError
from speakervlad.files import atomic_path, check_writable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names descriptors as Linux does")


def write(path, text="whole"):
    check_writable(path)
    with atomic_path(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("before", ["an earlier one", None])
def test_a_link_stays_and_its_target_is_replaced_at_once(tmp_path, before):
    target, link = tmp_path / "far" / "target.txt", tmp_path / "link.json"
    target.parent.mkdir()
    (tmp_path / "near.json").symlink_to("far/target.txt")
    link.symlink_to("near.json")
    if before is not None:
        target.write_text(before)
    with atomic_path(link) as temporary:
        assert (temporary.parent, temporary.suffix) == (target.parent, ".json")
        temporary.write_text("whole")
        assert target.exists() == (before is not None)
    assert link.is_symlink()
    assert target.read_text() == "whole"
    assert len(list(tmp_path.rglob("*"))) == 4


def test_what_a_killed_process_left_beside_the_target_is_removed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link.txt").symlink_to("far/target.txt")
    (tmp_path / "far" / ".target.12345678.txt").write_text("half")
    with atomic_path(tmp_path / "link.txt") as alive:
        write(tmp_path / "link.txt")
        assert alive.exists()
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["target.txt"]


def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "private.txt"
    path.touch(0o600)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_pipe_gets_everything_at_the_end(tmp_path):
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write(path)
    assert os.read(reader, 100) == b"whole"
    with pytest.raises(FileNotFoundError), atomic_path(path) as temporary:
        temporary.write_text((tmp_path / "absent").read_text())
    assert os.read(reader, 100) == b""
    os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_leaves_is_a_closed_pipe(tmp_path):
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    reader = subprocess.Popen(["head", "-c", "1", path], stdout=subprocess.DEVNULL)
    with reader, pytest.raises(BrokenPipeError), atomic_path(path) as temporary:
        temporary.write_bytes(bytes(10**7))


def test_a_device_is_written_to(tmp_path):
    ours, theirs = os.openpty()
    device = Path(os.ttyname(theirs))
    (tmp_path / "link.txt").symlink_to(device)
    for path in (device, tmp_path / "link.txt"):
        write(path)
        assert os.read(ours, 100) == b"whole"
    assert stat.S_ISCHR(device.stat().st_mode)
    os.close(ours)
    os.close(theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device, as root")
def test_root_puts_no_file_in_the_place_of_a_device(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this root makes no devices")
    write(path)
    assert stat.S_ISCHR(path.stat().st_mode)


def test_an_open_file_is_gone_on_with(tmp_path):
    with (tmp_path / "log.txt").open("w") as file:
        file.write("before\n")
        file.flush()
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{file.fileno()}")
        write(tmp_path / "link", "whole\n")
        file.write("after\n")
    assert (tmp_path / "log.txt").read_text() == "before\nwhole\nafter\n"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output(name, capfd):
    print("before")
    write(name, "whole\n")
    print("after")
    assert capfd.readouterr().out == "before\nwhole\nafter\n"


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    with (tmp_path / "read.txt").open("w+") as file:
        closed = f"/dev/fd/{file.fileno()}"
    for path, reason in (
        (tmp_path / "loop", "cannot be written"),
        (tmp_path / "socket", "is a socket"),
        (tmp_path / "nul\0", "cannot be written"),
        (tmp_path, "is a folder"),
        (tmp_path / "loop" / "below", "cannot be written"),
    ):
        with pytest.raises(InputError, match=reason):
            write(path)
    with pytest.raises(InputError, match="cannot be written"):
        write(closed)
    with pytest.raises(InputError, match=r"/dev/full: cannot be written \(No space left"):
        write("/dev/full")
