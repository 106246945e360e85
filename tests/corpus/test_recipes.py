import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from speakervlad.errors import InputError
from speakervlad.tables.manifest import load_manifest

RECIPES = Path(__file__).parents[2] / "recipes"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_recipe", RECIPES / name / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def voxceleb(tmp_path, make_wav, monkeypatch):
    """The recipe with a tiny part of two pieces, as the real one has."""
    for name in ("id00012/abc/00001", "id00012/def/00002", "id00013/ghi/00001"):
        make_wav(tmp_path / "raw" / "dev" / "aac" / f"{name}.wav", 0.5)
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for path in (tmp_path / "raw").rglob("*.wav"):
            archive.write(path, path.relative_to(tmp_path / "raw"))
    whole = (tmp_path / "whole.zip").read_bytes()
    pieces = {"tiny_partaa": whole[:20000], "tiny_partab": whole[20000:]}
    (tmp_path / "archives").mkdir()
    for name, content in pieces.items():
        (tmp_path / "archives" / name).write_bytes(content)
    module = load("voxceleb")
    sums = {name: hashlib.md5(content).hexdigest() for name, content in pieces.items()}
    monkeypatch.setattr(module, "PARTS", {"tiny": module.Part(sums, 3, 2)})
    return module


def test_voxceleb_from_pieces_to_manifest(voxceleb, tmp_path):
    voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    manifest = load_manifest(tmp_path / "out" / "tiny.csv")
    assert manifest.utterance_ids[0] == "id00012/abc/00001"
    assert manifest.speaker_names == ["id00012", "id00013"]
    assert manifest.path(0).suffix == ".flac"
    assert manifest.path(0).exists()
    assert not (tmp_path / "out" / "tiny.zip").exists()
    before = manifest.path(0).stat().st_mtime_ns
    voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    assert manifest.path(0).stat().st_mtime_ns == before


def test_voxceleb_archives_missing_or_damaged(voxceleb, tmp_path):
    piece = tmp_path / "archives" / "tiny_partab"
    content = piece.read_bytes()
    piece.write_bytes(content[:-1])
    with pytest.raises(
        InputError, match=r"1 archive.* MD5 sum .*: tiny_partab \(.*, expected .*\)"
    ):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checked"]
    piece.unlink()
    with pytest.raises(InputError, match="1 of 2 archives of tiny are missing: tiny_partab"):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    with pytest.raises(InputError, match="Did you mean 'tiny'"):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", part=["tinny"])


def test_voxceleb_checks_all_parts_before_any_work_and_once(voxceleb, tmp_path, monkeypatch):
    (tmp_path / "archives" / "other.zip").write_bytes(b"damaged")
    monkeypatch.setitem(voxceleb.PARTS, "other", voxceleb.Part({"other.zip": "0"}, 3, 2))
    with pytest.raises(InputError, match=r"1 archive.*: other\.zip \("):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checked"]
    hashed = []
    monkeypatch.setattr(voxceleb.hashlib, "md5", lambda **_: hashed.append(1))
    voxceleb.main(tmp_path / "archives", tmp_path / "out", part=["tiny"], workers=0)
    assert hashed == []
    assert len(load_manifest(tmp_path / "out" / "tiny.csv")) == 3


def test_voxceleb_checks_the_format_first(voxceleb, tmp_path):
    with pytest.raises(InputError, match=r"unknown format 'flak'"):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", file_format="flak")
    assert not (tmp_path / "out").exists()


def test_voxceleb_that_is_unpacked_already(voxceleb, tmp_path, monkeypatch):
    out, raw = tmp_path / "out", tmp_path / "raw"
    with pytest.raises(InputError, match="--unpacked: which part"):
        voxceleb.main(raw, out, unpacked=True)
    voxceleb.main(raw, out, part=["tiny"], unpacked=True, workers=0)
    manifest = load_manifest(out / "tiny.csv")
    assert len(manifest) == 3
    assert manifest.path(0) == out / "tiny" / "dev" / "aac" / "id00012" / "abc" / "00001.flac"
    part = voxceleb.PARTS["tiny"]._replace(num_speakers=3)
    monkeypatch.setitem(voxceleb.PARTS, "tiny", part)
    with pytest.raises(InputError, match=r"3 utterances of 2 speakers, published are 3 of 3"):
        voxceleb.main(raw, tmp_path / "other", part=["tiny"], unpacked=True, workers=0)
    assert not (tmp_path / "other").exists()


def test_voxceleb_on_a_full_disk(voxceleb, tmp_path, full_disk):
    with full_disk(30000), pytest.raises(InputError, match=r"tiny\.zip: cannot be written"):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    voxceleb.join(tmp_path / "archives", tmp_path / "t.zip", voxceleb.PARTS["tiny"].pieces)
    with full_disk(10000), pytest.raises(InputError, match=r"0000\d\.wav: cannot be written"):
        voxceleb.unpack(tmp_path / "t.zip", tmp_path / "new")
    voxceleb.unpack(tmp_path / "t.zip", tmp_path / "new")
    assert {path.stat().st_size for path in (tmp_path / "new").rglob("*.wav")} == {16044}


