"""A run goes on with the data, the state and the records that it had, or says in a line why not."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speakervlad.corpus.packing import pack
from speakervlad.corpus.work import Work
from speakervlad.errors import InputError
from speakervlad.tables.manifest import load_manifest, save_manifest
from speakervlad.training import state
from speakervlad.training.run import train
from speakervlad.training.run_folder import RunLog, read_metrics
from speakervlad.training.state import TrainingState, compared_rows


def same_models(one: Path, two: Path) -> bool:
    first, second = (TrainingState.load(folder / "last.pt").model for folder in (one, two))
    return all(torch.equal(first[name], second[name]) for name in first)


def figures(folder: Path) -> list[dict]:
    """What ``metrics.jsonl`` says, without speeds."""
    records = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k != "crops_per_second"} for record in records]


def stop_at(stop, action=None):
    """A ``show`` that breaks a run off as a kill would, or does something at this step."""

    def show(step, total, line):
        if step == stop and action:
            action()
        elif step == stop:
            raise KeyboardInterrupt

    return show


@pytest.fixture
def own_corpus(corpus, tmp_path):
    """A copy of the corpus that a test may change."""
    return Path(shutil.copytree(corpus, tmp_path / "own"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(",s3,", ",ann,"), "new speakers: ann; missing speakers: s3"),
        (lambda text: text.replace(",s3,", ",s0,"), "missing speakers: s3; other rows: line 14"),
        (lambda text: "\n".join(text.splitlines()[::-1]), "other rows: line 2, line 3, line 4"),
        (lambda text: text.rpartition("\n")[0], "utterances: 15 instead of 16"),
        (lambda text: text.replace("s0/u1.wav,s0,", "s0/u2.wav,s0,"), "other rows: line 3)"),
        (lambda text: text.replace("12000", "11000"), "other rows: line 2, "),
    ],
)
def test_another_manifest_is_refused_with_what_changed(experiment, own_corpus, change, words):
    manifest = own_corpus / "train.csv"
    config = experiment(f"data.train_manifest={manifest}", "train.steps=1", "resume=true")
    train(config)
    header, _, rows = manifest.read_text().partition("\n")
    manifest.write_text(f"{header}\n{change(rows.strip())}\n")
    with pytest.raises(InputError) as refused:
        train(config)
    message = str(refused.value)
    assert message.startswith(f"{manifest}: is not the manifest that ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("change", ["another take", "shorter", "gone", "touched"])
def test_recordings_that_changed_under_the_same_manifest_are_noticed(
    experiment, own_corpus, tmp_path, change
):
    config = experiment(f"data.train_manifest={own_corpus / 'train.csv'}", "resume=true")
    with pytest.raises(KeyboardInterrupt):
        train(config, stop_at(4))
    audio = own_corpus / "s2/u1.wav"
    held = audio.read_bytes()
    if change == "gone":
        audio.unlink()
    elif change == "touched":  # a copy has another date
        audio.unlink()
        audio.write_bytes(held)
        assert train(config)
        return
    else:
        other = held[:1000] + bytes(2) + held[1002:]
        audio.write_bytes(held[:-2] if change == "shorter" else other)
    with pytest.raises(InputError) as refused:
        train(config)
    message = str(refused.value)
    assert "1 of 16 recordings that were compared are missing or not those that" in message
    assert "(line 11). Restore them, or start another run_dir." in message
    audio.write_bytes(held)
    train(config)
    # There is nothing left to hear.
    audio.unlink()
    train(config)


def test_packed_recordings_are_parts_of_their_shard(experiment, corpus, tmp_path):
    packed = pack(load_manifest(corpus / "train.csv"), tmp_path / "packed", work=Work(0))
    save_manifest(tmp_path / "packed/train.csv", packed)
    (shard,) = (tmp_path / "packed").glob("*.pcm16")
    config = experiment(f"data.train_manifest={tmp_path / 'packed/train.csv'}", "resume=true")
    with pytest.raises(KeyboardInterrupt):
        train(config, stop_at(4))
    samples = bytearray(shard.read_bytes())
    samples[2 * 12000 * 3 + 100] ^= 1
    shard.write_bytes(samples)
    with pytest.raises(InputError, match=r"1 of 16 recordings that were compared .* \(line 5\)"):
        train(config)


def test_a_state_of_version_0_2_0_is_resumed(experiment, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(experiment(), stop_at(4))
    values = torch.load(tmp_path / "run/last.pt", weights_only=True)
    del values["sound_digests"]
    torch.save(values, tmp_path / "run/last.pt")
    train(experiment("resume=true"))
    assert len(TrainingState.load(tmp_path / "run/last.pt").sound_digests) == 16


def test_the_recordings_of_a_large_corpus_are_compared_in_part():
    assert compared_rows(3, 1000) == [0, 1, 2]
    rows = compared_rows(1_200_000, 1000)
    assert len(set(rows)) == 1000
    assert (rows[0], rows[-1]) == (0, 1_198_800)
    assert compared_rows(5, 0) == []


def test_validation_that_breaks_costs_no_training(experiment, own_corpus, tmp_path):
    audio = own_corpus / "s2/u1.wav"
    lists = ("train.steps=6", f"data.valid_trials=[{own_corpus / 'dev.trials'}]")
    train(experiment(*lists, f"run_dir={tmp_path / 'whole'}"))
    held = audio.read_bytes()
    with pytest.raises(InputError, match=r"s2/u1\.wav"):
        train(experiment(*lists), stop_at(3, lambda: audio.write_bytes(b"no audio")))
    assert TrainingState.load(tmp_path / "run/last.pt").step == 3
    assert (tmp_path / "run/encoder-last/model.safetensors").exists()
    audio.write_bytes(held)
    train(experiment(*lists, "resume=true"))
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")
    assert same_models(tmp_path / "run", tmp_path / "whole")
    one, two = (tmp_path / run / "encoder" for run in ("run", "whole"))
    first, second = (json.loads((path / "thresholds.json").read_text()) for path in (one, two))
    # Their files of weights carry notes of the run, so each names its own.
    assert all(learnt.pop("encoder") for learnt in (first, second))
    assert first == second
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_signal_ends_a_validation_and_the_next_part_does_it(experiment, corpus, tmp_path):
    lists = ("train.steps=6", f"data.valid_trials=[{corpus / 'dev.trials'}]", "resume=true")
    train(experiment(*lists, f"run_dir={tmp_path / 'whole'}"))
    for step in (3, 6):
        ask = stop_at(step, lambda: signal.raise_signal(signal.SIGTERM))
        assert train(experiment(*lists), ask) is None
        assert TrainingState.load(tmp_path / "run/last.pt").step == step
    assert train(experiment(*lists)) == tmp_path / "run/encoder"
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert train(experiment(*lists)) == tmp_path / "run/encoder"
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_states_are_saved_before_validations_between_two_saves(experiment, corpus, tmp_path):
    lists = (f"data.valid_trials=[{corpus / 'dev.trials'}]", "train.validate_every=2")
    with pytest.raises(KeyboardInterrupt):
        train(experiment(*lists, "train.save_every=6"), stop_at(3))
    assert TrainingState.load(tmp_path / "run/last.pt").step == 2


def test_two_trainings_in_one_folder_are_one_too_many(experiment, tmp_path):
    def start_another():
        with pytest.raises(InputError, match=r"run: another process trains here\. Wait for it"):
            train(experiment("resume=true"))

    train(experiment(), stop_at(2, start_another))
    assert [record["step"] for record in figures(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def damage(values, key, value):
    """Set ``a/b/c`` of nested dictionaries; None removes it."""
    *path, last = key.split("/")
    for name in path:
        values = values[int(name) if name.isdecimal() else name]
    if value is None:
        del values[last]
    else:
        values[last] = value


WEIGHT = "encoder.projection.linear.weight"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("step", "5", "step damaged"),
        ("step", -5, "step damaged"),
        ("step", None, "of this version"),
        ("more", 1, "of this version"),
        ("best_eer", "low", "best_eer damaged"),
        ("best_eer", float("nan"), "best_eer damaged"),
        ("window", torch.zeros(3), "window damaged"),
        ("class_names", [1, 2], "class_names damaged"),
        ("row_digests", torch.zeros(16), "row_digests damaged"),
        ("model", [], "model damaged"),
        (f"model/{WEIGHT}", 3, "model damaged"),
        (f"model/{WEIGHT}", None, f"missing {WEIGHT}"),
        (f"model/{WEIGHT}", torch.zeros(2, 2), rf"{WEIGHT} is \(2, 2\), not"),
        (f"model/{WEIGHT}", torch.zeros(16, 48, dtype=torch.int32), "is torch.int32, not"),
        ("optimizer", {}, "optimizer damaged"),
        ("optimizer/state", {}, "optimiser's state is damaged"),
        ("optimizer/state/0/exp_avg", torch.zeros(3), "optimiser's state is damaged"),
        ("optimizer/state/0/exp_avg", None, "optimiser's state is damaged"),
        ("optimizer/state/0/step", "1", "optimiser's state is damaged"),
        ("optimizer/state", {9999: {}}, "optimiser's state is damaged"),
    ],
)
def test_a_damaged_state_is_refused_in_one_line(experiment, finished, tmp_path, key, value, words):
    finished(tmp_path / "run", "train.steps=1")
    path = tmp_path / "run/last.pt"
    values = torch.load(path, weights_only=True)
    damage(values, key, value)
    torch.save(values, path)
    with pytest.raises(InputError, match=words) as refused:
        train(experiment("train.steps=1", "resume=true"))
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("spoil", [lambda kept: bytes(len(kept)), lambda kept: kept[:-3000]])
def test_a_state_with_lost_bytes_is_refused(tmp_path, spoil):
    path = tmp_path / "last.pt"
    TrainingState(1, {"a": torch.zeros(3000)}, {"state": {}}).save(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"last\.pt: is no training state"):
        TrainingState.load(path)


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (lambda text: text + bytes(50), 6),
        (lambda text: text + b'{"step": 7, "loss"', 6),
        (lambda text: text.replace(b'"step": 4', b"\0" * 9), 3),
        (lambda text: bytes(len(text)), 0),
        (lambda text: text + b"[" * 100_000 + b"\n", 6),
        (lambda text: b'{"step": "one"}\n' + text, 0),
    ],
)
def test_damaged_records_are_cut_off_and_told(experiment, finished, tmp_path, caplog, spoil, left):
    finished(tmp_path / "run")
    path = tmp_path / "run/metrics.jsonl"
    path.write_bytes(spoil(path.read_bytes()))
    train(experiment("resume=true", "train.steps=7"))
    assert [record["step"] for record in read_metrics(path)] == [*range(1, left + 1), 7]
    assert f"metrics.jsonl: damaged or incomplete after line {left}; " in caplog.text


def test_what_a_kill_left_half_written_is_removed(experiment, finished, tmp_path):
    finished(tmp_path / "run")
    run = tmp_path / "run"
    names = (".last.abcdefgh.pt", ".metrics.abcd_123.jsonl", "encoder/.model.abcdefgh.safetensors")
    for name in names:
        (run / name).write_bytes(b"half")
    (run / "encoder/.mine.txt").write_text("kept")
    train(experiment("resume=true"))
    assert [name for name in names if (run / name).exists()] == []
    assert (run / "encoder/.mine.txt").exists()


def test_a_report_covers_its_steps_before_a_resume_too(experiment, tmp_path):
    options = ("train.log_every=4", "train.steps=8", "train.save_every=3")
    train(experiment(*options, f"run_dir={tmp_path / 'whole'}"))
    with pytest.raises(KeyboardInterrupt):
        train(experiment(*options), stop_at(4))
    assert TrainingState.load(tmp_path / "run/last.pt").window.shape == (3, 2)
    train(experiment(*options, "resume=true"))
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def test_a_finished_run_goes_on_when_it_becomes_longer(experiment, tmp_path, caplog):
    caplog.set_level("INFO")
    train(experiment())
    train(experiment("resume=true"))
    assert "nothing left to do: step 6 of 6; resume=true with a larger train.steps" in caplog.text
    longer = ("resume=true", "train.steps=8", "schedule.warmup_steps=3")
    train(experiment(*longer))
    assert [record["step"] for record in figures(tmp_path / "run")] == [*range(1, 9)]
    rates = [record["learning_rate"] for record in figures(tmp_path / "run")]
    assert rates[5] < rates[6] > rates[7]
    with pytest.raises(InputError, match=r"train\.steps was 8, is 6"):
        train(experiment("resume=true"))
    with pytest.raises(InputError, match=r"optim\.lr was 0\.005, is 0\.1\)"):
        train(experiment("resume=true", "train.steps=9", "schedule.warmup_steps=3", "optim.lr=0.1"))
    train(experiment(*longer))


def test_a_full_disk_is_named_when_records_are_written(tmp_path, full_disk):
    log = RunLog(tmp_path, 0)
    log.write(1, {"loss": 0.5})
    # TensorBoard writes in a thread of its own, which the limit must not meet.
    log._board.flush()
    with full_disk(40), pytest.raises(InputError, match=r"metrics\.jsonl: cannot be written"):
        log.write(2, {"loss": 0.5})
    log.close()
    assert read_metrics(tmp_path / "metrics.jsonl")[0] == {"step": 1, "loss": 0.5}


def test_a_file_of_another_user_keeps_its_own_error(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", "last.pt")

    monkeypatch.setattr(state.torch, "load", refuse)
    with pytest.raises(PermissionError):
        TrainingState.load(tmp_path / "last.pt")
