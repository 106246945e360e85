"""What reaches the trainer: balanced batches, files that cannot be read, spawned workers."""

import shutil
from itertools import islice

import numpy as np
import pytest
import torch

from speakervlad.corpus.dataset import UtteranceDataset, batches
from speakervlad.errors import InputError
from speakervlad.tables.manifest import load_manifest
from speakervlad.training.augment import build_crops
from speakervlad.training.distributed import World
from speakervlad.training.loading import build_loader, build_sampler, check_batches
from speakervlad.training.run import train
from speakervlad.training.state import TrainingState

BALANCED = ("data.speakers_per_batch=2", "data.utterances_per_speaker=4")
CPU = torch.device("cpu")


@pytest.fixture
def manifest(corpus):
    return load_manifest(corpus / "train.csv")


@pytest.fixture
def broken_corpus(corpus, tmp_path):
    """The corpus with one file that is no audio."""
    folder = tmp_path / "broken"
    shutil.copytree(corpus, folder)
    (folder / "s1/u2.wav").write_bytes(b"no audio")
    return folder / "train.csv"


def loaded(config, manifest, step, world, count):
    crops = UtteranceDataset(manifest, crop_samples=800, seed=0)
    loader = build_loader(config, build_crops(config.augment, crops, (40, 50)), step, world)
    return list(islice(batches(loader), count))


def test_balanced_batches_hold_as_many_of_each_speaker(experiment, manifest):
    for batch in loaded(experiment(*BALANCED), manifest, 0, World(0, 1, CPU), 4):
        counts = np.bincount(batch.speaker)
        assert sorted(counts[counts > 0]) == [4, 4]


def test_long_recordings_are_visited_more_often(experiment, manifest):
    seconds = manifest.num_samples / 16_000
    config = experiment(f"data.seconds_per_visit={seconds.max() / 3}")
    sampler = build_sampler(config, manifest, 0, World(0, 1, CPU))
    visits = np.maximum(1, np.rint(3 * seconds / seconds.max())).astype(int)
    drawn = [index for _, index in islice(sampler, int(visits.sum()))]
    np.testing.assert_array_equal(np.bincount(drawn), visits)
    assert visits.max() == 3


@pytest.mark.parametrize("overrides", [("=-1",), ("=1", "data.speakers_per_batch=2")])
def test_visits_that_make_no_sense_are_refused(experiment, overrides):
    with pytest.raises(InputError, match=r"data\.seconds_per_visit"):
        check_batches(experiment(f"data.seconds_per_visit{overrides[0]}", *overrides[1:]))


def test_balanced_stream_goes_on_where_it_stopped_and_interleaves_over_ranks(experiment, manifest):
    config = experiment(*BALANCED)
    whole = [batch.index for batch in loaded(config, manifest, 0, World(0, 1, CPU), 5)]
    later = [batch.index for batch in loaded(config, manifest, 3, World(0, 1, CPU), 2)]
    assert torch.equal(torch.cat(whole[3:]), torch.cat(later))
    ranks = [
        torch.cat([batch.index for batch in loaded(config, manifest, 0, World(rank, 2, CPU), 5)])
        for rank in (0, 1)
    ]
    assert torch.equal(torch.cat(whole), torch.stack(ranks, dim=1).flatten())


def test_balanced_run_resumes_bit_exactly(experiment, tmp_path):
    train(experiment(*BALANCED, "train.steps=4", "train.save_every=2"))
    parts = f"run_dir={tmp_path / 'parts'}"

    def stop(step, total, line):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment(*BALANCED, "train.steps=4", "train.save_every=2", parts), stop)
    train(experiment(*BALANCED, "train.steps=4", "train.save_every=2", parts, "resume=true"))
    one, two = (TrainingState.load(tmp_path / name / "last.pt").model for name in ("run", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_few_unreadable_files_are_tolerated_and_named(experiment, broken_corpus, tmp_path):
    manifest = f"data.train_manifest={broken_corpus}"
    train(experiment(manifest, "data.max_bad_fraction=0.1"))
    log = (tmp_path / "run/train.log").read_text()
    assert "1 of 16 files cannot be read: s1/u2.wav" in log


def test_spawned_workers_report_their_unreadable_files(experiment, broken_corpus, tmp_path):
    manifest = f"data.train_manifest={broken_corpus}"
    train(experiment(manifest, "data.max_bad_fraction=0.1", "data.num_workers=1"))
    assert "1 of 16 files cannot be read" in (tmp_path / "run/train.log").read_text()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_too_many_unreadable_files_stop_the_run_in_one_line(experiment, broken_corpus, workers):
    manifest = f"data.train_manifest={broken_corpus}"
    with pytest.raises(InputError, match=r"^utterance s1/u2\.wav: .*tolerated\)$"):
        train(experiment(manifest, f"data.num_workers={workers}"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("data.speakers_per_batch=3",), r"batch_size=8 is not .* = 3"),
        (("data.speakers_per_batch=8",), "8 speakers per batch asked, the manifest has 4"),
        (("data.speakers_per_batch=-1",), "speakers_per_batch=-1: must be at least 0"),
        (("data.max_bad_fraction=1.5",), "at least 0 and below 1"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(experiment, overrides, words):
    with pytest.raises(InputError, match=words):
        train(experiment(*overrides))
