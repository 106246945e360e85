"""What is drawn for a crop belongs to the crop: not to batch, workers or world size."""

import math

import numpy as np
import pytest
import soundfile
import torch

from speakervlad.config import AugmentConfig
from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.errors import InputError
from speakervlad.schema import from_dict, to_dict
from speakervlad.tables.manifest import Manifest, load_manifest, save_manifest
from speakervlad.training.augment import (
    Augmenter,
    Examples,
    Masks,
    build_crops,
    check_augment,
    collate,
    read_samples,
)
from speakervlad.training.run import train
from speakervlad.training.sources import NoiseSource, RoomSource
from speakervlad.training.state import TrainingState

CROP = 8000
SPECTROGRAM = (40, 48)
SNR = {"noise": (0.0, 15.0), "music": (5.0, 15.0), "speech": (13.0, 20.0)}


def manifest_of(folder, files):
    """``files``: path -> samples; the first folder of a path is its kind."""
    for name, samples in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, samples, 16000, subtype="FLOAT")
    names = list(files)
    manifest = Manifest.of(
        folder,
        utterance_ids=names,
        paths=names,
        speakers=[name.split("/")[0] for name in names],
        sessions=names,
        num_samples=[len(samples) for samples in files.values()],
    )
    save_manifest(folder / "manifest.csv", manifest)
    return manifest


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """``(noise.csv, rirs.csv)`` of a few short recordings."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("sources")
    kinds = ("noise", "music", "speech")
    files = {f"{kind}/{n}.wav": 0.1 * rng.standard_normal(9000) for kind in kinds for n in range(3)}
    manifest_of(folder / "noise", files)
    decay = np.exp(-np.arange(3000) / 500)
    files = {f"room{n}/a.wav": 0.1 * decay * rng.standard_normal(3000) for n in range(3)}
    manifest_of(folder / "rirs", files)
    return folder / "noise/manifest.csv", folder / "rirs/manifest.csv"


@pytest.fixture
def everything(sources):
    """All effects, often."""
    noise, rirs = sources
    return AugmentConfig(
        speeds=(1.0, 0.9, 1.1),
        noise_manifest=str(noise),
        noise_probability=0.6,
        rir_manifest=str(rirs),
        rir_probability=0.5,
        rir_seconds=0.2,
        codec_probability=0.2,
        telephone_probability=0.3,
        gain_db=6.0,
        level_probability=0.3,
        pitch_probability=0.3,
        channel_probability=0.4,
        time_masks=2,
        freq_masks=1,
    )


@pytest.fixture
def crops(corpus, everything):
    size = read_samples(CROP, everything)
    dataset = UtteranceDataset(load_manifest(corpus / "train.csv"), crop_samples=size, seed=5)
    return build_crops(everything, dataset, SPECTROGRAM)


@pytest.fixture
def augmenter():
    return Augmenter(
        num_samples=CROP,
        num_speakers=4,
        speeds=(1.0, 0.9, 1.1),
        spectrogram=SPECTROGRAM,
        device=torch.device("cpu"),
    )


def test_a_crop_sounds_the_same_alone_and_in_any_batch(crops, augmenter):
    keys = [(epoch, index) for epoch in (0, 1) for index in range(16)]
    together = augmenter(collate([crops[key] for key in keys]))
    backwards = augmenter(collate([crops[key] for key in reversed(keys)]))
    for row, key in enumerate(keys):
        alone = augmenter(collate([crops[key]]))
        other = Examples(*(value.flip(0) for value in backwards[:3]))
        for batch in (together, other):
            # Rounding may tip a few samples into the next level of mu-law.
            difference = batch.sound[row] - alone.sound[0]
            assert difference.norm() < 2e-3 * alone.sound.norm()
            assert batch.classes[row] == alone.classes[0]
            assert torch.equal(batch.keep[row], alone.keep[0])


def test_epochs_and_seeds_change_every_draw(crops, corpus, everything):
    drawn = [collate([crops[epoch, index] for index in range(16)]) for epoch in (0, 1)]
    assert not torch.equal(drawn[0].speed, drawn[1].speed)
    assert not torch.equal(gains(drawn[0]), gains(drawn[1]))
    for name in ("noise", "room", "telephone"):
        rows = [batch.effects[name].rows.tolist() for batch in drawn]
        assert rows[0] != rows[1]
    assert not torch.equal(drawn[0].time_spans, drawn[1].time_spans)
    crops.crops.seed = 6
    assert not torch.equal(gains(drawn[0]), gains(collate([crops[0, i] for i in range(16)])))


def gains(batch):
    return batch.effects["gain"].values[0]


def test_effects_come_as_often_as_asked(crops):
    batch = collate([crops[epoch, index] for epoch in range(25) for index in range(16)])
    for name, probability in (("noise", 0.6), ("room", 0.5), ("telephone", 0.3)):
        count = len(batch.effects[name].rows)
        deviation = math.sqrt(400 * probability * (1 - probability))
        assert abs(count - 400 * probability) < 4 * deviation
    assert np.bincount(batch.speed).min() > 90


def test_every_speed_makes_its_own_classes(crops, augmenter):
    batch = collate([crops[0, index] for index in range(16)])
    examples = augmenter(batch)
    assert examples.classes.tolist() == (batch.speaker + 4 * batch.speed).tolist()
    assert examples.sound.shape == (16, CROP)
    assert examples.keep.shape == (16, *SPECTROGRAM)


def test_no_augmentation_leaves_the_crops_alone(corpus, augmenter):
    dataset = UtteranceDataset(load_manifest(corpus / "train.csv"), crop_samples=CROP, seed=5)
    crops = build_crops(AugmentConfig(), dataset, SPECTROGRAM)
    examples = augmenter(collate([crops[0, index] for index in range(4)]))
    for index in range(4):
        assert torch.equal(examples.sound[index], dataset[0, index].waveform)
    assert examples.keep is None


def test_masks_lie_inside_the_axis_and_are_at_most_as_wide_as_asked():
    masks = Masks(count=1000, widest=5, size=12)
    starts, lengths = masks.draw(np.random.default_rng(0)).T
    assert (starts.min(), (starts + lengths).max()) == (0, 12)
    assert set(lengths) == set(range(6))


def test_noise_has_the_ratio_of_its_kind_and_full_length(tmp_path):
    manifest = manifest_of(tmp_path, {"music/a.wav": 0.1 * np.ones(500)})
    source = NoiseSource(manifest, SNR, (3, 8))
    for number in range(20):
        noise, snr_db = source.draw(np.random.default_rng(number), 1200)
        np.testing.assert_allclose(noise, 1.0, rtol=1e-5)
        assert noise.shape == (1200,)
        assert 5 <= snr_db <= 15


def test_babble_is_a_sum_of_several_voices(tmp_path):
    manifest = manifest_of(tmp_path, {"speech/a.wav": 0.1 * np.ones(2000)})
    source = NoiseSource(manifest, SNR, (3, 5))
    levels = {
        round(float(source.draw(np.random.default_rng(number), 100)[0][0])) for number in range(40)
    }
    assert levels == {3, 4, 5}


def test_silent_stretches_of_noise_are_drawn_anew(tmp_path):
    half = np.concatenate([np.zeros(5000), 0.1 * np.ones(5000)])
    source = NoiseSource(manifest_of(tmp_path, {"noise/a.wav": half}), SNR, (3, 8))
    for number in range(20):
        assert source.draw(np.random.default_rng(number), 200)[0].any()


def test_silent_noise_files_cost_a_crop_its_noise_and_not_the_run(tmp_path, caplog):
    wholes = {"noise/a.wav": np.zeros(5000), "music/b.wav": 0.1 * np.ones(5000)}
    source = NoiseSource(manifest_of(tmp_path, wholes), SNR, (3, 8))
    drawn = [source.draw(np.random.default_rng(number), 5000)[0] for number in range(20)]
    assert {round(float(noise[0])) for noise in drawn} == {0, 1}
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 2
    assert "a.wav is left out (1 so far): silent from its beginning to its end" in warnings[0]
    assert "10 draws in a row" in warnings[1]


@pytest.mark.parametrize("spoil", [lambda path: None, lambda path: path.unlink()])
def test_noise_of_which_nothing_can_be_used_is_refused(tmp_path, spoil):
    wholes = {"noise/a.wav": np.zeros(5000), "music/b.wav": np.zeros(5000)}
    source = NoiseSource(manifest_of(tmp_path, wholes), SNR, (3, 8))
    spoil(tmp_path / "music/b.wav")
    with pytest.raises(InputError, match=r"all of its 2 files are silent .* such as .*\.wav"):
        source.draw(np.random.default_rng(0), 200)


def test_noise_and_rooms_that_cannot_be_read_are_reported_once_and_drawn_anew(tmp_path, caplog):
    wholes = {"noise/a.wav": 0.1 * np.ones(5000), "noise/b.wav": 0.1 * np.ones(5000)}
    manifest = manifest_of(tmp_path, wholes)
    (tmp_path / "noise/b.wav").write_bytes(b"no audio")
    noise, rooms = NoiseSource(manifest, SNR, (3, 8)), RoomSource(manifest, 1000)
    for number in range(20):
        assert noise.draw(np.random.default_rng(number), 200)[0].any()
        assert rooms.draw(np.random.default_rng(number)).any()
    assert [record.message.count("b.wav is left out (1 so far)") for record in caplog.records] == [
        1,
        1,
    ]


def test_unknown_kinds_of_noise_are_refused(tmp_path):
    manifest = manifest_of(tmp_path, {"traffic/a.wav": np.ones(500)})
    with pytest.raises(InputError, match=r"kind 'traffic'.*noise, music, speech"):
        NoiseSource(manifest, SNR, (3, 8))


def test_silent_impulse_responses_are_refused_by_name(tmp_path):
    source = RoomSource(manifest_of(tmp_path, {"room/a.wav": np.zeros(5000)}), 1000)
    with pytest.raises(InputError, match=r"a\.wav: 10 impulse responses in a row are silent"):
        source.draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"noise_probability": 1.5}, "must be at least 0 and at most 1"),
        ({"noise_probability": 0.5}, "needs augment.noise_manifest"),
        ({"rir_probability": 0.5}, "needs augment.rir_manifest"),
        ({"rir_probability": 0.5, "rir_manifest": "a", "rir_seconds": 0.0}, "at least 0.01"),
        ({"speeds": (0.9, 1.0)}, "begin with 1"),
        ({"speeds": (1.0, 0.9, 0.9)}, "distinct"),
        ({"speeds": (1.0, 3.0)}, "from 0.5 to 2"),
        ({"noise_snr_db": (15.0, 0.0)}, "lowest, highest"),
        ({"gain_db": -1.0}, "must be at least 0"),
        ({"codec_probability": 0.1, "codecs": ()}, "needs augment.codecs"),
        ({"noise_probability": 0.1, "noise_manifest": "a", "babble_speakers": (0, 1)}, "1 voice"),
    ],
)
def test_unusable_sections_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        check_augment(from_dict(AugmentConfig, to_dict(values), "config", "augment."))


def test_masks_wider_than_the_spectrogram_are_refused(experiment):
    with pytest.raises(InputError, match=r"augment\.freq_mask_bins=50: must be less than"):
        train(experiment("augment.freq_masks=1", "augment.freq_mask_bins=50"))


def overrides(sources):
    noise, rirs = sources
    values = {
        "speeds": "[1.0,0.9,1.1]",
        "noise_manifest": noise,
        "noise_probability": 0.6,
        "rir_manifest": rirs,
        "rir_probability": 0.5,
        "rir_seconds": 0.2,
        "codec_probability": 0.2,
        "telephone_probability": 0.3,
        "gain_db": 6.0,
        "time_masks": 2,
        "freq_masks": 1,
    }
    return [f"augment.{key}={value}" for key, value in values.items()]


def test_augmented_training_does_not_depend_on_workers_or_restarts(experiment, sources, tmp_path):
    augment = overrides(sources)
    train(experiment(*augment, "train.steps=4", "train.save_every=2"))

    def stop(step, total, line):
        if step == 3:
            raise KeyboardInterrupt

    parts = (f"run_dir={tmp_path / 'parts'}", "train.steps=4", "train.save_every=2")
    with pytest.raises(KeyboardInterrupt):
        train(experiment(*augment, *parts), stop)
    train(experiment(*augment, *parts, "resume=true", "data.num_workers=2"))
    one, two = (TrainingState.load(tmp_path / name / "last.pt").model for name in ("run", "parts"))
    assert one["classifier.weight"].shape[0] == 3 * 4
    assert all(torch.equal(one[name], two[name]) for name in one)
