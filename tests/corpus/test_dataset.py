import pickle
from dataclasses import replace
from itertools import islice
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from speakervlad.audio.spans import load_audio
from speakervlad.corpus.dataset import Crop, EndlessSampler, UtteranceDataset, batches
from speakervlad.errors import InputError
from speakervlad.tables.manifest import Manifest


@pytest.fixture
def manifest(tmp_path, make_wav):
    seconds = [0.3, 0.5, 0.8, 1.0]
    for row, length in enumerate(seconds):
        make_wav(tmp_path / f"{row}.wav", length, seed=row)
    return Manifest.of(
        tmp_path,
        utterance_ids=[f"u{row}" for row in range(4)],
        paths=[f"{row}.wav" for row in range(4)],
        speakers=["b", "a", "b", "c"],
        sessions=["s"] * 4,
        num_samples=[int(length * 16000) for length in seconds],
    )


def test_crop_is_a_slice_of_its_utterance(manifest):
    dataset = UtteranceDataset(manifest, crop_samples=4000, seed=1)
    for epoch in range(3):
        crop = dataset[epoch, 3]
        assert isinstance(crop, Crop)
        assert crop.waveform.shape == (4000,)
        assert crop.waveform.dtype == torch.float32
        assert (crop.speaker, crop.epoch, crop.index) == (2, epoch, 3)
        whole = load_audio(manifest.path(3))
        windows = np.lib.stride_tricks.sliding_window_view(whole, 4000)
        assert (windows == crop.waveform.numpy()).all(axis=1).sum() == 1


def test_crop_depends_on_seed_epoch_and_index_only(manifest):
    dataset = UtteranceDataset(manifest, crop_samples=4000, seed=1)
    again = UtteranceDataset(manifest, crop_samples=4000, seed=1)
    _ = again[5, 2]
    assert torch.equal(dataset[0, 3].waveform, again[0, 3].waveform)
    assert not torch.equal(dataset[0, 3].waveform, dataset[1, 3].waveform)
    other = UtteranceDataset(manifest, crop_samples=4000, seed=2)
    assert not torch.equal(dataset[0, 3].waveform, other[0, 3].waveform)


def test_short_utterance_is_repeated(manifest):
    crop = UtteranceDataset(manifest, crop_samples=12000, seed=0)[0, 0].waveform.numpy()
    whole = load_audio(manifest.path(0))
    np.testing.assert_array_equal(crop, np.concatenate([whole] * 3)[:12000])


@pytest.mark.parametrize("index", [0, 3])
def test_wrapped_crop_runs_over_the_end_into_the_beginning(manifest, index):
    dataset = UtteranceDataset(manifest, crop_samples=10000, seed=0, wrap=True)
    whole = load_audio(manifest.path(index))
    endless = np.concatenate([whole] * 5)
    starts = []
    for epoch in range(12):
        crop = dataset[epoch, index].waveform.numpy()
        matches = [s for s in range(len(whole)) if endless[s] == crop[0]]
        starts += [s for s in matches if np.array_equal(endless[s : s + 10000], crop)]
    assert len(starts) == 12
    assert max(starts) > len(whole) - 10000


def test_reversal_has_its_probability(manifest):
    plain = UtteranceDataset(manifest, crop_samples=1000, seed=0)
    reversing = UtteranceDataset(manifest, crop_samples=1000, seed=0, reverse_probability=0.3)
    num_reversed = 0
    for epoch in range(200):
        ours, theirs = plain[epoch, 3].waveform, reversing[epoch, 3].waveform
        num_reversed += torch.equal(ours.flip(0), theirs)
        assert torch.equal(ours, theirs) or torch.equal(ours.flip(0), theirs)
    assert 40 <= num_reversed <= 80


def first_batches(manifest, num_workers):
    dataset = UtteranceDataset(manifest, crop_samples=4000, seed=1, reverse_probability=0.3)
    loader = DataLoader(
        dataset,
        batch_size=3,
        sampler=EndlessSampler(len(dataset), seed=1),
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
    )
    return list(islice(loader, 5))


