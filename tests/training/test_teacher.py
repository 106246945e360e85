"""Distillation: a toy teacher is learnt from, beside the labels and without any."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speakervlad.errors import InputError
from speakervlad.models.losses import AMSoftmax, Distillation, Loss
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings
from speakervlad.tables.manifest import load_manifest
from speakervlad.training.distributed import World
from speakervlad.training.loading import build_loader
from speakervlad.training.run import Run, check_config, no_show, train
from speakervlad.training.run_folder import read_metrics
from speakervlad.training.teacher import read_targets

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def teacher(corpus, tmp_path):
    """Writes a file for one speed: two groups of speakers that the labels know nothing of."""
    names = load_manifest(corpus / "train.csv").utterance_ids.tolist()

    def write(speed=1.0, dim=16, ids=names, shift=3.0):
        rng = np.random.default_rng(int(10 * speed))
        groups = rng.standard_normal((2, dim))
        vectors = np.stack([groups[int(name[1]) // 2] for name in names])
        vectors += 0.1 * rng.standard_normal(vectors.shape) + shift * rng.standard_normal(dim)
        path = tmp_path / f"teacher-{speed}-{dim}.npz"
        save_embeddings(path, Embeddings(np.array(ids), vectors[: len(ids)].astype(np.float32)))
        return str(path)

    return write


def test_the_terms_are_what_the_formula_says():
    rng = torch.Generator().manual_seed(0)
    embeddings, targets = torch.randn(2, 5, 8, generator=rng)
    targets = F.normalize(targets)
    loss = Loss(torch.tensor(2.0), torch.tensor(0.5))
    own = F.normalize(embeddings)
    distance = 1 - F.cosine_similarity(embeddings, targets).mean()
    similarity = F.mse_loss(own @ own.T, targets @ targets.T)
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 2.0, 3.0)):
        labels, cosine, similar = weights
        term = Distillation(labels=labels, cosine=cosine, similarity=similar)
        found = term(loss, embeddings, targets)
        expected = labels * 2.0 + cosine * distance + similar * similarity
        torch.testing.assert_close(found.value, expected)
        assert found.accuracy == 0.5
    exact = Distillation(labels=0.0, cosine=1.0, similarity=1.0)
    assert exact(loss, 3 * targets, targets).value.item() == pytest.approx(0, abs=1e-6)


def test_rows_without_a_label_do_not_reach_the_classifier():
    rng = torch.Generator().manual_seed(0)
    embeddings = torch.randn(4, 8, generator=rng, requires_grad=True)
    classifier = AMSoftmax(8, 3)
    loss = classifier(embeddings, torch.tensor([0, -1, 2, -1]))
    labelled = classifier(embeddings[::2], torch.tensor([0, 2]))
    torch.testing.assert_close(loss, labelled)
    loss.value.backward()
    assert embeddings.grad is not None
    assert not embeddings.grad[1::2].any()
    assert embeddings.grad[::2].any()
    nobody = classifier(embeddings, torch.full((4,), -1))
    assert nobody.value == 0
    assert nobody.accuracy == 0


def test_targets_are_centred_and_found_by_name_and_speed(experiment, corpus, teacher):
    manifest = load_manifest(corpus / "train.csv")
    reverse = manifest.utterance_ids.tolist()[::-1]
    files = [teacher(1.0), teacher(0.9)]
    speeds = "augment.speeds=[1.0,0.9]"
    config = experiment(f"teacher.embeddings=[{','.join(files)}]", "teacher.cosine=1", speeds)
    targets = read_targets(config, manifest)
    assert targets.vectors.shape == (2, 16, 16)
    torch.testing.assert_close(targets.vectors.norm(dim=2), torch.ones(2, 16))
    first = load_embeddings(files[0])
    save_embeddings(files[0], Embeddings(first.ids[::-1], first.vectors[::-1]))
    assert load_embeddings(files[0]).ids.tolist() == reverse
    torch.testing.assert_close(read_targets(config, manifest).vectors, targets.vectors)
    # Two groups of opposite directions are left when what all share is gone.
    cosines = targets.vectors[0] @ targets.vectors[0].T
    assert cosines[0, 7] > 0.8
    assert cosines[0, 15] < -0.8
    run = Run(config, ALONE, manifest, [], no_show)
    batch = next(iter(build_loader(config, run.dataset, 0, ALONE)))
    examples = run.augmenter(batch)
    expected = targets.vectors[batch.speed, batch.index]
    torch.testing.assert_close(examples.targets, expected)
    run.log.close()


@pytest.mark.parametrize("kind", [pytest.param("cosine", marks=pytest.mark.slow), "similarity"])
def test_a_toy_teacher_is_learnt_without_labels(experiment, corpus, teacher, kind):
    """Nobody has a label: what the encoder knows of the groups is the teacher's."""
    config = experiment(
        f"teacher.embeddings=[{teacher()}]",
        f"teacher.{kind}=1",
        "teacher.fewest_utterances=5",
        "encoder.embedding_norm=true",
        "train.steps=25",
        "train.batch_size=16",
        "train.log_every=1",
    )
    manifest = load_manifest(corpus / "train.csv")
    assert not read_targets(config, manifest).labelled.any()
    run = Run(config, ALONE, manifest, [], no_show)
    run.go()
    losses = [
        record["loss"] for record in read_metrics(run.folder / "metrics.jsonl") if "loss" in record
    ]
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:3])


def test_a_weight_of_nothing_changes_nothing(experiment, teacher, tmp_path):
    plain = train(experiment(f"run_dir={tmp_path / 'plain'}"))
    beside = train(
        experiment(f"teacher.embeddings=[{teacher()}]", f"run_dir={tmp_path / 'beside'}")
    )
    for name in ("model.safetensors", "classifier.safetensors"):
        assert (plain / name).read_bytes() == (beside / name).read_bytes()


def test_mistakes_are_named(experiment, corpus, teacher):
    manifest = load_manifest(corpus / "train.csv")
    with pytest.raises(InputError, match="1 files for 2 speeds"):
        check_config(experiment(f"teacher.embeddings=[{teacher()}]", "augment.speeds=[1.0,0.9]"), 1)
    with pytest.raises(InputError, match=r"needs teacher\.embeddings"):
        check_config(experiment("teacher.cosine=1"), 1)
    with pytest.raises(InputError, match=r"teacher\.similarity"):
        check_config(experiment("teacher.similarity=-1"), 1)
    few = teacher(ids=manifest.utterance_ids.tolist()[:15])
    with pytest.raises(InputError, match=r"lacks 1 of the 16 .* s3/u3\.wav"):
        read_targets(experiment(f"teacher.embeddings=[{few}]"), manifest)
    wide = f"teacher.embeddings=[{teacher(dim=24)}]"
    with pytest.raises(InputError, match=r"\[24\] dimensions, encoder.embedding_dim is 16"):
        read_targets(experiment(wide, "teacher.cosine=1"), manifest)
    assert read_targets(experiment(wide, "teacher.similarity=1"), manifest).vectors.shape[2] == 24