def test_voxceleb_with_utterances_missing(voxceleb, tmp_path, monkeypatch):
    part = voxceleb.PARTS["tiny"]._replace(num_utterances=4)
    monkeypatch.setitem(voxceleb.PARTS, "tiny", part)
    with pytest.raises(InputError, match="tiny: 3 utterances of 2 speakers, published are 4 of 2"):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    assert not (tmp_path / "out" / "tiny.csv").exists()


def test_voxceleb_goes_on_without_archives_that_are_unpacked(voxceleb, tmp_path, monkeypatch):
    voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    (tmp_path / "out" / "tiny.csv").unlink()
    monkeypatch.setitem(voxceleb.PARTS, "other", voxceleb.Part({"other.zip": "0"}, 3, 2))
    for piece in (tmp_path / "archives").iterdir():
        piece.unlink()
    with pytest.raises(InputError, match=r"1 of 1 archives of other are missing: other\.zip"):
        voxceleb.main(tmp_path / "archives", tmp_path / "out", workers=0)
    shutil.rmtree(tmp_path / "out" / "archive")
    voxceleb.main(tmp_path / "archives", tmp_path / "out", part=["tiny"], workers=0)
    assert len(load_manifest(tmp_path / "out" / "tiny.csv")) == 3


def test_voxceleb_lists_bad_files(voxceleb, tmp_path):
    out, bad_list = tmp_path / "out", tmp_path / "bad.csv"
    voxceleb.main(tmp_path / "archives", out, bad_list=bad_list, workers=0)
    assert bad_list.read_text() == "utterance_id,reason\n"
    (out / "archive" / "tiny" / "dev" / "aac" / "id00012" / "abc" / "00002.m4a").touch()
    voxceleb.main(tmp_path / "archives", out, max_bad="30%", bad_list=bad_list, workers=0)
    row = bad_list.read_text().splitlines()[1]
    assert row.startswith("dev/aac/id00012/abc/00002.m4a,")


def test_known_totals_of_voxceleb():
    parts = load("voxceleb").PARTS
    assert sum(parts[name].num_utterances for name in ("vox1_dev", "vox1_test")) == 153_516
    assert sum(parts[name].num_utterances for name in ("vox2_dev", "vox2_test")) == 1_128_246
    assert all(len(md5) == 32 for part in parts.values() for md5 in part.pieces.values())


@pytest.fixture
def librispeech(tmp_path, make_wav):
    folder = tmp_path / "LibriSpeech"
    make_wav(folder / "train-clean-100" / "19" / "198" / "19-198-0000.flac", 0.5)
    make_wav(folder / "train-other-500" / "20" / "205" / "20-205-0000.flac", 0.5)
    make_wav(folder / "dev-clean" / "84" / "121123" / "84-121123-0000.flac", 0.5)
    (folder / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n19   | F | train-clean-100  | 25.19 | K\n"
        "20   | M | train-other-500  | 30.07 | G\n84   | F | dev-clean  | 8.02 | C | D\n"
    )
    return folder


def test_librispeech(librispeech, tmp_path):
    load("librispeech").main(librispeech, tmp_path / "out", workers=0)
    train = load_manifest(tmp_path / "out" / "train.csv")
    assert list(train.utterance_ids) == ["19-198-0000", "20-205-0000"]
    assert list(train.sessions) == ["19/198", "20/205"]
    assert train.column("sex").tolist() == ["F", "M"]
    assert train.column("subset").tolist() == ["train-clean-100", "train-other-500"]
    assert train.path(1).exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dev.csv", "train.csv"]


def test_librispeech_half_downloaded(librispeech, tmp_path):
    recipe = load("librispeech")
    (librispeech / "SPEAKERS.TXT").write_text("19 | F | train-clean-100 | 25 | K\n")
    with pytest.raises(InputError, match=r"SPEAKERS\.TXT: reader 84 is not listed"):
        recipe.main(librispeech, tmp_path / "out", workers=0)
    (librispeech / "SPEAKERS.TXT").unlink()
    with pytest.raises(InputError, match=r"SPEAKERS\.TXT: no such file"):
        recipe.main(librispeech, tmp_path / "out", workers=0)


