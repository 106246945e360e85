"""prepare, train, embed, score, metrics, verify: the contract of their files and exit codes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakervlad.cli import main
from speakervlad.corpus.voices import make_corpus

CONFIG = """
encoder:
  front_end: {{kind: log_mel, num_mels: 40, normalise: time_mean}}
  trunk: {{width: 0.125}}
  descriptor_dim: 16
  pooling: {{num_clusters: 3, num_ghosts: 1, assignment: descriptors}}
  embedding_dim: 16
  embedding_relu: false
data: {{train_manifest: {folder}/train.csv, valid_trials: [{folder}/dev.trials], crop_seconds: 0.5,
       valid_manifest: {folder}/train.csv, num_workers: 0}}
run_dir: {folder}/run
train: {{steps: 4, batch_size: 8, device: cpu, log_every: 2, save_every: 2, validate_every: 2}}
"""


def call(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["speakervlad", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
    return stopped.value.code or 0


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    """A folder in which every command of the chain has run once."""
    folder = tmp_path_factory.mktemp("chain")
    make_corpus(
        folder / "wav",
        num_speakers=4,
        num_sessions=2,
        utterances_per_session=2,
        min_seconds=0.6,
        max_seconds=0.9,
    )
    (folder / "conf.yaml").write_text(CONFIG.format(folder=folder))
    layout = ("--layout", "speaker-folders", "--workers", "0")
    assert call("prepare", folder / "wav", folder / "train.csv", *layout) == 0
    assert call("trials", "make", folder / "train.csv", "--out", folder / "dev.trials") == 0
    assert call("train", folder / "conf.yaml") == 0
    encoder = ("--encoder", folder / "run" / "encoder", "--device", "cpu")
    assert call("embed", folder / "train.csv", *encoder, "--out", folder / "E.npz") == 0
    embeddings = ("--embeddings", folder / "E.npz")
    assert call("score", folder / "dev.trials", *embeddings, "--out", folder / "S.txt") == 0
    pictures = ("--json-out", folder / "m.json", "--det", folder / "det.png")
    assert call("metrics", folder / "S.txt", *pictures) == 0
    return folder


def test_embedding_file_holds_ids_and_unit_vectors(chain):
    with np.load(chain / "E.npz") as file:
        ids, vectors = file["ids"], file["vectors"]
    assert ids.shape == (16,)
    assert ids.dtype.kind == "U"
    assert vectors.shape == (16, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_score_file_has_enrol_test_score_and_label(chain):
    scores = [line.split() for line in (chain / "S.txt").read_text().splitlines()]
    trials = [line.split() for line in (chain / "dev.trials").read_text().splitlines()]
    assert [[a, b, label] for a, b, _, label in scores] == [[a, b, label] for label, a, b in trials]
    assert all(-1.0001 <= float(score) <= 1.0001 for _, _, score, _ in scores)


def test_metrics_file_keeps_its_keys(chain):
    report = json.loads((chain / "m.json").read_text())
    assert 0 <= report["eer"] <= 1
    assert isinstance(report["threshold"], float)
    assert report["num_target"] == report["num_nontarget"] > 0
    assert report["min_dcf"].keys() == {"0.01", "0.05"}
    assert (chain / "det.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["folder", "files", "trials"])
def test_embed_takes_folders_files_and_trial_lists(chain, tmp_path, kind):
    wavs = sorted(chain.glob("wav/*/*/*.wav"))
    names = [path.relative_to(chain / "wav").as_posix() for path in wavs]
    listed = tmp_path / "list.txt"
    listed.write_text(f"1 {names[0]} {names[1]}\n0 {names[0]} {names[5]}\n")
    inputs, expected = {
        "folder": ((chain / "wav",), names),
        "files": (wavs[:2], [path.as_posix() for path in wavs[:2]]),
        "trials": ((listed, "--root", chain / "wav"), [names[0], names[1], names[5]]),
    }[kind]
    encoder = ("--encoder", chain / "run" / "encoder", "--device", "cpu")
    assert call("embed", *inputs, *encoder, "--out", tmp_path / "E.npz") == 0
    with np.load(tmp_path / "E.npz") as file:
        assert sorted(file["ids"]) == sorted(expected)


@pytest.mark.parametrize(("threshold", "code", "words"), [("-2", 0, "same"), ("2", 1, "different")])
def test_verify_answers_by_exit_code(chain, capsys, threshold, code, words):
    one, two = sorted(chain.glob("wav/*/*/*.wav"))[:2]
    encoder = ("--encoder", chain / "run" / "encoder", "--device", "cpu")
    assert call("verify", one, two, *encoder, f"--threshold={threshold}") == code
    shown = capsys.readouterr().out
    assert "score" in shown
    assert words in shown


def test_verify_uses_the_encoders_own_threshold_and_calibration(chain, capsys):
    encoder = chain / "run" / "encoder"
    assert call("calibrate", chain / "S.txt", "--out", encoder / "calibration.json") == 0
    one = next(chain.glob("wav/*/*/*.wav"))
    assert call("verify", one, one, "--encoder", encoder, "--device", "cpu") == 0
    shown = capsys.readouterr().out
    assert "probability" in shown
    assert "decided by  the calibration, at a prior of 0.5" in shown
    (encoder / "calibration.json").unlink()
    assert call("verify", one, one, "--encoder", encoder, "--device", "cpu") == 0
    threshold = json.loads((encoder / "thresholds.json").read_text())["eer"]
    shown = capsys.readouterr().out
    assert f"threshold   {threshold:.4f}" in shown
    assert "decided by  the threshold of the equal error rate" in shown
    assert "probability" not in shown


def refusal(capsys, *arguments):
    """The one line on stderr with which a command ends in exit code 2."""
    capsys.readouterr()
    assert call(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return lines[0]


def write_nothing(path):
    path.write_bytes(b"")


def write_text(path):
    path.write_text("this is no sound")


def write_truncated_flac(path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    soundfile.write(path.with_suffix(".whole.flac"), noise, 16000)
    path.write_bytes(path.with_suffix(".whole.flac").read_bytes()[:9000])


def write_samples(samples):
    return lambda path: soundfile.write(path, np.asarray(samples, np.float32), 16000, "FLOAT")


BAD_AUDIO = {
    "absent": ("absent.wav", lambda path: None, "no such file"),
    "empty": ("empty.wav", write_nothing, "empty"),
    "zero-length": ("none.wav", write_samples([]), "no samples"),
    "all-zero": ("zero.wav", write_samples(np.zeros(16000)), "zero"),
    "not a number": ("nan.wav", write_samples([np.nan] * 16000), "finite|NaN"),
    "text": ("text.wav", write_text, "not|audio"),
    "truncated": ("cut.flac", write_truncated_flac, "truncated|damaged|ends|shorter"),
    "one sample": ("one.wav", write_samples([0.5]), "too short"),
}


@pytest.mark.parametrize("kind", BAD_AUDIO)
def test_bad_audio_ends_in_one_line(chain, tmp_path, capsys, kind):
    name, write, words = BAD_AUDIO[kind]
    write(tmp_path / name)
    encoder = ("--encoder", chain / "run" / "encoder", "--device", "cpu")
    out = tmp_path / "out" / "E.npz"
    line = refusal(capsys, "embed", tmp_path / name, *encoder, "--out", out)
    assert name in line
    assert re.search(words, line), line
    assert not out.exists()
    good = next(chain.glob("wav/*/*/*.wav"))
    assert name in refusal(capsys, "verify", good, tmp_path / name, *encoder)


def test_unknown_utterances_of_a_trial_list_are_counted(chain, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("1 nobody/1 nobody/2\n0 nobody/1 nobody/3\n")
    options = ("--embeddings", chain / "E.npz", "--out", tmp_path / "S.txt")
    line = refusal(capsys, "score", tmp_path / "list.txt", *options)
    assert "3" in line
    assert "nobody/1" in line
    assert not (tmp_path / "S.txt").exists()


def test_single_class_is_refused(tmp_path, capsys):
    (tmp_path / "S.txt").write_text("a b 0.5 1\na c 0.6 1\n")
    line = refusal(capsys, "metrics", tmp_path / "S.txt", "--json-out", tmp_path / "m.json")
    assert "2 target" in line
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.stepz=5", "train.stepz. Did you mean 'steps'"),
        ("train.steps=many", "train.steps='many' must be int"),
        ("encoder.pooling.kind=netvald", "Did you mean 'netvlad'"),
        ("steps", "key=value"),
    ],
)
def test_config_mistakes_end_in_one_line(chain, capsys, override, words):
    assert words in refusal(capsys, "train", chain / "conf.yaml", override)


def test_encoder_folder_without_weights(chain, tmp_path, capsys):
    (tmp_path / "config.json").write_text((chain / "run/encoder/config.json").read_text())
    good = next(chain.glob("wav/*/*/*.wav"))
    assert "model.safetensors" in refusal(capsys, "verify", good, good, "--encoder", tmp_path)


def test_output_that_cannot_be_written(chain, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "E.npz"
    encoder = ("--encoder", chain / "run" / "encoder")
    assert "cannot be written" in refusal(capsys, "embed", chain / "wav", *encoder, "--out", out)
