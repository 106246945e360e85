import numpy as np
import pytest
import torch

from speakervlad.data.audio import audio_info, read_audio
from speakervlad.data.dataset import UtteranceDataset
from speakervlad.data.manifest import Manifest
from speakervlad.data.packing import pack
from speakervlad.data.prepare import prepare
from speakervlad.errors import InputError


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
    pack(manifest, tmp_path / "out", shard_samples=shard_samples, num_workers=num_workers).save(
        tmp_path / "out" / "manifest.csv"
    )
    packed = Manifest.load(tmp_path / "out" / "manifest.csv")
    assert len(list((tmp_path / "out").glob("*.pcm16"))) == num_shards
    assert packed.utterance_ids == manifest.utterance_ids
    assert packed.speakers == manifest.speakers
    for row in range(len(manifest)):
        assert audio_info(packed.path(row)) == (manifest.num_samples[row], 16000, 1)
        np.testing.assert_array_equal(read_audio(packed.path(row)), read_audio(manifest.path(row)))


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
    waveform = read_audio(packed.path(0))
    np.testing.assert_allclose(waveform, read_audio(manifest.path(0)), atol=2**-15)
    assert len(read_audio(packed.path(0), sample_rate=8000)) == 8000


def test_failure_leaves_nothing(manifest, tmp_path):
    manifest.path(4).write_text("no audio")
    with pytest.raises(InputError, match=r"not an audio file"):
        pack(manifest, tmp_path / "out", shard_samples=10)
    assert list((tmp_path / "out").iterdir()) == []


def test_shards_are_not_overwritten(manifest, tmp_path):
    pack(manifest, tmp_path / "out")
    with pytest.raises(InputError, match="out: holds packed shards already"):
        pack(manifest, tmp_path / "out")


def test_changed_file_is_refused(manifest, tmp_path, make_wav):
    make_wav(manifest.path(2), 0.1)
    with pytest.raises(InputError, match="has 1600 samples, its manifest says"):
        pack(manifest, tmp_path / "out")


def test_missing_and_cut_shards(manifest, tmp_path):
    packed = pack(manifest, tmp_path / "out")
    shard = tmp_path / "out" / "shard-00000.pcm16"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"shard-00000\.pcm16: ends before sample"):
        read_audio(packed.path(4))
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-00000\.pcm16: no such file"):
        read_audio(packed.path(0))
    with pytest.raises(InputError, match="too short for samples"):
        read_audio(pack(manifest, tmp_path / "new").path(0), start=7000, num_samples=2000)
