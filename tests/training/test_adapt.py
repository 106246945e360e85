"""Fitting a head to a few speakers: who is kept apart, what is written, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from speakervlad.encoder.backends import weights_digest
from speakervlad.encoder.encoder import load_encoder
from speakervlad.errors import InputError
from speakervlad.models.folder import load_encoder_folder, save_encoder
from speakervlad.scoring.calibration import Calibration
from speakervlad.tables.manifest import Manifest
from speakervlad.training import adapt as module
from speakervlad.training.adapt import adapt, adaptation, split_speakers
from speakervlad.verification.known import read_calibration, read_thresholds
from speakervlad.verification.listed import save_decisions
from speakervlad.verification.thresholds import Thresholds

SAMPLES = 8000


def voices(folder, speakers, utterances=3):
    """Recordings of speakers who differ in pitch and tilt, by their manifest."""
    names, lengths = [], []
    for speaker in range(speakers):
        for number in range(utterances):
            rng = np.random.default_rng((speaker, number))
            time = np.arange(SAMPLES) / 16000
            pitch = 90 + 12 * speaker + rng.uniform(-3, 3)
            tilt = 0.5 + speaker % 5 / 4
            tones = [np.sin(2 * np.pi * pitch * k * time) / k**tilt for k in range(1, 12)]
            sound = 0.05 * np.sum(tones, axis=0) + 0.01 * rng.standard_normal(SAMPLES)
            name = f"s{speaker:02d}/u{number}.wav"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / name, sound, 16000)
            names.append(name)
            lengths.append(SAMPLES)
    people = [name.split("/")[0] for name in names]
    columns = {"speakers": people, "sessions": names, "num_samples": lengths}
    return Manifest.of(folder, utterance_ids=names, paths=names, **columns)


@pytest.fixture
def ready(source, monkeypatch):
    """The source with thresholds and calibration of its own, computed by torch."""

    def with_torch(folder, frames, steps, seed):
        config = adaptation(folder, frames, steps, seed)
        cache = replace(config.data.frame_cache, backend="torch", crop_seconds=(0.2, 0.4))
        return replace(config, data=replace(config.data, frame_cache=cache))

    monkeypatch.setattr(module, "adaptation", with_torch)
    digest = weights_digest(source)
    calibration = Calibration((8.0,), -4.0, num_target=10, num_nontarget=100)
    save_decisions(source, Thresholds(0.5, encoder=digest), replace(calibration, encoder=digest))
    (source / "NOTICE").write_text("somebody's")
    return source


def test_few_speakers_are_judged_in_turn_and_thresholds_stay(ready, tmp_path):
    manifest = voices(tmp_path / "mine", 12)
    out = tmp_path / "adapted"
    found = adapt(manifest, out, encoder=ready, steps=4, even_if_worse=True)
    assert (found.speakers, found.judged, found.parts, found.learns) == (12, 12, 3, False)
    assert found.before.num_target == found.after.num_target == 12 * 3
    assert found.before.num_nontarget == 3 * 6 * 9
    assert found.before.intervals["eer"][0] <= found.before.eer <= found.before.intervals["eer"][1]
    assert found.encoder == out
    own = weights_digest(out)
    assert read_thresholds(out, {}).eer == 0.5
    assert read_thresholds(out, {}).encoder == read_calibration(out, {}).encoder == own
    assert own != weights_digest(ready)
    assert (out / "NOTICE").read_text() == "somebody's"
    before, after = (load_file(folder / "model.safetensors") for folder in (ready, out))
    for name, value in before.items():
        if name.startswith("trunk."):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["projection.linear.weight"], after["projection.linear.weight"])
    assert load_encoder(out, backend="torch").embed(manifest.path(0)).shape == (16,)
    assert sorted(path.name for path in tmp_path.glob(".adapted*")) == []


def test_many_speakers_teach_thresholds(ready, tmp_path):
    manifest = voices(tmp_path / "mine", 42, utterances=2)
    out = tmp_path / "adapted"
    found = adapt(manifest, out, encoder=ready, steps=2, even_if_worse=True)
    assert (found.speakers, found.judged, found.parts, found.learns) == (42, 14, 1, True)
    assert found.after.num_target == 14
    assert read_thresholds(out, {}).eer != 0.5
    assert read_calibration(out, {}).num_target == 14


def test_speakers_are_kept_apart_whole(tmp_path):
    for count, folds in ((12, 3), (20, 5), (39, 5), (40, 1), (100, 1)):
        names = [f"{speaker}/{number}" for speaker in range(count) for number in range(3)]
        speakers = [name.split("/")[0] for name in names]
        columns = {"speakers": speakers, "sessions": names, "num_samples": [1] * len(names)}
        manifest = Manifest.of(tmp_path, utterance_ids=names, paths=names, **columns)
        parts = split_speakers(manifest, 3)
        assert len(parts) == folds
        rows = np.concatenate(parts)
        assert len(np.unique(rows)) == len(rows)
        for part in parts:
            others = np.setdiff1d(np.arange(len(names)), part)
            assert not set(manifest.speakers[part]) & set(manifest.speakers[others])
            assert len(part) >= 3 * 4
        if folds > 1:
            assert len(rows) == len(names)


def test_a_worse_encoder_is_not_written_unless_asked(ready, tmp_path, monkeypatch):
    manifest = voices(tmp_path / "mine", 12)
    fit = module.Fitting.fit

    def spoil(self, rows):
        encoder = fit(self, rows)
        encoder.projection.linear.weight.data.normal_()
        return encoder

    monkeypatch.setattr(module.Fitting, "fit", spoil)
    monkeypatch.setattr(module.Adapted, "is_worse", True)
    out = tmp_path / "adapted"
    same = {"encoder": ready, "steps": 1, "frames": tmp_path / "frames"}
    found = adapt(manifest, out, **same)
    assert found.encoder is None
    assert not out.exists()
    assert adapt(manifest, out, **same, even_if_worse=True).encoder == out


def test_frames_are_kept_where_asked(ready, tmp_path, monkeypatch):
    manifest = voices(tmp_path / "mine", 12)
    kept = tmp_path / "kept"
    adapt(manifest, tmp_path / "one", encoder=ready, steps=1, frames=kept, even_if_worse=True)
    assert (kept / "recordings/copy-000.f16").is_file()
    monkeypatch.setattr("speakervlad.training.frame_maker.work", None)
    adapt(manifest, tmp_path / "two", encoder=ready, steps=1, frames=kept, even_if_worse=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_half_precision_weights_are_fitted_too(ready, tmp_path):
    encoder, config = load_encoder_folder(ready)
    save_encoder(tmp_path / "half", encoder.half(), config, {})
    manifest = voices(tmp_path / "mine", 12)
    out = tmp_path / "out"
    found = adapt(manifest, out, encoder=tmp_path / "half", steps=1, even_if_worse=True)
    assert found.encoder == out
    assert read_thresholds(out, {}) is None


@pytest.mark.parametrize(
    ("speakers", "utterances", "words"),
    [(9, 2, "9 speakers: a head is fitted to 10 or more"), (12, 1, "0 speakers have several")],
)
def test_too_few_are_refused(ready, tmp_path, speakers, utterances, words):
    manifest = voices(tmp_path / "mine", speakers, utterances)
    with pytest.raises(InputError, match=words):
        adapt(manifest, tmp_path / "out", encoder=ready)


def test_mistakes_are_named_before_any_work(ready, tmp_path):
    manifest = voices(tmp_path / "mine", 12)
    with pytest.raises(InputError, match="no such encoder"):
        adapt(manifest, tmp_path / "out", encoder=tmp_path / "nowhere")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out: is there already"):
        adapt(manifest, tmp_path / "out", encoder=ready)
    (ready / "model.safetensors").unlink()
    with pytest.raises(InputError, match="holds no weights to fit"):
        adapt(manifest, tmp_path / "other", encoder=ready)
