import numpy as np
import pytest
import torch

from speakervlad.audio.spans import audio_info, load_audio
from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.corpus.packing import pack
from speakervlad.corpus.prepare import prepare
from speakervlad.corpus.work import BadList, Work
from speakervlad.errors import InputError
from speakervlad.tables.manifest import load_manifest


@pytest.fixture
def manifest(tmp_path, make_wav):
    for number in range(5):
        make_wav(tmp_path / "in" / f"s{number % 2}" / f"{number}.wav", 0.5 + number / 10, number)
    return prepare(tmp_path / "in", layout="speaker-folders").manifest


@pytest.mark.parametrize(
    ("shard_samples", "num_shards"), [(10**6, 1), (20000, 4), (10, 5), (8000, 5)]
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_packed_corpus_is_the_same_corpus(
    manifest, tmp_path, shard_samples, num_shards, num_workers
):
    pack(
        manifest, tmp_path / "out", shard_samples=shard_samples, work=Work(num_workers=num_workers)
    ).save(tmp_path / "out" / "manifest.csv")
    packed = load_manifest(tmp_path / "out" / "manifest.csv")
    assert len(list((tmp_path / "out").glob("*.pcm16"))) == num_shards
    assert list(packed.utterance_ids) == list(manifest.utterance_ids)
    assert list(packed.speakers) == list(manifest.speakers)
    for row in range(len(manifest)):
        assert audio_info(packed.path(row)) == (manifest.num_samples[row], 16000, 1)
        np.testing.assert_array_equal(load_audio(packed.path(row)), load_audio(manifest.path(row)))


@pytest.mark.parametrize("wrap", [False, True])
def test_crops_of_packed_and_plain_files_are_equal(manifest, tmp_path, wrap):
    packed = pack(manifest, tmp_path / "out", shard_samples=20000)
    plain, shards = (
        UtteranceDataset(part, crop_samples=9000, seed=1, wrap=wrap) for part in (manifest, packed)
    )
    for index in range(5):
        assert torch.equal(plain[3, index].waveform, shards[3, index].waveform)


def test_other_rates_are_packed_at_16_khz(tmp_path, make_wav):
    make_wav(tmp_path / "in" / "s" / "0.wav", 1.0, rate=44100)
    manifest = prepare(tmp_path / "in", layout="speaker-folders").manifest
    packed = pack(manifest, tmp_path / "out")
    waveform = load_audio(packed.path(0))
    np.testing.assert_allclose(waveform, load_audio(manifest.path(0)), atol=2**-15)
    assert len(load_audio(packed.path(0), sample_rate=8000)) == 8000


def test_interrupted_packing_goes_on(manifest, tmp_path, full_disk):
    out = tmp_path / "out"
    whole = pack(manifest, tmp_path / "whole", shard_samples=10)
    with (
        full_disk(25000),
        pytest.raises(InputError, match=r"shard-00002\.pcm16: cannot be written"),
    ):
        pack(manifest, out, shard_samples=10, work=Work(num_workers=0))
    kept = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorted(kept) == ["shard-00000.pcm16", "shard-00001.pcm16", "shards.json"]
    (out / ".shard-00002.killed_1.pcm16").touch()
    packed = pack(manifest, out, shard_samples=10, work=Work(num_workers=0))
    assert not (out / ".shard-00002.killed_1.pcm16").exists()
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    for row in range(5):
        np.testing.assert_array_equal(load_audio(packed.path(row)), load_audio(whole.path(row)))


def test_unreadable_files_leave_their_places_empty(manifest, tmp_path, make_wav):
    out, names = tmp_path / "out", list(manifest.utterance_ids)
    repaired = manifest.path(1).read_bytes()
    manifest.path(1).write_text("no audio")
    make_wav(manifest.path(4), 0.1)
    bad_list = BadList(tmp_path / "bad.csv")
    with pytest.raises(InputError, match=r"out: 2 of 5 files cannot be used, more than 1\.00%"):
        pack(manifest, out, shard_samples=20000, work=Work(bad_list=bad_list))
    first, second = (tmp_path / "bad.csv").read_text().splitlines()[1:]
    assert first.startswith(f"{names[1]},")
    assert "not an audio file" in first
    assert "has 1600 samples, its manifest says" in second
    kept = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    packed = pack(manifest, out, shard_samples=20000, work=Work(0.4))
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == kept
    assert list(packed.utterance_ids) == [names[0], *names[2:4]]
    for row, source in enumerate((0, 2, 3)):
        np.testing.assert_array_equal(
            load_audio(packed.path(row)), load_audio(manifest.path(source))
        )
    places = dict(zip(packed.utterance_ids, packed.paths, strict=True))
    manifest.path(1).write_bytes(repaired)
    packed = pack(manifest, out, shard_samples=20000, work=Work(0.4))
    assert list(packed.utterance_ids) == names[:4]
    assert places.items() <= dict(zip(packed.utterance_ids, packed.paths, strict=True)).items()
    np.testing.assert_array_equal(load_audio(packed.path(1)), load_audio(manifest.path(1)))


def test_shards_of_something_else_are_not_touched(manifest, tmp_path):
    out = tmp_path / "out"
    pack(manifest, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    for other, shard_samples in ((manifest.select([0, 1, 2]), 2**29), (manifest, 20000)):
        with pytest.raises(InputError, match="out: holds the shards of another manifest"):
            pack(other, out, shard_samples=shard_samples)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (out / "shards.json").unlink()
    with pytest.raises(InputError, match="out: holds the shards of another manifest"):
        pack(manifest, out)


def test_missing_and_cut_shards(manifest, tmp_path):
    packed = pack(manifest, tmp_path / "out")
    shard = tmp_path / "out" / "shard-00000.pcm16"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"shard-00000\.pcm16: ends before sample"):
        load_audio(packed.path(4))
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-00000\.pcm16: no such file"):
        load_audio(packed.path(0))
    with pytest.raises(InputError, match="too short for samples"):
        load_audio(pack(manifest, tmp_path / "new").path(0), start=7000, num_samples=2000)
