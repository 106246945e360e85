import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
import torch

from speakervlad.config import load_config
from speakervlad.encoder.encoder import load_encoder
from speakervlad.errors import InputError
from speakervlad.models.folder import load_encoder_folder
from speakervlad.training.run import check_config, train
from speakervlad.training.run_folder import read_metrics
from speakervlad.training.state import TrainingState
from speakervlad.training.trainer import Trainer


def same_states(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


def test_training_learns_and_leaves_a_whole_run_folder(experiment, corpus, tmp_path):
    trials = f"data.valid_trials=[{corpus / 'dev.trials'}]"
    folder = train(experiment("train.steps=40", "train.validate_every=20", trials))
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "train.log", "metrics.jsonl", "tensorboard", "last.pt"} <= names
    records = read_metrics(run / "metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    eers = [record["eer"] for record in records if "eer" in record]
    assert losses[-1] < losses[0] / 2
    assert min(eers) < 0.2
    assert list((run / "tensorboard").glob("events*"))
    thresholds = json.loads((folder / "thresholds.json").read_text())
    assert -1 < thresholds["eer"] < 1
    assert load_encoder(folder, device="cpu").embed(corpus / "s0/u0.wav").shape == (16,)


def test_every_step_is_shown(experiment):
    shown = []
    train(experiment(), lambda step, total, line: shown.append((step, total, line)))
    assert [step for step, _, _ in shown] == list(range(1, 7))
    assert all(total == 6 and "loss" in line for _, total, line in shown)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_resumed_run_equals_an_unbroken_one(experiment, tmp_path, kind):
    optim = f"optim.kind={kind}"
    train(experiment(optim))
    whole = TrainingState.load(tmp_path / "run" / "last.pt")
    parts = f"run_dir={tmp_path / 'parts'}"
    state_path = tmp_path / "parts" / "last.pt"
    interrupted = Interrupt(after=5)
    with pytest.raises(KeyboardInterrupt):
        train(experiment(optim, parts), interrupted)
    assert TrainingState.load(state_path).step == 3
    train(experiment(optim, parts, "resume=true"))
    resumed = TrainingState.load(state_path)
    assert resumed.step == whole.step == 6
    assert same_states(whole.model, resumed.model)
    for key, values in whole.optimizer["state"].items():
        assert same_states(values, resumed.optimizer["state"][key]) if kind == "adam" else True
    steps = [record["step"] for record in read_metrics(tmp_path / "parts" / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4, 5, 6]


class Interrupt:
    """Breaks a run off after some steps, as Ctrl-C would."""

    def __init__(self, after):
        self.after = after

    def __call__(self, step, total, line):
        if step == self.after:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_workers_do_not_change_the_result(experiment, tmp_path):
    train(experiment("train.steps=2"))
    train(experiment("train.steps=2", "data.num_workers=2", f"run_dir={tmp_path / 'other'}"))
    one, two = (TrainingState.load(tmp_path / name / "last.pt") for name in ("run", "other"))
    assert same_states(one.model, two.model)


def test_existing_run_is_not_overwritten(experiment, finished, tmp_path):
    finished(tmp_path / "run", "train.steps=1")
    with pytest.raises(InputError, match=r"already holds a run.*resume=true"):
        train(experiment("train.steps=1"))


def test_changed_config_is_refused_with_the_difference(experiment, finished, tmp_path):
    finished(tmp_path / "run")
    with pytest.raises(InputError, match=r"optim\.lr was 0\.005, is 0\.1"):
        train(experiment("resume=true", "optim.lr=0.1"))


def test_damaged_state_is_refused(experiment, finished, tmp_path):
    finished(tmp_path / "run")
    (tmp_path / "run" / "last.pt").write_bytes(b"not a state")
    with pytest.raises(InputError, match=r"last\.pt: is no training state"):
        train(experiment("resume=true"))


def test_loss_that_is_not_finite_stops_with_the_utterances(experiment, corpus, tmp_path):
    with pytest.raises(InputError, match=r"loss is nan at step \d.*s\d/u\d\.wav"):
        train(experiment("optim.kind=sgd", "optim.lr=1e30", "optim.clip_norm=0"))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_vlad_init_moves_the_centres_and_nothing_else(experiment, tmp_path):
    train(experiment("train.steps=1", "optim.lr=0"))
    run = f"run_dir={tmp_path / 'init'}"
    train(experiment("train.steps=1", "optim.lr=0", "train.vlad_init_utterances=8", run))
    one, two = (TrainingState.load(tmp_path / name / "last.pt") for name in ("run", "init"))
    changed = {name for name in one.model if not torch.equal(one.model[name], two.model[name])}
    vlad = "encoder.pooling."
    assert changed == {vlad + "centers", vlad + "assignment.weight", vlad + "assignment.bias"}


def test_init_from_starts_at_that_encoder_with_a_new_classifier(experiment, tmp_path):
    folder = train(experiment())
    other = (f"run_dir={tmp_path / 'tuned'}", f"init_from={folder}", "train.freeze_trunk_steps=6")
    tuned = load_encoder_folder(train(experiment(*other)))[0]
    source = load_encoder_folder(folder)[0]
    assert same_states(source.trunk.state_dict(), tuned.trunk.state_dict())
    assert not same_states(source.projection.state_dict(), tuned.projection.state_dict())


def test_bfloat16_trains(experiment):
    train(experiment("train.precision=bfloat16", "train.steps=2"))


def test_two_processes_have_the_losses_of_one(experiment, tmp_path, monkeypatch):
    """This process and another one, with the environment that torchrun gives them."""
    same = ("optim.kind=sgd", "optim.lr=0.0001", "augment.time_masks=1")
    two = (*same, f"run_dir={tmp_path / 'two'}")
    script = Path(__file__).with_name("running_statistics.py")
    use_running_statistics = runpy.run_path(str(script))["use_running_statistics"]
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", use_running_statistics)
    train(experiment(*same))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    other = subprocess.Popen(
        [sys.executable, script, "train", tmp_path / "tiny.yaml", *two],
        env=os.environ | world | {"RANK": "1", "LOCAL_RANK": "1"},
    )
    with monkeypatch.context() as patch:
        for name, value in (world | {"RANK": "0", "LOCAL_RANK": "0"}).items():
            patch.setenv(name, value)
        train(experiment(*two))
    assert other.wait(60) == 0
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "two"))
    assert len(one) == 6
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["epoch"] == ours["epoch"]
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT]
)
def test_a_signal_to_the_whole_process_group_saves_and_exits_with_0(experiment, tmp_path, number):
    experiment()
    command = [sys.executable, "-m", "speakervlad", "train", str(tmp_path / "tiny.yaml")]
    command += ["train.steps=100000", "train.save_every=100000", "data.num_workers=1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, start_new_session=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    printed, messages = process.communicate(timeout=60)
    assert process.returncode == 0, messages
    assert TrainingState.load(tmp_path / "run" / "last.pt").step >= 2
    assert messages.endswith("stopped early and saved; the same command with resume=true goes on\n")
    assert printed == ""
    assert "Traceback" not in messages
    assert ("saving, then leaving" in messages) == (number == signal.SIGINT)


def raise_at_the_fourth_step(monkeypatch, number, times=1):
    step = Trainer.step

    def ask(trainer, at, examples):
        if at == 3:
            for _ in range(times):
                signal.raise_signal(number)
        return step(trainer, at, examples)

    monkeypatch.setattr(Trainer, "step", ask)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_does_not_wait_for_a_report(experiment, tmp_path, monkeypatch, number):
    raise_at_the_fourth_step(monkeypatch, number)
    options = ("train.steps=50", "train.log_every=50", "train.save_every=50")
    assert train(experiment(*options)) is None
    assert TrainingState.load(tmp_path / "run" / "last.pt").step == 4
    assert [record["step"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [4]
    assert (tmp_path / "run/encoder-last/model.safetensors").exists()


def test_a_second_ctrl_c_leaves_at_once(experiment, tmp_path, monkeypatch):
    raise_at_the_fourth_step(monkeypatch, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt):
        train(experiment())
    assert TrainingState.load(tmp_path / "run" / "last.pt").step == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_truncated_audio_names_the_utterance(experiment, tmp_path, corpus):
    bad = tmp_path / "bad"
    bad.mkdir()
    soundfile.write(bad / "short.wav", [0.1] * 4000, 16000)
    rows = "utterance_id,path,speaker,session,num_samples\n"
    rows += "a,short.wav,one,x,12000\nb,short.wav,two,x,12000\n"
    (bad / "bad.csv").write_text(rows)
    with pytest.raises(InputError, match=r"utterance [ab]: .*short\.wav"):
        train(experiment(f"data.train_manifest={bad / 'bad.csv'}", "train.batch_size=2"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.batch_size=0", "at least 1"),
        ("data.train_manifest=''", "train_manifest is not set"),
        ("data.train_manifest=nowhere.csv", r"nowhere\.csv"),
        ("encoder.front_end.num_mels=20", "too few"),
        ("encoder.pooling.assignment=trunk train.vlad_init_utterances=4", "vlad_init"),
        ("train.device=warp", "device=warp"),
        ("init_from=nowhere", "nowhere: no such encoder folder"),
    ],
)
def test_unusable_configs_are_refused(experiment, override, words):
    with pytest.raises((InputError, FileNotFoundError), match=words):
        train(experiment(*override.split()))


def test_config_in_the_run_folder_reads_back(experiment, tmp_path):
    config = experiment()
    train(config)
    assert load_config(tmp_path / "run" / "config.yaml") == check_config(config, 1)


@pytest.mark.slow
def test_torchrun_restarts_a_killed_process_and_the_run_goes_on(experiment, tmp_path, torchrun):
    same = ("data.num_workers=1", "resume=true")
    experiment()
    for name, crash_step in (("whole", -1), ("broken", 4)):
        torchrun(
            Path(__file__).with_name("crash_once.py"),
            *("train", tmp_path / "tiny.yaml", *same, f"run_dir={tmp_path / name}"),
            options=("--max-restarts=1",),
            timeout=900,
            CRASH_STEP=crash_step,
            CRASH_FLAG=tmp_path / f"{name}.crashed",
        )
    assert (tmp_path / "broken.crashed").exists()
    assert (tmp_path / "broken/train.log").read_text().count("16 utterances of 4 speakers") == 2
    one, two = (TrainingState.load(tmp_path / name / "last.pt") for name in ("whole", "broken"))
    assert one.step == two.step == 6
    assert same_states(one.model, two.model)
    for key, values in one.optimizer["state"].items():
        assert same_states(values, two.optimizer["state"][key])


def test_a_full_disk_leaves_the_save_before(tmp_path, full_disk):
    path = tmp_path / "last.pt"
    TrainingState(1, {"a": torch.zeros(10)}, {"state": {}}).save(path)
    with full_disk(2000), pytest.raises(InputError, match=r"last\.pt: cannot be written"):
        TrainingState(2, {"a": torch.zeros(10_000)}, {"state": {}}).save(path)
    assert TrainingState.load(path).step == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_validation_is_off_at_zero_and_a_resumed_run_may_turn_it_on(experiment, corpus, tmp_path):
    trials = f"data.valid_trials=[{corpus / 'dev.trials'}]"
    folder = train(experiment("train.validate_every=0", trials))
    assert load_encoder(folder, device="cpu").embed(corpus / "s0/u0.wav").shape == (16,)
    assert not any("eer" in each for each in read_metrics(tmp_path / "run/metrics.jsonl"))
    more = ("train.validate_every=4", "train.steps=8", "resume=true")
    train(experiment(*more, trials))
    records = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [each["step"] for each in records if "eer" in each] == [8]


def test_one_speaker_is_nobody_to_be_told_apart(experiment, own_manifest, tmp_path):
    rows = own_manifest.read_text().splitlines()
    own_manifest.write_text("\n".join([rows[0], *(row for row in rows if ",s1," in row)]) + "\n")
    speeds = "augment.speeds=[1.0,0.9]"
    for more in ((), (speeds,)):
        config = experiment(f"data.train_manifest={own_manifest}", *more)
        with pytest.raises(
            InputError, match=r"train\.csv: all 4 recordings are of one speaker, s1: nobody"
        ):
            train(config)
    assert not (tmp_path / "run").exists()
