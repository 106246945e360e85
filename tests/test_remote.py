"""Recordings by URL and in tar files: a server that fails now and then, S3, hostile archives."""

import io
import logging
import socket
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from speakervlad import Recording, remote
from speakervlad.corpus.inputs import from_archive, from_list, from_manifest, from_parquet
from speakervlad.errors import InputError
from speakervlad.tables.interchange import load_embeddings


@pytest.fixture
def run(run):
    yield run
    remote.allow_private(False)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def private():
    remote.allow_private(True)
    yield
    remote.allow_private(False)


@pytest.fixture
def encoder(save_tiny_encoder, tmp_path):
    return save_tiny_encoder(tmp_path / "encoder")


class Handler(BaseHTTPRequestHandler):
    """Answers with ``server.files``; ``server.plan`` says what becomes of the next requests."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        # "down" is down for both requests that a file is asked for by.
        is_down = self.server.plan[:1] == ["down"]
        self.answer(503 if is_down else "right", is_whole=False)

    def do_GET(self):
        plan = self.server.plan
        step = plan.pop(0) if plan else "right"
        self.answer(503 if step == "down" else step, is_whole=True)

    def answer(self, step, *, is_whole):
        self.server.asked.append((self.command, self.path))
        content = self.server.files.get(self.path.split("?")[0])
        if isinstance(step, int) or content is None:
            return self.begin(step if isinstance(step, int) else 404, b"")
        if isinstance(content, str):
            return self.begin(302, b"", location=content)
        self.begin(200, content)
        if step == "cut":
            content, self.close_connection = content[: len(content) // 2], True
        return self.wfile.write(content) if is_whole else None

    def begin(self, status, content, **headers):
        self.send_response(status)
        for name, value in ({"content-length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def served():
    """``served(files, plan)``: URL of a server; ``served.asked`` is what it was asked."""
    pytest.importorskip("aiohttp", reason="needs the extra remote")
    pytest.importorskip("fsspec", reason="needs the extra remote")
    servers = []

    def serve(files, plan=()):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.files, server.plan, server.asked = files, list(plan), []
        serve.asked = server.asked
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def wav(make_wav, tmp_path):
    return make_wav(tmp_path / "a.wav", 1.5)


def pack(path, members):
    """A tar file of names and contents; None makes a link."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://h/a.wav", "https://h/a.wav"),
        (Path("https://h/a//b.wav"), "https://h/a/b.wav"),
        (Path("s3://bucket") / "x.wav", "s3://bucket/x.wav"),
        (Path("tar://a/b.wav::https://h/c.tar"), "tar://a/b.wav::https://h/c.tar"),
        ("a.wav", None),
        ("c:/a.wav", None),
        ("http:", None),
        (b"https://h/a.wav", None),
    ],
)
def test_urls_are_told_from_paths(given, expected):
    assert remote.location_of(given) == expected


LOCAL = """
import sys
from pathlib import Path
import speakervlad.encoder.encoder
from speakervlad.audio.recording import Recording
from speakervlad.corpus.inputs import from_names
(path,) = from_names(sys.argv[1:], Path()).paths
assert Recording(path).wave.num_samples == 24000
assert "speakervlad.remote" not in sys.modules
"""


def test_a_local_file_needs_nothing_of_what_fetches(wav):
    command = [sys.executable, "-c", LOCAL, str(wav)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_kinds_of_urls_are_refused(run, encoder, tmp_path, capsys):
    with pytest.raises(InputError, match=r"ftp:// is not read\. Known: https://"):
        Recording("ftp://h/a.wav")
    given = ("--encoder", encoder, "--out", tmp_path / "E.npz")
    assert run("embed", "gs://bucket/a.wav", *given) == 2
    assert "gs:// is not read" in capsys.readouterr().err


def test_a_host_that_is_not_there():
    pytest.importorskip("aiohttp", reason="needs the extra remote")
    with pytest.raises(InputError, match=r"after 4 tries \(no connection: .+\)"):
        _ = Recording("https://no-such-host.invalid/a.wav").whole


def test_credentials_are_not_shown():
    url = "tar://a.wav::https://me:secret@h/a.tar?X-Amz-Signature=secret#secret"
    assert remote.shown(url) == "tar://a.wav::https://h/a.tar"


def test_a_recording_by_url_is_the_file(served, private, wav):
    url = served({"/a.wav": wav.read_bytes()})
    found = Recording(f"{url}/a.wav").whole
    whole = Recording(wav).whole
    assert np.array_equal(found.read(0, found.num_samples), whole.read(0, whole.num_samples))


@pytest.mark.parametrize("plan", [[503, 500], ["cut"], [429, "cut", 503], ["down"] * 3])
def test_a_server_that_fails_now_and_then(served, private, wav, plan, caplog):
    caplog.set_level(logging.INFO)
    url = served({"/a.wav": wav.read_bytes()}, plan)
    assert Recording(f"{url}/a.wav?token=secret").seconds == 1.5
    assert "tried again" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("plan", "problem", "count"),
    [
        ([500] * 9, "after 4 tries (the server answers 500)", 4),
        (["down"] * 9, "after 4 tries (the server answers 503)", 4),
        ([403] * 9, "answers 403", 1),
    ],
)
def test_a_server_that_fails_for_good(served, private, plan, problem, count):
    url = served({"/a.wav": b"x"}, plan)
    with pytest.raises(InputError) as caught:
        _ = Recording(f"{url}/a.wav?token=secret").whole
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)
    assert sum(method == "GET" for method, _ in served.asked) == count


