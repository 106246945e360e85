"""Frames of a frozen trunk: the right ones, kept whole, refused when they are others."""

import importlib.util
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from speakervlad.errors import InputError
from speakervlad.models.folder import load_encoder_folder, save_encoder
from speakervlad.tables.manifest import load_manifest, save_manifest
from speakervlad.training import frame_cache, frame_maker
from speakervlad.training.copies import Copies
from speakervlad.training.distributed import World
from speakervlad.training.frame_cache import open_cache, trunk_frames
from speakervlad.training.frame_store import BAD, KEPT, MISSING
from speakervlad.training.run import check_config
from speakervlad.training.start import build_model

ALONE = World(0, 1, torch.device("cpu"))
HAS_OPENVINO = all(importlib.util.find_spec(name) for name in ("openvino", "onnx", "onnxscript"))


@pytest.fixture
def open_frames(frozen, own_manifest):
    """``open_frames(...)``: the cache of the frozen experiment with overrides."""

    def run(*overrides, rank=0):
        config = check_config(frozen(*overrides), 1)
        manifest = load_manifest(config.data.train_manifest)
        return open_cache(config, manifest, ALONE)

    return run


def frames_of(cache, number, row):
    file = cache.files[number]
    start = int(file.starts[row])
    return np.array(file.mapped()[start : start + int(file.counts[row])])


