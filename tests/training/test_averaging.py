import pytest
import torch
from safetensors.torch import load_file

from speakervlad.errors import InputError
from speakervlad.models.folder import load_encoder_folder
from speakervlad.training.run import train
from speakervlad.training.run_folder import average_encoders


def test_a_run_leaves_the_mean_of_its_last_encoders(experiment, tmp_path):
    train(experiment("train.save_every=2", "train.average_last=2"))
    folders = sorted((tmp_path / "run/encoders").iterdir())
    assert [folder.name for folder in folders] == ["step-000000004", "step-000000006"]
    files = ("model.safetensors", "classifier.safetensors")
    for file in files:
        one, two, mean = (
            load_file(folder / file) for folder in (*folders, tmp_path / "run/encoder-average")
        )
        for name, value in mean.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (one[name] + two[name]) / 2)
                assert name.startswith("front_end") or not torch.equal(one[name], two[name])
            else:
                assert torch.equal(value, two[name])
    load_encoder_folder(tmp_path / "run/encoder-average")


def test_encoders_of_different_configs_are_not_averaged(experiment, tmp_path):
    folders = [
        train(
            experiment(
                "train.steps=1", f"run_dir={tmp_path / str(dim)}", f"encoder.embedding_dim={dim}"
            )
        )
        for dim in (8, 16)
    ]
    with pytest.raises(InputError, match="its config is not that of"):
        average_encoders(folders, tmp_path / "mean")
    with pytest.raises(InputError, match="no encoder to average"):
        average_encoders([], tmp_path / "mean")


def test_fine_tuning_without_speeds_takes_the_classes_of_the_first_speed(experiment, tmp_path):
    folder = train(experiment("augment.speeds=[1.0,0.9,1.1]"))
    weight = load_file(folder / "classifier.safetensors")["weight"]
    assert len(weight) == 12
    frozen = ("init_classifier=true", "optim.kind=sgd", "optim.lr=0", "train.steps=1")
    tuned = train(experiment(f"init_from={folder}", f"run_dir={tmp_path / 'tuned'}", *frozen))
    assert torch.equal(load_file(tuned / "classifier.safetensors")["weight"], weight[:4])
