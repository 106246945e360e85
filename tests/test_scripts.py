"""Every benchmark and recipe runs, on generated material, in seconds."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speakervlad.audio.writing import write_audio
from speakervlad.corpus.voices import make_corpus
from speakervlad.scoring.checks import make_trials
from speakervlad.scoring.lists import save_trials
from speakervlad.tables.manifest import Manifest, save_manifest

ROOT = Path(__file__).parents[1]
# The first corpus of recipes/diarization/simulate.py.
CORPUS = "librispeech_train"
SMALL = ["--encoder", "small"]

# A script, its arguments, and what it prints or the file that it writes. The folder in which it
# runs has ``dev.csv`` and ``dev.trials`` of generated voices, ``crowd.csv`` of a hundred people,
# ``clear.csv`` of sounds amid silence, ``noise/`` with ``noise.csv``, and ``encoder/`` with
# ``E.npz`` of it.
RUNS = {
    "benchmarks/embedding.py start_up": (
        ["--parts", "start_up", "--rounds", "1"], "verify, onnxruntime"),
    "benchmarks/embedding.py one_core": (
        ["--parts", "one_core", "--rounds", "1", "--seconds", "1"], "GhostVLAD"),
    "benchmarks/embedding.py files": (["--parts", "files", "--files", "3"], "files/s"),
    "benchmarks/adaptation.py": (
        ["dev.csv", "--speakers", "3", "--judged", "3", "--draws", "1", "--steps", "2", *SMALL],
        "| dev | 3 | 3 |"),
    "benchmarks/conditions.py": (
        ["dev.trials", "--dev", "dev.csv", "--noise", "noise.csv", *SMALL, "--only", "quiet",
         "inside"], "| quiet |"),
    "benchmarks/crowd.py": (
        ["--store", "crowd.db", "--count", "50", "--queries", "5", *SMALL], Path("crowd.db")),
    "benchmarks/faults.py": (["inputs", "--count", "20", "--state", "s.json"], Path("s.json")),
    "benchmarks/frozen_head.py": (
        [ROOT / "conf/default_encoder.yaml", "--rounds", "1", "--batch", "8",
         "--precision", "float32"], "crops of 2 s"),
    "benchmarks/ghosts.py": (["dev.csv", *SMALL, "--take", "2"], "mean weights"),
    "benchmarks/identification.py error": (
        ["dev.csv", *SMALL, "--parts", "error", "--without-resemblyzer"], f"| {CORPUS} |"),
    "benchmarks/identification.py time": (
        [*SMALL, "dev.csv", "--parts", "time", "--people", "1000"], "1000 people"),
    "benchmarks/matrix_rate.py": (["--seconds", "1", "--rounds", "1"], "GFLOP"),
    "benchmarks/paths.py": (["metrics"], "metrics"),
    "benchmarks/plda.py": (
        ["dev.trials", "--train", "E.npz", "--train-manifest", "dev.csv", "--embeddings", "E.npz",
         "--lda", "4"], "dev"),
    "benchmarks/scoring.py": (["--share", "0.01"], "scikit-learn"),
    "benchmarks/speech_detection.py": (
        ["clear.csv", "noise", "--seconds", "3", "--detectors", "silero"], "mixtures"),
    "benchmarks/training_data.py": (["--batches", "1", "--repeats", "1"], "packed, 2 workers"),
    "benchmarks/training_step.py": (
        ["--batch", "2", "--rounds", "1", "--precision", "float32"], "crops/s"),
    "benchmarks/two_voices.py": (["dev.csv", "--each", "1"], f"| {CORPUS} |"),
    "benchmarks/verification.py": (["dev.trials", *SMALL, "--resamples", "5"], "dev"),
    "benchmarks/voxceleb_size.py": (
        ["--fraction", "0.0001", "--part", "prepare", "load", "crops"], "making"),
    "recipes/augmentation/pictures.py": (["effects.png"], Path("effects.png")),
    "recipes/augmentation/rooms.py": (
        ["rooms", "--count", "2", "--workers", "0"], Path("rooms/manifest.csv")),
    "recipes/default_encoder/cohort.py": (
        ["encoder", "crowd.csv", "--size", "100"], "100 impostors"),
    "recipes/default_encoder/noise.py": (
        ["noise.csv", "dev.csv", "--out", "made"], Path("made.csv")),
    "recipes/diarization/simulate.py": (
        ["dev.csv", "talks", "--noise", "noise.csv", "--count", "1"], Path("talks/reference.rttm")),
    "recipes/small_encoder/class_means.py": (
        ["encoder", "dev.csv", "E.npz", "--speeds", "1", "0.9", "--out", "classes"],
        Path("classes/classifier.safetensors")),
    "recipes/small_encoder/leave_out.py": (
        ["encoder", "encoder", "dev.trials", "--left-out", "dev", "--crops", "1", "--out",
         "left.json"], Path("left.json")),
    "recipes/small_encoder/targets.py": (
        ["E.npz", "dev.csv", "T.npz", "--like", "E.npz", "--towards", "E.npz"], Path("T.npz")),
}  # fmt: skip
# What runs in other tests, or needs what cannot be had here.
ELSEWHERE = {
    "benchmarks/ablation.py": "ten trainings; its parts are those of tests/training",
    "benchmarks/cluster.py": "Ray, as tests/encoder/test_cluster.py starts it",
    "benchmarks/elsewhere.py": "sherpa-onnx, as tests/encoder/test_elsewhere.py needs it",
    "benchmarks/live.py": "runs below on what simulate.py wrote",
    "benchmarks/poolings.py": "24 trainings; its parts are those of tests/training",
    "benchmarks/training_stages.py": "tests/training/test_training_stages.py",
    "recipes/actions/train.py": "tests/test_vlad_recipes.py",
    "recipes/cnceleb/prepare.py": "tests/corpus/test_recipes.py",
    "recipes/default_encoder/package.py": "a trained encoder, lists of 100 trials and more",
    "recipes/diarization/picture.py": "runs below on what simulate.py wrote",
    "recipes/diarization/run.py": "runs below on what simulate.py wrote",
    "recipes/diarization/table.py": "runs below on what simulate.py wrote",
    "recipes/images/train.py": "tests/test_vlad_recipes.py",
    "recipes/librispeech/prepare.py": "tests/corpus/test_recipes.py",
    "recipes/segmentation/convert.py": "the wheel of another package",
    "recipes/segmentation/parity.py": "the wheel of another package",
    "recipes/small_encoder/curves.py": "runs below on a run folder",
    "recipes/small_encoder/split_clusters.py": "tests/encoder/test_pretrained.py",
    "recipes/small_encoder/teacher.py": "weights of another package",
    "recipes/voxceleb/judge.py": "tests/corpus/test_voxceleb_judge.py",
    "recipes/voxceleb/prepare.py": "tests/corpus/test_recipes.py",
}


def scripts():
    """Those that are run, as paths from the root."""
    for path in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("recipes/*/*.py")]:
        if 'if __name__ == "__main__":' in path.read_text("utf-8"):
            yield path.relative_to(ROOT).as_posix()


def test_every_script_is_run_somewhere():
    run_here = {name.split()[0] for name in RUNS}
    assert not run_here & ELSEWHERE.keys()
    assert run_here | ELSEWHERE.keys() == set(scripts())


@pytest.fixture(scope="module")
def material(tmp_path_factory, save_tiny_encoder, make_waveform):
    """What the scripts need, generated."""
    folder = tmp_path_factory.mktemp("material")
    made = make_corpus(folder, num_speakers=6, num_sessions=2, utterances_per_session=3,
                       max_seconds=3.0, speaker_prefix="voice")  # fmt: skip
    manifest = Manifest.of(
        folder,
        utterance_ids=list(made.paths),  # a trial list may name paths, too
        paths=list(made.paths),
        speakers=[f"{CORPUS}/{name}" for name in made.speakers.tolist()],
        sessions=made.sessions,
        num_samples=made.num_samples,
        extra={"corpus": [CORPUS] * len(made)},
    )
    save_manifest(folder / "dev.csv", manifest)
    save_trials(folder / "dev.trials", make_trials(manifest))
    # A cohort has a hundred people or more.
    row, people = np.arange(100) % len(made), [f"person {number}" for number in range(100)]
    crowd = Manifest.of(folder, utterance_ids=people, paths=list(np.array(made.paths)[row]),
                        speakers=people, sessions=people, num_samples=made.num_samples[row],
                        extra={"corpus": [CORPUS] * 100})  # fmt: skip
    save_manifest(folder / "crowd.csv", crowd)
    for seed in range(2):
        write_audio(folder / f"noise/{seed}.wav", make_waveform(5.0, seed))
    names = ["0", "1"]
    noise = Manifest.of(folder, utterance_ids=names, paths=["noise/0.wav", "noise/1.wav"],
                        speakers=["noise", "noise"], sessions=names,
                        num_samples=[80_000, 80_000])  # fmt: skip
    save_manifest(folder / "noise.csv", noise)
    for seed, name in enumerate("abcd"):
        silence = np.zeros(6400, np.float32)
        write_audio(
            folder / f"clear/{name}.wav",
            np.concatenate([silence, make_waveform(1.0, seed), silence]),
        )
    clear = Manifest.of(folder, utterance_ids=list("abcd"), sessions=list("abcd"),
                        paths=[f"clear/{name}.wav" for name in "abcd"], speakers=list("abcd"),
                        num_samples=[28_800] * 4, extra={"corpus": [CORPUS] * 4})  # fmt: skip
    save_manifest(folder / "clear.csv", clear)
    save_tiny_encoder(folder / "encoder")
    embed = ["dev.csv", "--encoder", "encoder", "--out", "E.npz"]
    succeed(["-m", "speakervlad", "embed", *embed], folder)
    return folder


def succeed(arguments, folder):
    """Run Python there; returns what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="benchmarks measure as Linux does")