def content(folder):
    names = sorted(path for path in folder.rglob("copy-*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def test_frames_are_those_of_the_trunk(open_frames, source, own_manifest):
    cache = open_frames()
    encoder, _ = load_encoder_folder(source)
    manifest = load_manifest(own_manifest)
    pieces = cache.frames.pieces(int(manifest.num_samples[3]))
    samples, _ = soundfile.read(manifest.path(3), dtype="float32")
    with torch.inference_mode():
        spectrogram = encoder.front_end(torch.from_numpy(samples[: pieces[-1].stop])[None])
        expected = encoder.trunk(spectrogram).flatten(1, 2)[0].T.numpy()
    found = frames_of(cache, 0, 3)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)
    assert cache.kept[0].all()


def test_long_recordings_are_computed_in_pieces(open_frames, source, own_manifest, make_wav):
    manifest = load_manifest(own_manifest)
    make_wav(manifest.path(0), 5.3, seed=1)
    lengths = manifest.num_samples.copy()
    lengths[0] = round(5.3 * 16000)
    save_manifest(own_manifest, replace(manifest, num_samples=lengths))
    encoder, config = load_encoder_folder(source)
    save_encoder(source, encoder, config.__class__(**{**vars(config), "piece_seconds": 2.0}), {})
    cache = open_frames("encoder.piece_seconds=2.0")
    pieces = cache.frames.pieces(int(lengths[0]))
    assert [(piece.start, piece.stop) for piece in pieces][:1] == [(0, 32000)]
    assert pieces[1].start == 32000
    assert len(pieces) == 2
    samples, _ = soundfile.read(manifest.path(0), dtype="float32")
    with torch.inference_mode():
        parts = [
            encoder.trunk(encoder.front_end(torch.from_numpy(samples[p.start : p.stop])[None]))
            for p in pieces
        ]
    expected = torch.cat([part.flatten(1, 2)[0].T for part in parts]).numpy()
    np.testing.assert_allclose(frames_of(cache, 0, 0), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed")
def test_openvino_computes_what_torch_does(open_frames, tmp_path):
    options = ("data.frame_cache.precision=float32", "data.frame_cache.copies=0")
    ours = open_frames(*options)
    theirs = open_frames(
        *options, "data.frame_cache.backend=openvino", f"data.frame_cache.folder={tmp_path / 'ov'}"
    )
    for row in range(4):
        np.testing.assert_allclose(
            frames_of(theirs, 0, row), frames_of(ours, 0, row), atol=3e-3, rtol=3e-3
        )
    assert not list((tmp_path / "ov").rglob("*.onnx"))


def test_copies_are_what_their_plan_says(frozen, own_manifest):
    config = frozen(
        "data.frame_cache.copies=5.5",
        "data.frame_cache.longest_seconds=0.6",
        "data.frame_cache.short_seconds=[0.2,0.4]",
        "augment.pitch_probability=0.5",
        "augment.speeds=[1.0,0.8,1.25]",
    )
    manifest = load_manifest(own_manifest)
    copies = Copies(manifest, config.augment, config.data.frame_cache)
    assert copies.count == 7
    plans = {}
    for number in range(copies.count):
        for row in range(len(manifest)):
            if copies.exists(number, row):
                plans[number, row] = copies.plan(number, row)
                assert plans[number, row] == copies.plan(number, row)
    in_last = sum(number == 6 for number, _ in plans)
    assert 3 <= in_last <= 13
    for (number, row), plan in plans.items():
        seconds = (plan.stop - plan.start) / 16000
        if number == 0:
            assert (plan.start, plan.stop, plan.pitch, plan.speed) == (0, 12000, 1.0, 0)
        elif (number + row) % 4 == 0:
            assert 0.2 <= seconds <= 0.4
        else:
            assert seconds == pytest.approx(0.6)
        waveform = copies.waveform(number, row)
        assert len(waveform) == plan.num_samples
        assert waveform.dtype == np.float32
    others = [plan for (number, _), plan in plans.items() if number]
    assert {plan.speed for plan in others} == {0, 1, 2}
    assert 0.3 < np.mean([plan.pitch != 1 for plan in others]) < 0.7
    one, other = (copies.waveform(number, 5)[:3000] for number in (1, 2))
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(copies.waveform(1, 5), copies.waveform(1, 5))
    changed = next(place for place, plan in plans.items() if place[0] and plan.speed)
    plain = copies.waveform(*changed, effects=False)
    speed = (1.0, 0.8, 1.25)[plans[changed].speed]
    assert len(plain) == int(12000 / speed)


def test_an_interrupted_cache_goes_on_and_has_the_same_bits(open_frames, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_maker, "CHUNK_ROWS", 3)
    whole = content(
        open_frames(f"data.frame_cache.folder={tmp_path / 'whole'}").files[0].path.parents[1]
    )
    calls, real = [], frame_maker.work

    def stop_at_four(job, part):
        calls.append(part)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(job, part)

    monkeypatch.setattr(frame_maker, "work", stop_at_four)
    with pytest.raises(KeyboardInterrupt):
        open_frames()
    cache = tmp_path / "frames"
    done = np.fromfile(cache / "recordings/copy-000.done", np.uint8)
    assert (done == KEPT).sum() == 9
    assert (done == MISSING).sum() == 7
    calls.clear()
    calls.extend([None] * 10)
    open_frames()
    assert len(calls) - 10 < 12
    assert content(cache) == whole
    calls.clear()
    open_frames()
    assert not calls


def test_workers_compute_the_same_bits(open_frames, tmp_path, monkeypatch):
    alone = content(
        open_frames(f"data.frame_cache.folder={tmp_path / 'alone'}").files[0].path.parents[1]
    )
    monkeypatch.setattr(frame_maker, "ALONE_SECONDS", 0)
    monkeypatch.setattr(frame_maker, "CHUNK_ROWS", 6)
    monkeypatch.setattr(frame_maker, "available_cores", lambda: 2)
    cache = open_frames()
    for number, file in enumerate(cache.files):
        for row in np.flatnonzero(file.counts).tolist():
            start = 2 * file.dim * int(file.starts[row])
            size = 2 * file.dim * int(file.counts[row])
            name = str(file.path.relative_to(file.path.parents[1]))
            np.testing.assert_allclose(
                frames_of(cache, number, row).ravel(),
                np.frombuffer(alone[name][start : start + size], np.float16),
                atol=2e-3,
            )


def test_a_full_disk_is_one_line_and_nothing_is_half_kept(open_frames, full_disk, tmp_path):
    with full_disk(6000), pytest.raises(InputError, match="cannot be written") as refused:
        open_frames()
    assert "\n" not in str(refused.value)
    done = tmp_path / "frames/recordings/copy-000.done"
    assert not done.exists() or not np.fromfile(done, np.uint8).any()
    assert open_frames().kept[0].all()


def test_the_space_is_known_before_it_starts(open_frames, monkeypatch, caplog):
    caplog.set_level("INFO")
    usage = shutil.disk_usage("/")._replace(free=20_000)
    monkeypatch.setattr(frame_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"frames need 0\.0 MB, 0\.0 MB are free\. Make room"):
        open_frames()
    assert "frames of 16 recordings and 1.5 copies of each with effects: " in caplog.text


def test_changed_audio_is_refused_and_touched_audio_is_not(open_frames, own_manifest, make_wav):
    open_frames()
    path = load_manifest(own_manifest).path(2)
    os.utime(path, (1, 1))
    open_frames()
    held = path.read_bytes()
    path.write_bytes(held[:-2] + b"\1\1")
    with pytest.raises(InputError, match=r"1 recordings have changed .*s0/u2\.wav") as refused:
        open_frames()
    assert "\n" not in str(refused.value)
    path.write_bytes(held)
    open_frames()
    path.unlink()
    with pytest.raises(InputError, match="have changed"):
        open_frames()


def test_frames_of_something_else_are_refused(open_frames, source, own_manifest, tmp_path):
    before = content(open_frames().files[0].path.parents[1])
    with pytest.raises(InputError, match=r"copies: its frames were made otherwise \(augment\.gain"):
        open_frames("augment.gain_db=3")
    with pytest.raises(InputError, match=r"copies: .* \(seed was 0, is 7\)"):
        open_frames("data.frame_cache.seed=7")
    open_frames("train.seed=7")
    with pytest.raises(
        InputError, match=r"recordings: .* \(precision was 'float32', is 'bfloat16'"
    ):
        open_frames("data.frame_cache.precision=bfloat16")
    encoder, config = load_encoder_folder(source)
    torch.nn.init.normal_(encoder.projection.linear.weight)
    save_encoder(source, encoder, config, {})
    open_frames()
    torch.nn.init.normal_(encoder.trunk.halve.weight)
    save_encoder(source, encoder, config, {})
    with pytest.raises(InputError, match=r"recordings: its frames were made otherwise \(trunk was"):
        open_frames()
    assert content(tmp_path / "frames") == before


def test_more_copies_are_added_and_fewer_left_alone(open_frames, tmp_path):
    open_frames("data.frame_cache.copies=1")
    before = content(tmp_path / "frames")
    open_frames("data.frame_cache.copies=3")
    after = content(tmp_path / "frames")
    assert {name: after[name] for name in before} == before
    assert "copies/copy-003.f16" in after
    assert open_frames("data.frame_cache.copies=0").kept.shape == (1, 16)


def test_recordings_that_cannot_be_used_are_counted(open_frames, own_manifest, caplog):
    path = load_manifest(own_manifest).path(5)
    path.write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"1 of 16 recordings cannot be used, 0\.00% tolerated"):
        open_frames()
    cache = open_frames("data.max_bad_fraction=0.1")
    assert "s1/u1.wav" in caplog.text
    assert cache.bad == ["s1/u1.wav"]
    assert not cache.kept[:, 5].any()
    assert cache.kept[0].sum() == 15
    assert (cache.files[0].done() == BAD).sum() == 1


def test_silence_and_another_length_cannot_be_used(open_frames, own_manifest):
    manifest = load_manifest(own_manifest)
    soundfile.write(manifest.path(5), np.zeros(12000), 16000)
    soundfile.write(manifest.path(6), np.random.default_rng(0).standard_normal(9000) / 9, 16000)
    cache = open_frames("data.max_bad_fraction=0.2")
    assert sorted(cache.bad) == ["s1/u1.wav", "s1/u2.wav"]


def test_two_processes_do_not_compute_the_same(open_frames, tmp_path, monkeypatch):
    def start_another(*_, **__):
        with pytest.raises(InputError, match="another process computes frames here"):
            open_frames()
        raise KeyboardInterrupt

    monkeypatch.setattr(frame_cache, "make_frames", start_another)
    with pytest.raises(KeyboardInterrupt):
        open_frames()


def test_resnets_with_rows_have_their_frames_too(frozen, own_manifest, tmp_path, experiment):
    plain = experiment("encoder.front_end.num_mels=80", "encoder.descriptor_dim=8")
    encoder = build_model(plain, 4).encoder
    save_encoder(tmp_path / "resnet", encoder, plain.encoder, {})
    frames = trunk_frames(encoder)
    assert encoder.trunk.num_rows > 1
    assert frames.dim == encoder.trunk.channels * encoder.trunk.num_rows
    waveform = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    compute = frame_maker.torch_trunk(encoder.eval(), "float32")
    found = frame_maker.compute_frames(frames, compute, [waveform])[0]
    assert found is not None
    assert found.shape == (frames.count(20000), frames.dim)
    embedded = frame_maker.embed_frames(encoder, found)
    stop = frames.pieces(20000)[-1].stop
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(waveform[:stop])[None])
    np.testing.assert_allclose(embedded, expected[0].numpy(), atol=5e-3)
