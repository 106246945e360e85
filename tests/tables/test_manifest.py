import pickle
import time

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.tables.manifest import Manifest, load_manifest, ranks_of, save_manifest

HEADER = "utterance_id,path,speaker,session,num_samples"
ROWS = ["u0,b/0.wav,b,b/s,16000", "u1,a/1.wav,a,a/s,32000", "u2,b/2.wav,b,b/t,48000"]


def write_csv(path, rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def assert_equal(ours, theirs):
    assert ours.root == theirs.root
    for name in ("utterance_ids", "paths", "speakers", "sessions"):
        assert list(getattr(ours, name)) == list(getattr(theirs, name))
    assert ours.extra.keys() == theirs.extra.keys()
    assert all(list(ours.extra[name]) == list(theirs.extra[name]) for name in ours.extra)
    np.testing.assert_array_equal(ours.num_samples, theirs.num_samples)


@pytest.fixture
def csv_path(tmp_path):
    return write_csv(tmp_path / "train.csv", ROWS)


def test_columns(csv_path):
    manifest = load_manifest(csv_path)
    assert len(manifest) == 3
    assert list(manifest.utterance_ids) == ["u0", "u1", "u2"]
    assert list(manifest.speakers) == ["b", "a", "b"]
    assert manifest.speakers[1] == "a"
    assert manifest.sessions[-1] == "b/t"
    assert manifest.speaker_names == ["a", "b"]
    assert manifest.speaker_indices.tolist() == [1, 0, 1]
    assert manifest.speaker_indices.dtype == np.int64
    assert manifest.num_samples.tolist() == [16000, 32000, 48000]
    assert manifest.path(2) == csv_path.parent / "b" / "2.wav"
    assert (manifest.speakers == "b").tolist() == [True, False, True]


def test_root_replaces_the_manifests_folder(csv_path, tmp_path):
    assert load_manifest(csv_path, root=tmp_path / "x").path(0) == tmp_path / "x" / "b" / "0.wav"


def test_column_order_and_extra_columns(tmp_path):
    path = write_csv(
        tmp_path / "m.csv",
        ["9,en,s,p0.wav,u0,z", "8,fr,s,p1.wav,u1,y"],
        "num_samples,language,session,path,utterance_id,speaker",
    )
    manifest = load_manifest(path)
    assert manifest.column("language").tolist() == ["en", "fr"]
    assert manifest.num_samples.tolist() == [9, 8]
    assert manifest.select([1]).column("language").tolist() == ["fr"]
    with pytest.raises(InputError, match=r"no column 'langage'\. Did you mean 'language'"):
        manifest.column("langage")


@pytest.mark.parametrize("names", [["plain"], ["com,ma", 'quo"te', "ünï", "new\nline", "普通话"]])
def test_save_and_load_keep_everything(tmp_path, names):
    manifest = Manifest.of(
        tmp_path,
        utterance_ids=names,
        paths=[f"{name}.wav" for name in names],
        speakers=names,
        sessions=[""] * len(names),
        num_samples=np.arange(1, len(names) + 1),
        extra={"corpus": names},
    )
    save_manifest(tmp_path / "out.csv", manifest)
    assert_equal(load_manifest(tmp_path / "out.csv"), manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    (tmp_path / "m.csv").write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([HEADER, *ROWS, "", ""]).encode()
    )
    assert load_manifest(tmp_path / "m.csv").sessions[2] == "b/t"


def test_saving_elsewhere_keeps_the_files(csv_path, tmp_path):
    make = csv_path.parent / "b" / "0.wav"
    make.parent.mkdir()
    make.touch()
    manifest = load_manifest(csv_path)
    save_manifest(tmp_path / "deeper" / "m.csv", manifest)
    assert load_manifest(tmp_path / "deeper" / "m.csv").path(0) == make
    nested = load_manifest(csv_path, root=tmp_path / "corpus")
    save_manifest(tmp_path / "m.csv", nested)
    assert nested.paths[0] == "b/0.wav"
    assert load_manifest(tmp_path / "m.csv").paths[0] == "corpus/b/0.wav"


def test_select_by_mask_and_by_number(csv_path):
    manifest = load_manifest(csv_path)
    chosen = manifest.select(manifest.num_samples < 40000)
    assert list(chosen.utterance_ids) == ["u0", "u1"]
    assert list(manifest.select(np.array([2, 0])).paths) == ["b/2.wav", "b/0.wav"]
    only_b = manifest.select([0, 2])
    assert only_b.speaker_names == ["b"]
    assert only_b.speaker_indices.tolist() == [0, 0]
    with pytest.raises(InputError, match="no row is left"):
        manifest.select(np.zeros(3, bool))


BAD_MANIFESTS = {
    "holds no utterances": (HEADER, []),
    r"missing column\(s\) speaker, num_samples; found utterance_id": (
        "utterance_id,path,session",
        ["u,p,s"],
    ),
    "line 4: 1 utterance id.* not unique: u0": (HEADER, [*ROWS[:2], ROWS[0]]),
    "line 3: num_samples is '1.5'": (HEADER, [ROWS[0], "u1,p,a,s,1.5"]),
    "line 3: num_samples is '0'": (HEADER, [ROWS[0], "u1,p,a,s,0"]),
    "line 2: num_samples is '-5'": (HEADER, ["u1,p,a,s,-5"]),
    "line 3: num_samples is ''": (HEADER, [ROWS[0], "u1,p,a,s,"]),
    r"line 3: path 'x/../../p' leaves the root": (HEADER, [ROWS[0], "u1,x/../../p,a,s,5"]),
    r"line 3: path '..\\\\p' leaves the root": (HEADER, [ROWS[0], "u1,..\\p,a,s,5"]),
    r"line 3: 4 field\(s\), the header has 5": (HEADER, [ROWS[0], "u1,p,a,5"]),
    r"column\(s\) speaker appear twice": (HEADER + ",speaker", ["u,p,a,s,5,b"]),
    "absolute path '/nowhere/a.wav' does not exist here": (HEADER, ["u,/nowhere/a.wav,a,s,5"]),
    "line 4: absolute path '/nowhere/a.wav'": (HEADER, [*ROWS[:2], "u,/nowhere/a.wav,a,s,5"]),
    r"line 3: absolute path 'C:\\\\data\\\\a.wav'": (HEADER, [ROWS[0], "u,C:\\data\\a.wav,a,s,5"]),
    "line 3: absolute path 'd:/data/a.wav'": (HEADER, [ROWS[0], "u,d:/data/a.wav,a,s,5"]),
    "line 3: path or speaker missing": (HEADER, [ROWS[0], "u1,p,,s,5"]),
    "line 2: path or speaker missing": (HEADER, ["u1,,a,s,5", ROWS[0]]),
}


@pytest.mark.parametrize("reason", BAD_MANIFESTS)
def test_bad_manifest_is_one_line(tmp_path, reason):
    header, rows = BAD_MANIFESTS[reason]
    with pytest.raises(InputError, match=reason) as caught:
        load_manifest(write_csv(tmp_path / "m.csv", rows, header))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "m.csv") in str(caught.value)


