"""``init_from`` with the classifier that a converted checkpoint kept."""

import pytest
import torch

from speakervlad.errors import InputError
from speakervlad.models.folder import save_classifier, save_encoder
from speakervlad.training.run import check_config
from speakervlad.training.start import build_model


@pytest.fixture
def folder(experiment, tmp_path):
    model = build_model(experiment("train.seed=5"), num_speakers=4)
    save_encoder(tmp_path / "kept", model.encoder, experiment().encoder, {})
    save_classifier(tmp_path / "kept", model.classifier.weight.detach())
    return tmp_path / "kept"


@pytest.mark.parametrize("keep", [True, False])
def test_the_kept_classifier_is_taken_when_asked_for(experiment, folder, keep):
    kept = build_model(experiment("train.seed=5"), num_speakers=4)
    config = experiment(f"init_from={folder}", f"init_classifier={str(keep).lower()}")
    model = build_model(config, num_speakers=4)
    assert torch.equal(
        model.encoder.projection.linear.weight, kept.encoder.projection.linear.weight
    )
    assert torch.equal(model.classifier.weight, kept.classifier.weight) == keep


def test_another_number_of_speakers_is_refused(experiment, folder):
    config = experiment(f"init_from={folder}", "init_classifier=true")
    with pytest.raises(InputError, match=r"classifier.safetensors.*\(4, 16\), not \(5, 16\)"):
        build_model(config, num_speakers=5)


def test_a_folder_without_classifier_is_named(experiment, folder):
    (folder / "classifier.safetensors").unlink()
    config = experiment(f"init_from={folder}", "init_classifier=true")
    with pytest.raises(InputError, match=r"kept: holds no classifier\.safetensors"):
        build_model(config, num_speakers=4)


def test_a_classifier_comes_with_its_encoder(experiment):
    with pytest.raises(InputError, match="init_classifier needs init_from"):
        check_config(experiment("init_classifier=true"), world_size=1)