def test_workers_do_not_matter(manifest):
    for ours, theirs in zip(first_batches(manifest, 0), first_batches(manifest, 2), strict=True):
        assert isinstance(theirs, Crop)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_worker_is_sent_handles_not_rows(manifest):
    """Whatever the number of rows; what arrives are the same rows, in memory that is shared."""
    rows = np.arange(40_000) % 4
    many = replace(
        manifest.select([0, 3]),
        **{
            name: getattr(manifest, name)[rows]
            for name in ("utterance_ids", "paths", "speakers", "sessions", "num_samples")
        },
    )
    dataset = UtteranceDataset(many, crop_samples=4000, seed=1)
    sent = ForkingPickler.dumps(dataset)
    assert len(sent) < 3000 < len(pickle.dumps(many)) / 100
    arrived = pickle.loads(sent)
    assert arrived.manifest is None
    assert len(arrived) == len(many)
    assert [arrived._paths[row] for row in range(9)] == list(many.paths[:9])
    assert torch.equal(arrived[1, 7].waveform, dataset[1, 7].waveform)
    dataset._num_samples[0] = 5
    assert arrived._num_samples[0] == 5


def test_unreadable_file_names_the_utterance(manifest):
    manifest.path(1).write_text("no audio")
    with pytest.raises(InputError, match=r"utterance u1: .*1\.wav"):
        _ = UtteranceDataset(manifest, crop_samples=4000, seed=1)[0, 1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_few_unreadable_files_are_replaced_reported_and_counted(manifest, num_workers, caplog):
    manifest.path(1).write_text("no audio")
    dataset = UtteranceDataset(manifest, crop_samples=4000, seed=1, max_bad_fraction=0.25)
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=EndlessSampler(4, seed=1),
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
    )
    indices = torch.stack([batch.index for batch in islice(batches(loader), 8)])
    assert 1 not in indices
    speakers = torch.tensor(manifest.speaker_indices)
    sampled = UtteranceDataset(manifest, crop_samples=4000, seed=1, max_bad_fraction=0.25)
    for row, (epoch, index) in zip(range(32), EndlessSampler(4, seed=1), strict=False):
        crop = sampled[epoch, index]
        assert crop.index == indices.flatten()[row]
        assert crop.speaker == speakers[crop.index]
    assert dataset.bad_utterances() == sampled.bad_utterances() == ["u1"]
    assert caplog.text.count("utterance u1: ") == (1 if num_workers else 2)


def test_too_many_unreadable_files_stop_the_training(manifest):
    for index in (1, 2):
        manifest.path(index).write_text("no audio")
    dataset = UtteranceDataset(manifest, crop_samples=4000, seed=1, max_bad_fraction=0.3)
    with pytest.raises(InputError, match=r"2 of 4 utterances cannot be read, 30\.00% tol"):
        [dataset[epoch, index] for epoch in range(9) for index in (1, 2)]


def test_a_vanished_disk_stops_at_once(tmp_path):
    names = [f"u{row}" for row in range(1000)]
    gone = Manifest.of(
        tmp_path,
        utterance_ids=names,
        paths=names,
        speakers=names,
        sessions=names,
        num_samples=[16000] * 1000,
    )
    dataset = UtteranceDataset(gone, crop_samples=4000, seed=1, max_bad_fraction=1.0)
    with pytest.raises(InputError, match="10 utterances in a row cannot be read"):
        _ = dataset[0, 0]


def test_an_error_in_a_worker_stays_one_line(manifest):
    manifest.path(1).write_text("no audio")
    loader = DataLoader(
        UtteranceDataset(manifest, crop_samples=4000, seed=1),
        batch_size=2,
        sampler=EndlessSampler(4, seed=1),
        num_workers=1,
        multiprocessing_context="spawn",
    )
    with pytest.raises(InputError) as caught:
        list(islice(batches(loader), 4))
    assert str(caught.value).startswith("utterance u1: ")
    assert "\n" not in str(caught.value)


def test_file_shorter_than_the_manifest_says_is_an_error(manifest, make_wav):
    make_wav(manifest.path(3), 0.4)
    dataset = UtteranceDataset(manifest, crop_samples=4000, seed=1)
    with pytest.raises(InputError, match=r"utterance u3: .*too short for samples"):
        [dataset[epoch, 3] for epoch in range(20)]
