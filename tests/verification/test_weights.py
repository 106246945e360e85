"""Thresholds and calibrations belong to the weights whose scores taught them."""

import json
import logging
import shutil

import numpy as np
import pytest

from speakervlad.config import CALIBRATION_NAME, THRESHOLDS_NAME
from speakervlad.encoder.backends import weights_digest
from speakervlad.encoder.encoder import load_encoder
from speakervlad.errors import InputError
from speakervlad.models.folder import save_encoder
from speakervlad.scoring.calibration import Calibration, load_calibration
from speakervlad.scoring.scoring import score
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.training.run_folder import average_encoders
from speakervlad.verification import known
from speakervlad.verification.known import read_calibration, read_thresholds
from speakervlad.verification.listed import save_decisions
from speakervlad.verification.thresholds import Thresholds

NAMES = (THRESHOLDS_NAME, CALIBRATION_NAME)


def decide(folder, weights):
    save_decisions(
        folder,
        Thresholds(0.4, {0.01: 0.6}, encoder=weights),
        Calibration((12.0,), -6.0, encoder=weights),
    )


def left_in(folder):
    return [name for name in NAMES if (folder / name).exists()]


@pytest.fixture
def encoders(tmp_path, save_tiny_encoder, short_trunk):
    """Two encoders of one config; each has learnt where to decide."""
    folders = []
    for seed, name in enumerate("ab"):
        folders.append(save_tiny_encoder(tmp_path / name, seed, trunk=short_trunk))
    for folder in folders:
        decide(folder, weights_digest(folder))
    return folders


@pytest.mark.parametrize("name", NAMES)
def test_what_was_learnt_with_other_weights_is_refused(encoders, name, make_waveform):
    one, other = encoders
    shutil.copy(one / name, other / name)
    encoder = load_encoder(other, backend="torch")
    sounds = make_waveform(2.5, 0), make_waveform(2.5, 1)
    with pytest.raises(InputError, match=rf"{name}: was learnt with the weights .* Remove it"):
        encoder.verify(*sounds, any_sound=True)
    assert load_encoder(one, backend="torch").verify(*sounds, any_sound=True).rule


def test_a_calibration_that_is_given_is_compared_too(encoders, make_waveform):
    encoder = load_encoder(encoders[1], backend="torch")
    calibration = load_calibration(encoders[0] / CALIBRATION_NAME)
    with pytest.raises(InputError, match="calibration: was learnt with the weights"):
        encoder.rule(calibration=calibration)


def test_files_of_version_0_2_0_are_taken_with_one_warning(encoders, caplog):
    folder = encoders[0]
    for name in NAMES:
        values = json.loads((folder / name).read_text())
        del values["encoder"]
        (folder / name).write_text(json.dumps(values))
    known._warn_of_unnamed.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert read_thresholds(folder, {}).eer == 0.4
            assert read_calibration(folder, {}).weights == (12.0,)
    (record,) = caplog.records
    assert "does not say which weights it was learnt with" in record.getMessage()


def test_other_weights_in_the_same_folder_remove_them(encoders, tiny_encoder, short_trunk):
    one, other = encoders
    save_encoder(one, *tiny_encoder(0, trunk=short_trunk), {})
    assert left_in(one) == list(NAMES)
    save_encoder(one, *tiny_encoder(5, trunk=short_trunk), {})
    assert left_in(one) == []
    average_encoders([one, other], other)
    assert left_in(other) == []


def test_an_exported_file_carries_the_weights_they_are_of(encoders, tmp_path):
    from speakervlad.encoder.export import export_onnx

    one, other = encoders
    export_onnx(one, tmp_path / "one" / "e.onnx", check_seconds=(0.5,))
    assert load_encoder(tmp_path / "one" / "e.onnx").calibration is not None
    for name in NAMES:
        shutil.copy(other / name, tmp_path / "one" / name)
    exported = load_encoder(tmp_path / "one" / "e.onnx")
    for read in (lambda: exported.calibration, exported.rule, exported.threshold):
        with pytest.raises(InputError, match="was learnt with the weights"):
            read()


def test_score_refuses_the_calibration_of_another_encoder(rng):
    vectors = rng.standard_normal((2, 4)).astype(np.float32)
    trials = Trials.from_ids(["a"], ["b"], None)
    table = Embeddings(np.array(["a", "b"]), vectors, "1" * 64)
    of_others = Calibration((12.0,), -6.0, encoder="2" * 64)
    with pytest.raises(
        InputError, match=r"embeddings of 1{12}, calibration of 2{12}\. Use one encoder"
    ):
        score(trials, table, calibration=of_others)
    cosine = score(trials, table)
    for encoder in (None, "1" * 64):
        own = Calibration((12.0,), -6.0, encoder=encoder)
        np.testing.assert_allclose(score(trials, table, calibration=own), 12 * cosine - 6)