def test_absolute_paths_of_this_machine(tmp_path):
    (tmp_path / "shard-00000.pcm16").touch()
    names = ["shard-00000.pcm16@0+5", "deleted.wav", "deleted/0.wav"]
    rows = [f"u{number},{tmp_path / name},a,s,5" for number, name in enumerate(names)]
    manifest = load_manifest(write_csv(tmp_path / "m.csv", [*rows, "u,c:.wav,a,s,5"]))
    assert manifest.path(0) == tmp_path / names[0]


def test_dots_in_names_do_not_leave_the_root(tmp_path):
    path = write_csv(tmp_path / "m.csv", ["u,a..b/c...wav,a,s,5"])
    assert load_manifest(path).paths[0] == "a..b/c...wav"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad", b"PK\x03\x04"])
def test_not_a_csv(tmp_path, content):
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.csv"):
        load_manifest(tmp_path / "m.csv")


def test_missing_manifest(tmp_path):
    with pytest.raises(OSError, match=r"m\.csv"):
        load_manifest(tmp_path / "m.csv")


ALPHABETS = ["ab", "0123456789", "aä€\U0001f600", "\0a", ',"\n;']


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("seed", range(40))
def test_columns_behave_like_lists(tmp_path, seed, alphabet):
    rng = np.random.default_rng(seed)
    sizes = rng.integers((1, 3, 9, 20)[seed % 4] + 1, size=rng.integers(2, 60))
    texts = ["".join(rng.choice(list(alphabet), size)) for size in sizes]
    manifest = Manifest.of(
        tmp_path,
        utterance_ids=[f"{row}:{text}" for row, text in enumerate(texts)],
        paths=[f"p{text}" for text in texts],
        speakers=[f"s{text}" for text in texts],
        sessions=texts,
        num_samples=[5] * len(texts),
    )
    save_manifest(tmp_path / "m.csv", manifest)
    rows = rng.integers(len(texts), size=30)
    for sessions in (manifest.sessions, load_manifest(tmp_path / "m.csv").sessions):
        assert list(sessions) == texts
        assert [sessions[row] for row in range(-2, 2)] == [*texts[-2:], *texts[:2]]
        assert list(sessions[rows]) == [texts[row] for row in rows]
        assert list(pickle.loads(pickle.dumps(sessions))) == texts
        names = sorted(set(texts))
        assert [names[rank] for rank in ranks_of(sessions)] == texts
    assert [manifest.speaker_names[index][1:] for index in manifest.speaker_indices] == texts


def vox_like(folder, num_rows):
    rows = range(num_rows)
    sessions = [f"id{row // 200:05d}/v{row // 8:010x}" for row in rows]
    ids = [f"{session}/{row % 8:05d}" for row, session in zip(rows, sessions, strict=True)]
    return Manifest.of(
        folder,
        utterance_ids=ids,
        paths=[f"wav/{name}.wav" for name in ids],
        speakers=[f"id{row // 200:05d}" for row in rows],
        sessions=sessions,
        num_samples=np.arange(num_rows) % 50000 + 64000,
    )


def test_workers_receive_bytes_not_objects(tmp_path):
    """A row of VoxCeleb costs a worker about a hundred bytes: its text and five numbers."""
    manifest = vox_like(tmp_path, 20000)
    assert len(pickle.dumps(manifest)) < 120 * len(manifest)


@pytest.mark.slow
def test_a_million_rows(tmp_path, capsys):
    manifest = vox_like(tmp_path, 1_200_000)
    save_manifest(tmp_path / "m.csv", manifest)
    begin = time.perf_counter()
    loaded = load_manifest(tmp_path / "m.csv")
    seconds = time.perf_counter() - begin
    with capsys.disabled():
        print(f"\n1.2 M rows: {seconds:.1f} s, {len(pickle.dumps(loaded)) / 1e6:.0f} MB")
    assert_equal(loaded, manifest)
