"""Training on cached frames: the same whatever the workers, ranks and restarts."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from speakervlad.errors import InputError
from speakervlad.models.folder import load_encoder_folder
from speakervlad.models.losses import AAMSoftmax, Softmax, SubcentreAAMSoftmax
from speakervlad.tables.manifest import Manifest, load_manifest, save_manifest
from speakervlad.training.distributed import World
from speakervlad.training.frame_cache import open_cache
from speakervlad.training.frame_maker import embed_frames
from speakervlad.training.frame_store import read_about
from speakervlad.training.frame_targets import start_targets
from speakervlad.training.ghosts import ghost_maps
from speakervlad.training.loading import build_loader
from speakervlad.training.run import Run, check_config, no_show, train
from speakervlad.training.run_folder import read_metrics
from speakervlad.training.start import build_model, init_classes, subtract
from speakervlad.training.state import TrainingState
from speakervlad.training.teacher import Targets

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def open_run(frozen, own_manifest):
    """``open_run(...)``: a run of the frozen experiment, not started."""
    runs = []

    def start(*overrides):
        config = check_config(frozen(*overrides), 1)
        run = Run(config, ALONE, load_manifest(config.data.train_manifest), [], no_show)
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.log.close()


def stop_at(step):
    def show(now, total, line):
        if now == step:
            raise KeyboardInterrupt

    return show


def weights(folder):
    encoder, _ = load_encoder_folder(folder)
    return encoder.state_dict()


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_resumed_run_has_the_bits_of_an_unbroken_one(frozen, tmp_path):
    whole = train(frozen(f"run_dir={tmp_path / 'whole'}"))
    with pytest.raises(KeyboardInterrupt):
        train(frozen(), stop_at(4))
    assert TrainingState.load(tmp_path / "run/last.pt").step == 3
    again = train(frozen("resume=true"))
    assert same(weights(whole), weights(again))
    figures = [
        [{k: v for k, v in record.items() if k != "crops_per_second"} for record in records]
        for records in (
            read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "whole")
        )
    ]
    assert figures[0] == figures[1]


def test_workers_and_ranks_see_the_same_crops(open_run, frozen):
    run = open_run()
    whole = list(islice(build_loader(run.config, run.dataset, 2, ALONE), 3))
    lengths = [batch.frames.shape[1] for batch in whole]
    assert len(set(lengths)) > 1
    with_workers = frozen("data.num_workers=1")
    others = list(islice(iter(build_loader(with_workers, run.dataset, 2, ALONE)), 3))
    for one, other in zip(whole, others, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    ranks = [
        list(islice(build_loader(run.config, run.dataset, 2, World(rank, 2, ALONE.device)), 3))
        for rank in range(2)
    ]
    for batch, *shares in zip(whole, *ranks, strict=True):
        for column, first, second in zip(batch, *shares, strict=True):
            together = torch.stack([first, second], dim=1).flatten(0, 1)
            assert torch.equal(together, column)


def test_crops_are_parts_of_their_copies(open_run, tmp_path):
    run = open_run("data.frame_cache.clean_share=0.5", "train.batch_size=64")
    cache = run.dataset.cache
    batch = next(iter(build_loader(run.config, run.dataset, 0, ALONE)))
    copies = set()
    for crop, row in zip(batch.frames.numpy(), batch.index.tolist(), strict=True):
        found = []
        for number in np.flatnonzero(cache.kept[:, row]).tolist():
            file = cache.files[number]
            start, count = int(file.starts[row]), int(file.counts[row])
            frames = np.array(file.mapped()[start : start + count])
            doubled = np.concatenate([frames] * (2 + len(crop) // count))
            if any(np.array_equal(doubled[s : s + len(crop)], crop) for s in range(count)):
                found.append(number)
        assert found
        copies.update(found)
    assert copies >= {0, 1}
    clean = open_run(
        "data.frame_cache.clean_share=1.0", f"run_dir={tmp_path / 'other'}", "train.batch_size=64"
    )
    assert not next(iter(build_loader(clean.config, clean.dataset, 0, ALONE))).speed.any()


def test_speakers_are_balanced_and_bad_recordings_never_drawn(open_run, own_manifest):
    manifest = load_manifest(own_manifest)
    manifest.path(0).write_bytes(b"no audio")
    run = open_run("data.max_bad_fraction=0.1", "data.speaker_balance=1.0", "train.batch_size=400")
    batch = next(iter(build_loader(run.config, run.dataset, 0, ALONE)))
    counts = np.bincount(batch.index, minlength=16)
    assert counts[0] == 0
    assert counts[1:].min() > 0
    assert run.dataset.bad_utterances() == ["s0/u0.wav"]


def test_trunk_and_statistics_stay_and_the_head_learns(frozen, source):
    folder = train(frozen())
    before, after = weights(source), weights(folder)
    moved = "projection.norm.running_mean"
    for name, value in before.items():
        if name.startswith(("trunk.", "projection.norm.")) and name != moved:
            assert torch.equal(value, after[name]), name
    # By the mean embedding, and no further.
    start = build_model(check_config(frozen(), 1), 4).encoder
    cache = open_cache(frozen(), load_manifest(frozen().data.train_manifest), ALONE)
    targets = start_targets(frozen(), cache, np.full(16, 1 / 16), ALONE)
    subtract(targets.centre, start.projection)
    torch.testing.assert_close(after[moved], start.state_dict()[moved])
    assert not torch.equal(after[moved], before[moved])
    columns = before["projection.linear.weight"].shape[1]
    assert not torch.equal(
        after["projection.linear.weight"][:, :columns], before["projection.linear.weight"]
    )
    assert after["projection.linear.weight"][:, columns:].any()
    assert after["pooling.of_frames.assignment.weight"].any()


def test_a_frozen_trunk_needs_no_cache(frozen, source):
    config = frozen(
        "data.frame_cache.folder=null",
        "teacher.start=false",
        "teacher.init_classes=false",
        "teacher.cosine=0",
        "teacher.similarity=0",
        "data.crop_seconds=0.5",
        "train.steps=2",
        "train.save_every=2",
    )
    folder = train(config)
    before, after = weights(source), weights(folder)
    assert all(torch.equal(v, after[name]) for name, v in before.items() if "trunk." in name)
    assert after["pooling.of_frames.assignment.weight"].any()


def test_targets_are_what_the_encoder_says_around_the_mean(open_run, source, frozen):
    run = open_run("augment.speeds=[1.0,0.8]", "data.speaker_balance=0.5")
    targets, cache = run.augmenter.targets, run.dataset.cache
    encoder, _ = load_encoder_folder(source)
    clean = []
    file = cache.files[0]
    for row in range(16):
        start = int(file.starts[row])
        clean.append(embed_frames(encoder, file.mapped()[start : start + int(file.counts[row])]))
    clean = torch.from_numpy(np.stack(clean))
    torch.testing.assert_close(targets.centre, clean.mean(dim=0), atol=1e-6, rtol=0)
    expected = F.normalize(clean - clean.mean(dim=0))
    # Of vectors that are nearly alike, less their mean: roundings grow.
    torch.testing.assert_close(targets.vectors[0], expected, atol=5e-5, rtol=0)
    slow = cache.kept[1:] & (cache.speeds[1:] == 1)
    known = targets.vectors[1].any(dim=1).numpy()
    np.testing.assert_array_equal(known, slow.any(axis=0))
    assert known.any()
    cosines = (targets.vectors[1] * targets.vectors[0]).sum(dim=1).numpy()[known]
    assert (cosines < 0.999).all()
    batch = next(iter(build_loader(run.config, run.dataset, 0, ALONE)))
    examples = run.augmenter(batch)
    torch.testing.assert_close(examples.targets, targets.vectors[batch.speed, batch.index])
    assert torch.equal(examples.classes, batch.speaker + 4 * batch.speed)
    classes = run.trainer.model.classifier.weight.detach()
    first = F.normalize(targets.vectors[0, :4].sum(dim=0), dim=0)
    torch.testing.assert_close(classes[0], first)


def test_the_first_step_embeds_as_the_encoder_less_the_mean(open_run, source, make_waveform):
    run = open_run("train.vlad_init_utterances=0")
    encoder, _ = load_encoder_folder(source)
    waveforms = torch.from_numpy(make_waveform(1.1))[None]
    ours = run.trainer.model.encoder.eval()
    with torch.inference_mode():
        expected = encoder(waveforms) - run.augmenter.targets.centre
        torch.testing.assert_close(ours(waveforms), expected, atol=1e-4, rtol=1e-4)


def test_ghosts_start_at_noise_amid_speech(open_run, tmp_path, make_waveform):
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 64000), 16000)
    rows = {"utterance_ids": ["n", "v"], "paths": ["noise.wav", "none.wav"], "sessions": ["", ""]}
    kinds = {"speakers": ["noise", "speech"], "num_samples": [64000, 64000]}
    save_manifest(tmp_path / "noise.csv", Manifest.of(tmp_path, **rows, **kinds))
    names = (f"augment.noise_manifest={tmp_path / 'noise.csv'}", "augment.noise_probability=0.0")
    run = open_run(*names)
    encoder, cache = run.trainer.model.encoder.eval(), run.dataset.cache
    noise = ghost_maps(cache, run.config.augment, encoder, 8, seed=1)
    assert noise.shape[:3] == (8, encoder.trunk.channels, encoder.trunk.num_rows)
    layers = encoder.pooling.of_frames, encoder.pooling.of_descriptors
    shares = []
    with torch.inference_mode():
        for maps in (noise, run.dataset.maps_of(8, encoder.trunk)):
            frames, own = encoder.describe_map(maps)
            real = (layers[0].weights(own)[:, 0].exp(), layers[1].weights(frames)[:, :3].sum(dim=1))
            shares.append([1 - float(each.mean()) for each in real])
    (noise_of_statistics, noise_of_vlad), (statistics, vlad) = shares
    assert noise_of_statistics > statistics + 0.1
    assert noise_of_vlad > vlad + 0.1
    again = ghost_maps(cache, run.config.augment, encoder, 8, seed=1)
    assert torch.equal(noise, again)
    white = ghost_maps(cache, replace(run.config.augment, noise_manifest=None), encoder, 8, seed=1)
    assert not torch.equal(noise, white)


def test_a_head_may_hear_at_another_peak_than_its_trunk(frozen, own_manifest, tmp_path):
    at_peak = "encoder.front_end.peak=0.3"
    folder = train(frozen(at_peak))
    assert load_encoder_folder(folder)[0].front_end.spec.peak == 0.3
    assert read_about(tmp_path / "frames/recordings")["front_end"]["peak"] == 0.3
    with pytest.raises(InputError, match=r"front_end\.peak was 0\.3, is 0\.0"):
        open_cache(frozen(), load_manifest(own_manifest), ALONE)
    with pytest.raises(InputError, match="needs its front end, except for `peak`"):
        build_model(check_config(frozen("encoder.front_end.f_min=50"), 1), 4)


def test_classes_of_several_centres_start_around_their_mean():
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(1, 6, 8), dim=2)
    targets = Targets(vectors, torch.ones(4, dtype=torch.bool))
    classifier = SubcentreAAMSoftmax(8, 4, num_centers=2)
    before = classifier.weight.detach().clone()
    init_classes(classifier, targets, np.array([0, 0, 1, 1, 2, 2]))
    mean = F.normalize(vectors[0, :2].sum(dim=0), dim=0)
    cosines = F.normalize(classifier.weight[0], dim=1) @ mean
    assert (cosines > 0.8).all()
    assert not torch.equal(classifier.weight[0, 0], classifier.weight[0, 1])
    assert torch.equal(classifier.weight[3], before[3])


@pytest.mark.parametrize("kind", [Softmax, AAMSoftmax, SubcentreAAMSoftmax])
def test_speakers_compete_with_their_group_alone(kind):
    torch.manual_seed(0)
    classifier = kind(8, 6)
    embeddings, speakers = torch.randn(5, 8), torch.tensor([0, 2, 4, -1, 5])
    classifier.groups = torch.tensor([0, 0, 1, 1, 1, 0])
    loss = classifier(embeddings, speakers)
    alone = []
    for row, speaker in ((0, 0), (1, 2), (2, 4), (4, 5)):
        own = torch.nonzero(classifier.groups == classifier.groups[speaker]).flatten()
        small = kind(8, len(own))
        small.weight.data = classifier.weight.data[own]
        if hasattr(small, "hardest"):
            small.hardest = classifier.hardest = 0
        alone.append(small(embeddings[row : row + 1], (own == speaker).nonzero()[0]).value)
    if not hasattr(classifier, "hardest"):
        torch.testing.assert_close(loss.value, torch.stack(alone).mean())
    else:
        torch.testing.assert_close(
            classifier(embeddings, speakers).value, torch.stack(alone).mean()
        )


def test_rivals_are_a_column_of_the_manifest(frozen, own_manifest, tmp_path):
    manifest = load_manifest(own_manifest)
    columns = {
        name: getattr(manifest, name)
        for name in ("utterance_ids", "paths", "speakers", "sessions", "num_samples")
    }
    kinds = ["b", "a", "a", "b"]
    corpus = [kinds[number] for number in manifest.speaker_indices.tolist()]
    save_manifest(own_manifest, Manifest.of(manifest.root, **columns, extra={"corpus": corpus}))
    config = frozen("data.rivals=corpus", "augment.speeds=[1.0,0.8]")
    run = Run(check_config(config, 1), ALONE, load_manifest(own_manifest), [], no_show)
    assert run.trainer.model.classifier.groups.tolist() == 2 * [1, 0, 0, 1]
    run.log.close()
    with pytest.raises(InputError, match=r"data\.rivals=corpse: .* has no such column \(corpus\)"):
        train(frozen("data.rivals=corpse", f"run_dir={tmp_path / 'other'}"))
    other = Manifest.of(manifest.root, **columns, extra={"corpus": ["a"] * 15 + ["b"]})
    save_manifest(own_manifest, other)
    with pytest.raises(InputError, match="speaker s3 has several values"):
        train(frozen("data.rivals=corpus", f"run_dir={tmp_path / 'other'}"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("init_from=null", "init_projection=false"), "needs init_from"),
        (("train.frozen_trunk=false",), r"data\.frame_cache\.folder needs train\.frozen_trunk"),
        (("data.frame_cache.folder=null",), r"teacher\.start needs data\.frame_cache\.folder"),
        (("data.reverse_probability=0.5",), r"reverse_probability=0\.5: is for crops of sound"),
        (("augment.freq_masks=1",), r"augment\.freq_masks=1: is for crops of sound"),
        (("data.frame_cache.crop_seconds=[2,1]",), r"crop_seconds=\[2.0, 1.0\]: must be"),
        (("data.frame_cache.short_seconds=[0,1]",), "0.1 at least"),
        (("data.frame_cache.copies=-1",), "copies=-1.0: must be at least 0"),
        (("data.frame_cache.backend=onnx",), r"backend='onnx'"),
        (("teacher.embeddings=[a.npz]",), "are two teachers"),
        (("augment.interruption_probability=0.5",), r"needs augment\.noise_manifest"),
    ],
)
def test_what_does_not_go_together_is_one_line(frozen, changes, words):
    with pytest.raises(InputError, match=words) as refused:
        check_config(frozen(*changes), 1)
    assert "\n" not in str(refused.value)


def test_another_dimension_is_refused(frozen, tmp_path):
    config = frozen("encoder.embedding_dim=8", "init_projection=false")
    with pytest.raises(InputError):
        build_model(check_config(config, 1), 4)