def test_what_is_not_there_is_asked_for_once(served, private):
    url = served({})
    with pytest.raises(InputError, match=r"/none\.wav: cannot be read \(no such file\)"):
        _ = Recording(f"{url}/none.wav").whole
    assert len(served.asked) <= 2


def test_errors_of_decoding_name_the_url(served, private):
    url = served({"/a.wav": b"no sound at all"})
    with pytest.raises(InputError) as caught:
        _ = Recording(f"{url}/a.wav").whole
    assert f"{url}/a.wav" in str(caught.value)
    assert "speakervlad." not in str(caught.value)


def test_private_addresses_need_the_flag(served, wav):
    url = served({"/a.wav": wav.read_bytes()})
    for host in (url, url.replace("127.0.0.1", "localhost")):
        with pytest.raises(InputError, match="private network; --allow-private"):
            _ = Recording(f"{host}/a.wav").whole
    assert served.asked == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.169.254", "::1", "fe80::1%eth0", "0.0.0.0",
     "::ffff:127.0.0.1", "100.64.0.1", "fd00::1"],
)  # fmt: skip
def test_addresses_of_private_networks(address):
    with pytest.raises(remote.RefusedError):
        remote.check_address(address)
    remote.check_address("93.184.216.34")


def test_redirects_are_checked_too(served, wav, monkeypatch):
    """The first server counts as public here, and leads to a private address."""
    inner = served({"/a.wav": wav.read_bytes()})
    asked = served.asked
    outer = served({"/a.wav": f"{inner}/a.wav"})
    ports = {int(outer.rpartition(":")[2])}
    original = remote._public_socket

    def socket_of(address):
        if address[-1][1] in ports:
            return socket.socket(family=address[0], type=address[1], proto=address[2])
        return original(address)

    monkeypatch.setattr(remote, "_public_socket", socket_of)
    with pytest.raises(InputError, match="private network"):
        _ = Recording(f"{outer}/a.wav").whole
    assert asked == []


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_members_of_an_archive(wav, tmp_path, suffix):
    archive = pack(tmp_path / f"c{suffix}", {"x/a.wav": wav.read_bytes(), "x/note.txt": b"."})
    recordings = from_archive(str(archive))
    assert recordings.ids == ["x/a.wav"]
    assert recordings.audio(0).seconds == 1.5
    assert Recording(f"tar://x/a.wav::{archive}").seconds == 1.5
    with pytest.raises(InputError, match="no such member"):
        _ = Recording(f"tar://x/b.wav::{archive}").whole


@pytest.mark.parametrize(
    "name", ["../a.wav", "/etc/a.wav", "x/../../a.wav", "..\\a.wav", "C:/a.wav"]
)
def test_members_outside_of_an_archive_are_refused(wav, tmp_path, name):
    archive = pack(tmp_path / "c.tar", {"x/a.wav": wav.read_bytes(), name: wav.read_bytes()})
    with pytest.raises(InputError, match=r"absolute names or `\.\.`"):
        from_archive(str(archive))
    with pytest.raises(InputError, match=r"absolute names or `\.\.`"):
        _ = Recording(f"tar://{name}::{archive}").whole


def test_links_in_an_archive_are_no_recordings(wav, tmp_path):
    archive = pack(tmp_path / "c.tar", {"a.wav": None, "b.wav": wav.read_bytes()})
    assert from_archive(str(archive)).ids == ["b.wav"]
    with pytest.raises(InputError, match="is a link"):
        _ = Recording(f"tar://a.wav::{archive}").whole
    (tmp_path / "d.tar").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"d\.tar: no tar file"):
        from_archive(str(tmp_path / "d.tar"))


def test_a_member_of_a_remote_archive(served, private, wav, tmp_path):
    archive = pack(tmp_path / "c.tar", {"a.wav": wav.read_bytes()})
    url = served({"/c.tar": archive.read_bytes()})
    assert Recording(f"tar://a.wav::{url}/c.tar").seconds == 1.5


def test_a_manifest_needs_paths_alone(wav, tmp_path):
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    recordings = from_manifest(tmp_path / "m.csv")
    assert recordings.ids == ["a.wav"]
    assert recordings.audio(0).seconds == 1.5
    (tmp_path / "m.csv").write_text("file\na.wav\n")
    with pytest.raises(InputError, match=r"missing column\(s\) path"):
        from_manifest(tmp_path / "m.csv")


