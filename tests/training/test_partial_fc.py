"""Classes sharded over processes and sampled: the same losses, gradients, runs and files."""

import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speakervlad.errors import InputError
from speakervlad.models.build import save_classifier, save_encoder
from speakervlad.training.build import build_model
from speakervlad.training.checkpoint import TrainingState
from speakervlad.training.distributed import ALONE, World
from speakervlad.training.partial_fc import PartialFC, class_range
from speakervlad.training.run import train
from speakervlad.training.run_log import read_metrics

SCRIPT = Path(__file__).with_name("sharded_losses.py")
sharded_losses = runpy.run_path(str(SCRIPT))
CASES, SPEAKERS = sharded_losses["CASES"], sharded_losses["SPEAKERS"]
SHARDED = ("classifier.sharded=true", "optim.kind=sgd", "optim.lr=0.0001")


@pytest.fixture(scope="module")
def two_processes(torchrun, tmp_path_factory):
    path = tmp_path_factory.mktemp("sharded") / "found.pt"
    torchrun(SCRIPT, path)
    return dict(zip(CASES, torch.load(path), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_find_the_loss_and_the_gradients_of_one(two_processes, case):
    alone = sharded_losses["loss_and_gradients"](*case, ALONE)
    for name, value in two_processes[case].items():
        torch.testing.assert_close(value, alone[name], atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("kind", sharded_losses["KINDS"])
def test_unsampled_it_is_the_plain_loss(kind):
    found = sharded_losses["loss_and_gradients"](kind, 1.0, ALONE)
    encoder, plain = sharded_losses["layers"](kind)
    waves, speakers = sharded_losses["batch"]()
    embeddings = encoder(waves)
    embeddings.retain_grad()
    loss = plain(embeddings, speakers)
    loss.value.backward()
    expected = (loss.value.detach(), loss.accuracy, embeddings.grad, encoder.weight.grad)
    for value, known in zip(found.values(), (*expected, plain.weight.grad), strict=True):
        torch.testing.assert_close(value, known.to(value.dtype), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("rate", [1e-9, 0.3])
def test_the_classes_of_the_batch_always_take_part(rate):
    found = sharded_losses["loss_and_gradients"]("am_softmax", rate, ALONE)
    speakers = sharded_losses["batch"]()[1]
    took_part = found["weight"].abs().sum(dim=1) > 0
    assert took_part[speakers].all()
    others = int(took_part.sum()) - len(speakers.unique())
    assert others == 0 if rate < 0.1 else 15 < others < 45


def test_the_sample_belongs_to_seed_and_step():
    def drawn(seed, step):
        _, whole = sharded_losses["layers"]("am_softmax")
        classifier = PartialFC(whole, ALONE, sample_rate=0.5, seed=seed)
        classifier.before_step(step)
        return classifier._drawn

    assert torch.equal(drawn(1, 2), drawn(1, 2))
    assert not torch.equal(drawn(1, 2), drawn(1, 3))
    assert not torch.equal(drawn(1, 2), drawn(2, 2))


def shards(config, count, size):
    worlds = (World(rank, size, torch.device("cpu")) for rank in range(size))
    return [build_model(config, count, world).classifier.weight.detach() for world in worlds]


def test_classes_start_alike_whatever_the_number_of_processes(experiment):
    config, count = experiment(*SHARDED), 10_001
    (whole,) = shards(config, count, 1)
    assert float(whole.norm(dim=1).mean()) == pytest.approx((16 / count) ** 0.5, rel=0.05)
    assert len(whole.unique(dim=0)) == count
    for size in (2, 3):
        assert torch.equal(torch.cat(shards(config, count, size)), whole)
    assert not torch.equal(shards(experiment(*SHARDED, "train.seed=9"), count, 1)[0], whole)


@pytest.mark.parametrize("speeds", [1, 3])
def test_every_process_takes_its_rows_of_a_kept_classifier(experiment, tmp_path, speeds):
    kept = build_model(experiment(), num_speakers=7)
    save_encoder(tmp_path / "kept", kept.encoder, experiment().encoder, {})
    save_classifier(tmp_path / "kept", kept.classifier.weight.detach())
    config = experiment(*SHARDED, f"init_from={tmp_path / 'kept'}", "init_classifier=true")
    found = torch.cat(shards(config, 7 * speeds, 3))
    assert torch.equal(found, kept.classifier.weight.repeat(speeds, 1))


def test_no_process_makes_the_classes_of_others(experiment, monkeypatch):
    orthogonal = torch.nn.init.orthogonal_

    def small(values):
        assert values.is_meta or len(values) < 10_000
        return orthogonal(values)

    monkeypatch.setattr(torch.nn.init, "orthogonal_", small)
    model = build_model(experiment(*SHARDED), 10_000, World(1, 4, torch.device("cpu")))
    assert model.classifier.weight.untyped_storage().nbytes() == 2_500 * 16 * 4


def test_ranges_hold_every_class_once():
    for size in (1, 2, 3, 8):
        ranges = [class_range(SPEAKERS, rank, size) for rank in range(size)]
        assert [row for first, end in ranges for row in range(first, end)] == list(range(SPEAKERS))


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_training_with_two_processes_equals_training_with_one(experiment, tmp_path, torchrun, rate):
    same = (*SHARDED, f"classifier.sample_rate={rate}", "optim.clip_norm=0.1")
    other = (f"run_dir={tmp_path / 'two'}", "train.sync_batch_norm=true")
    experiment()
    torchrun("-m", "speakervlad", "train", tmp_path / "tiny.yaml", *same, *other)
    train(experiment(*same))
    one, two = (TrainingState.load(tmp_path / name / "last.pt") for name in ("run", "two"))
    assert one.model.keys() == two.model.keys()
    for name, value in one.model.items():
        torch.testing.assert_close(two.model[name], value, atol=1e-5, rtol=1e-4, msg=name)
    momentum = [list(state.optimizer["state"].values())[-1] for state in (one, two)]
    torch.testing.assert_close(*momentum, atol=1e-5, rtol=1e-4)
    kept = load_file(tmp_path / "two/encoder/classifier.safetensors")["weight"]
    assert torch.equal(kept, two.model["classifier.weight"])
    losses = [
        [record["loss"] for record in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("run", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_run_may_go_on_unsharded(experiment, tmp_path):
    def stop(step, total, line):
        if step == 4:
            raise KeyboardInterrupt

    train(experiment(f"run_dir={tmp_path / 'first'}", "train.steps=1"))
    start = (f"init_from={tmp_path / 'first/encoder'}", "init_classifier=true")
    plain = (*start, *SHARDED[1:])
    train(experiment(*plain, f"run_dir={tmp_path / 'whole'}"))
    with pytest.raises(KeyboardInterrupt):
        train(experiment(*start, *SHARDED), stop)
    train(experiment(*plain, "resume=true"))
    one, two = (TrainingState.load(tmp_path / name / "last.pt") for name in ("whole", "run"))
    for name, value in one.model.items():
        torch.testing.assert_close(two.model[name], value, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("classifier.sharded=true", "classifier.kind=softmax"), "sharded needs classifier.kind"),
        (("classifier.sharded=true", "classifier.sample_rate=0"), "above 0 and at most 1"),
        (("classifier.sample_rate=0.5",), "needs classifier.sharded=true"),
    ],
)
def test_what_cannot_be_sharded_is_refused(experiment, overrides, words):
    with pytest.raises(InputError, match=words):
        train(experiment(*overrides))