def test_librispeech_with_readers_missing(librispeech, tmp_path):
    with (librispeech / "SPEAKERS.TXT").open("a") as speakers:
        speakers.write("26 | M | train-clean-100 | 25 | D\n27 | M | train-clean-360 | 20 | L\n")
    with pytest.raises(
        InputError, match=r"clean-100: 1 of the 2 readers .* not there: 26\. Unpack"
    ):
        load("librispeech").main(librispeech, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


def test_librispeech_tolerates_and_lists_bad_files(librispeech, tmp_path):
    (librispeech / "dev-clean" / "84" / "121123" / "84-121123-0001.flac").write_text("no audio")
    recipe, bad_list = load("librispeech"), tmp_path / "bad.csv"
    with pytest.raises(InputError, match="1 of 2 files cannot be used"):
        recipe.main(librispeech, tmp_path / "out", workers=0)
    recipe.main(librispeech, tmp_path / "out", max_bad="50%", bad_list=bad_list, workers=0)
    assert bad_list.read_text().splitlines()[1].startswith("84/121123/84-121123-0001,")


@pytest.fixture
def cnceleb(tmp_path, make_wav):
    folder = tmp_path / "CN-Celeb_flac"
    make_wav(folder / "data" / "id00000" / "singing-01-001.flac", 0.5)
    make_wav(folder / "data" / "id00000" / "singing-01-002.flac", 0.5)
    make_wav(folder / "data" / "id00800" / "drama-01-001.flac", 0.5)
    make_wav(folder / "eval" / "enroll" / "id00800-enroll.flac", 0.5)
    make_wav(folder / "eval" / "test" / "id00800-drama-01-001.flac", 0.5)
    (folder / "dev").mkdir()
    (folder / "dev" / "dev.lst").write_text("id00000\n")
    (folder / "eval" / "lists").mkdir()
    (folder / "eval" / "lists" / "trials.lst").write_text(
        "id00800-enroll test/id00800-drama-01-001.wav 1\n"
    )
    (folder / "eval" / "lists" / "enroll.map").write_text(
        "id00800-enroll id00800/drama-01-001.wav\n"
    )
    return folder


def test_cnceleb(cnceleb, tmp_path, caplog):
    load("cnceleb").main(cnceleb, tmp_path / "out", workers=0)
    assert "folder(s) without audio" not in caplog.text
    train = load_manifest(tmp_path / "out" / "train.csv")
    assert train.speaker_names == ["id00000"]
    assert min(train.sessions) == "id00000/singing-01"
    assert train.column("genre").tolist() == ["singing", "singing"]
    evaluation = load_manifest(tmp_path / "out" / "eval.csv")
    assert list(evaluation.utterance_ids) == ["enroll/id00800-enroll", "test/id00800-drama-01-001"]
    assert evaluation.speaker_names == ["id00800"]
    single = load_manifest(tmp_path / "out" / "eval_single.csv")
    assert list(single.utterance_ids) == ["id00800/drama-01-001", "test/id00800-drama-01-001"]
    assert single.speaker_names == ["id00800"]
    assert all(single.path(row).exists() for row in range(2))


def test_cnceleb_half_downloaded(cnceleb, tmp_path):
    recipe, lists = load("cnceleb"), cnceleb / "eval" / "lists"
    with (lists / "enroll.map").open("a") as enrol_map:
        enrol_map.write("id00801-enroll id00801/drama-01-001.wav id00801/drama-01-002.wav\n")
    with pytest.raises(
        InputError, match=r"map: 2 of its 3 files have no audio .* id00801/drama-01"
    ):
        recipe.main(cnceleb, tmp_path / "out", workers=0)
    with (lists / "trials.lst").open("a") as trials:
        trials.write("id00801-enroll test/id00800-drama-01-002.wav 0\n")
    with pytest.raises(
        InputError, match=r"2 of its 4 files .* enroll/id00801-enroll, test/id00800-drama-01-002\."
    ):
        recipe.main(cnceleb, tmp_path / "out", workers=0)
    (cnceleb / "dev" / "dev.lst").write_text("id00000\nid00001\n")
    with pytest.raises(InputError, match=r"1 of its 2 speakers have no audio here: id00001\."):
        recipe.main(cnceleb, tmp_path / "out", workers=0)
    (lists / "enroll.map").unlink()
    with pytest.raises(InputError, match=r"enroll\.map: not there"):
        recipe.main(cnceleb, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


def test_cnceleb_tolerates_and_lists_bad_files(cnceleb, tmp_path):
    (cnceleb / "eval" / "test" / "id00800-drama-01-002.flac").write_text("no audio")
    recipe, bad_list = load("cnceleb"), tmp_path / "bad.csv"
    recipe.main(cnceleb, tmp_path / "out", max_bad="40%", bad_list=bad_list, workers=0)
    assert bad_list.read_text().splitlines()[1].startswith("test/id00800-drama-01-002,")
    assert len(load_manifest(tmp_path / "out" / "eval.csv")) == 2


@pytest.mark.parametrize("name", ["voxceleb", "librispeech", "cnceleb"])
def test_recipe_is_a_command_with_manners(name, tmp_path):
    command = [
        sys.executable,
        RECIPES / name / "prepare.py",
        tmp_path / "nowhere",
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr
