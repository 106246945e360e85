"""The whole chain on generated voices, by the calls that every recipe uses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from speakervlad.config import Config, load_config
from speakervlad.corpus.voices import make_corpus
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.figures import save_figure
from speakervlad.files import atomic_path
from speakervlad.scoring.checks import make_trials
from speakervlad.scoring.lists import load_trials, save_trials
from speakervlad.scoring.metrics import VerificationReport, error_curve, verification_report
from speakervlad.scoring.plots import det_figure
from speakervlad.scoring.scores import save_scores
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import save_embeddings
from speakervlad.tables.manifest import Manifest, load_manifest, save_manifest
from speakervlad.training.run import Show, no_show, train
from speakervlad.training.start import build_model


@dataclass(frozen=True)
class Corpus:
    """How many generated people, and how much each of them says."""

    speakers: int
    sessions: int
    utterances: int
    trials_per_speaker: int = 0


CORPORA = {
    "train": Corpus(speakers=160, sessions=3, utterances=2),
    "valid": Corpus(speakers=8, sessions=3, utterances=2, trials_per_speaker=12),
    "test": Corpus(speakers=12, sessions=3, utterances=4, trials_per_speaker=60),
}


@dataclass(frozen=True)
class Judged:
    """An encoder's embeddings and scores of the test speakers, and what they are worth."""

    embeddings: Embeddings
    scores: np.ndarray
    report: VerificationReport


@dataclass(frozen=True)
class Quickstart:
    """The trained encoder, and the test speakers judged without and with training."""

    encoder: Path
    before: VerificationReport
    after: VerificationReport


def run_quickstart(
    folder: Path,
    *,
    corpora: Mapping[str, Corpus] = CORPORA,
    overrides: Sequence[str] = (),
    show: Show = no_show,
) -> Quickstart | None:
    """Generate voices, train on some of them, judge on others.

    Leaves a run folder (see ``train``) with ``corpus/``, and of the unseen test speakers
    ``trials.txt``, ``embeddings.npz``, ``scores.txt``, ``metrics.json`` and ``det.png``. A second
    call goes on where the first was interrupted.

    Args:
        folder: the run folder.
        corpora: sizes of the train, valid and test corpora.
        overrides: ``key=value`` changes of the experiment.
        show: reports progress of training.

    Returns:
        What came out; None where a signal ended the training early.
    """
    manifests = {
        name: _corpus(folder / "corpus" / name, corpus) for name, corpus in corpora.items()
    }
    config = quickstart_config(folder, overrides)
    trials = load_trials(folder / "corpus" / "test.trials")
    start = build_model(config, len(manifests["train"].speaker_names)).encoder
    untrained = Encoder(TorchBackend(start, "cpu"))
    before = judge(untrained, manifests["test"], trials)
    encoder = train(config, show)
    if encoder is None:
        return None
    after = judge(load_encoder(encoder), manifests["test"], trials)
    _write_results(folder, trials, before, after)
    return Quickstart(encoder, before.report, after.report)


def quickstart_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The experiment of ``quickstart.yaml`` with its paths filled in."""
    corpus = folder / "corpus"
    paths = (
        f"run_dir={folder}",
        "resume=true",
        f"data.train_manifest={corpus / 'train.csv'}",
        f"data.valid_manifest={corpus / 'valid.csv'}",
        f"data.valid_trials=[{corpus / 'valid.trials'}]",
    )
    with as_file(files("speakervlad.training") / "quickstart.yaml") as path:
        return load_config(path, [*paths, *overrides])


def judge(embedder: Encoder, manifest: Manifest, trials: Trials) -> Judged:
    """Embed every utterance of a manifest and judge a trial list by cosine similarity."""
    rows = range(len(manifest))
    vectors = embedder.embed_files([manifest.path(row) for row in rows])
    ids = np.asarray(list(manifest.utterance_ids))
    embeddings = Embeddings(ids, vectors, embedder.fingerprint)
    scores = cosine_scores(embeddings, trials)
    return Judged(embeddings, scores, verification_report(scores, trials.labels()))


def _corpus(folder: Path, corpus: Corpus) -> Manifest:
    """Generate a corpus with its manifest and trials, unless an earlier call finished it."""
    listed, trials = folder.with_suffix(".csv"), folder.with_suffix(".trials")
    if listed.exists():
        return load_manifest(listed)
    manifest = make_corpus(
        folder,
        num_speakers=corpus.speakers,
        num_sessions=corpus.sessions,
        utterances_per_session=corpus.utterances,
        speaker_prefix=folder.name,
        num_workers=None,
    )
    if corpus.trials_per_speaker:
        save_trials(trials, make_trials(manifest, per_speaker=corpus.trials_per_speaker))
    save_manifest(listed, manifest)
    return manifest


def _write_results(folder: Path, trials: Trials, before: Judged, after: Judged) -> None:
    save_embeddings(folder / "embeddings.npz", after.embeddings)
    save_scores(folder / "scores.txt", trials, after.scores)
    report = {**after.report.to_json(), "eer_before_training": before.report.eer}
    with atomic_path(folder / "metrics.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n")
    labels = trials.labels()
    curves = {
        "before training": error_curve(before.scores, labels),
        "after training": error_curve(after.scores, labels),
    }
    save_figure(det_figure(curves), folder / "det.png")