@pytest.mark.parametrize("name", RUNS)
def test_a_script_runs(name, material):
    arguments, expected = RUNS[name]
    printed = succeed([ROOT / name.split()[0], *arguments], material)
    if isinstance(expected, Path):
        assert (material / expected).stat().st_size > 0
    else:
        assert expected in printed


@pytest.mark.slow
def test_a_conversation_is_simulated_diarized_judged_and_drawn(material):
    recipe = ROOT / "recipes/diarization"
    options = ["dev.csv", "meetings", "--noise", "noise.csv", "--count", "1", "--lively"]
    succeed([recipe / "simulate.py", *options], material)
    (talk,) = (material / "meetings").glob("*.wav")
    reference = "meetings/reference.rttm"
    succeed([recipe / "run.py", "no_overlap", "meetings", "found", *SMALL], material)
    assert "no_overlap" in succeed([recipe / "table.py", "meetings", "found"], material)
    found = f"found/no_overlap/{talk.stem}.rttm"
    succeed([recipe / "picture.py", talk, reference, found, "turns.png"], material)
    assert (material / "turns.png").stat().st_size > 1000
    live = ROOT / "benchmarks/live.py"
    said = succeed([live, "conversations", "meetings", *SMALL, "--no-whole"], material)
    assert "live: DER" in said
    few = ["meetings", *SMALL, "--count", "2", "--seconds", "3"]
    assert "could keep up" in succeed([live, "streams", *few], material)
    assert "could keep up" in succeed([live, "streams", *few, "--names"], material)


@pytest.mark.slow
def test_curves_of_a_run_are_drawn(material):
    run = material / "run"
    run.mkdir()
    (run / "config.yaml").write_text("data: {train_manifest: dev.csv}\nrun_dir: run\n")
    (run / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0, "accuracy": 0.1}\n'
        '{"step": 2, "loss": 1.0, "accuracy": 0.5, "eer": 0.1, "eer/dev": 0.1}\n'
    )
    script = ROOT / "recipes/small_encoder/curves.py"
    succeed([script, "run", "--out", "curves.png"], material)
    assert (material / "curves.png").stat().st_size > 1000