def test_a_manifest_in_parquet(wav, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": ["a.wav", "s3://b/c.wav"]}), tmp_path / "m.parquet")
    recordings = from_parquet(tmp_path / "m.parquet")
    assert recordings.ids == ["a.wav", "s3://b/c.wav"]
    assert recordings.audio(0).seconds == 1.5
    parquet.write_table(pyarrow.table({"file": ["a.wav"]}), tmp_path / "n.parquet")
    with pytest.raises(InputError, match="columns file: no path"):
        from_parquet(tmp_path / "n.parquet")
    (tmp_path / "n.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="no Parquet file"):
        from_parquet(tmp_path / "n.parquet")


def test_a_plain_list_of_paths(wav, tmp_path):
    (tmp_path / "with space.wav").write_bytes(wav.read_bytes())
    listed = tmp_path / "list.txt"
    listed.write_text("a.wav\nwith space.wav\nhttps://h/a.wav?secret=1\n\n")
    recordings = from_list(listed)
    assert recordings is not None
    assert recordings.ids == ["a.wav", "with space.wav", "https://h/a.wav"]
    listed.write_text("a.wav b.wav 1\n")
    assert from_list(listed) is None
    listed.write_text("a.wav\nnone.wav\n")
    with pytest.raises(InputError, match=r"none\.wav"):
        from_list(listed)


def test_embed_takes_urls_lists_and_archives(run, served, encoder, wav, tmp_path, capsys):
    archive = pack(tmp_path / "c.tar", {"x.wav": wav.read_bytes()})
    url = served({
        "/a.wav": wav.read_bytes(),
        "/c.tar": archive.read_bytes(),
        "/m.csv": b"path\na.wav\n",
        "/l.txt": b"a.wav\n",
    })  # fmt: skip
    mine = ("--encoder", encoder, "--out", tmp_path / "E.npz")
    (tmp_path / "m.csv").write_text(f"utterance_id,path\nu,{url}/a.wav\nv,a.wav\n")
    assert run("embed", wav, *mine) == 0
    expected = load_embeddings(tmp_path / "E.npz").vectors[0]
    for given, ids in (
        (f"{url}/a.wav", [f"{url}/a.wav"]),
        (archive, ["x.wav"]),
        (f"{url}/c.tar", ["x.wav"]),
        (f"{url}/m.csv", ["a.wav"]),
        (f"{url}/l.txt", ["a.wav"]),
        (tmp_path / "m.csv", ["u", "v"]),
    ):
        assert run("--allow-private", "embed", given, *mine) == 0
        found = load_embeddings(tmp_path / "E.npz")
        assert found.ids.tolist() == ids
        np.testing.assert_array_equal(found.vectors, np.stack([expected] * len(ids)))
    assert run("embed", f"{url}/a.wav", *mine) == 2
    assert "--allow-private" in capsys.readouterr().err


def test_answers_name_urls_without_what_is_secret(run, served, wav, tmp_path, capsys):
    url = f"{served({'/a.wav': wav.read_bytes()})}/a.wav"
    for options in ((), ("--json",), ("--rttm",), ("--labels",)):
        assert run("--allow-private", "speech", f"{url}?token=very.secret", *options) == 0
        said = capsys.readouterr()
        assert "secret" not in said.out + said.err
        if options in ((), ("--json",)):
            assert url in said.out


@pytest.fixture
def bucket(monkeypatch, wav):
    """An S3 server of moto with a bucket; boto3's client of it."""
    pytest.importorskip("s3fs", reason="needs the extra remote")
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3")
    served = server.ThreadedMotoServer(port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "known",
        "AWS_SECRET_ACCESS_KEY": "verysecret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="x/a.wav", Body=wav.read_bytes())
    yield client
    served.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_s3(run, bucket, encoder, wav, tmp_path, capsys):
    archive = pack(tmp_path / "c.tar", {"t.wav": wav.read_bytes()})
    bucket.put_object(Bucket="bucket", Key="c.tar", Body=archive.read_bytes())
    bucket.put_object(Bucket="bucket", Key="m.csv", Body=b"path\nx/a.wav\n")
    mine = ("--encoder", encoder, "--out", tmp_path / "E.npz")
    assert run("embed", wav, *mine) == 0
    expected = load_embeddings(tmp_path / "E.npz").vectors
    for given in ("s3://bucket/x/a.wav", "s3://bucket/m.csv", "s3://bucket/c.tar"):
        assert run("embed", given, *mine) == 0
        np.testing.assert_array_equal(load_embeddings(tmp_path / "E.npz").vectors, expected)
    bucket.delete_object(Bucket="bucket", Key="x/a.wav")
    assert run("embed", "s3://bucket/m.csv", "s3://bucket/m.csv", *mine) == 2
    assert run("embed", "s3://bucket/x/a.wav", *mine) == 2
    said = capsys.readouterr().err
    assert "s3://bucket/x/a.wav: cannot be read (no such file)" in " ".join(said.split())
    assert "verysecret" not in said
