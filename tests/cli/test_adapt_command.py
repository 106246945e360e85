"""``adapt``: what it says, and how it ends."""

from pathlib import Path

import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.metrics import verification_report
from speakervlad.tables.manifest import Manifest, save_manifest
from speakervlad.training import adapt as module
from speakervlad.training.adapt import Adapted


def report(errors):
    scores = [0.9] * 50 + [0.1] * 50
    labels = [True] * (50 - errors) + [False] * errors + [True] * errors + [False] * (50 - errors)
    found = verification_report(scores, labels)
    return found.__class__(**{**vars(found), "intervals": {"eer": (0.01, 0.2)}})


@pytest.fixture
def manifest(tmp_path):
    columns = {"speakers": ["a"], "sessions": ["a"], "num_samples": [16000]}
    save_manifest(
        tmp_path / "mine.csv",
        Manifest.of(tmp_path, utterance_ids=["a"], paths=["a.wav"], **columns),
    )
    return tmp_path / "mine.csv"


@pytest.fixture
def told(monkeypatch):
    """What the library was asked for; it answers with ``told["answer"]``."""
    asked = {}

    def answer(manifest, out, **options):
        asked.update(options, out=out, rows=len(manifest))
        return asked["answer"]

    monkeypatch.setattr(module, "adapt", answer)
    return asked


def test_it_says_what_was_judged_and_where_the_encoder_is(run, capsys, manifest, told, tmp_path):
    told["answer"] = Adapted(report(5), report(3), 42, 14, 1, True, tmp_path / "out")
    arguments = ("adapt", manifest, "--out", tmp_path / "out", "--steps", 7, "--frames", "kept")
    assert run(*arguments, "--encoder", "small") == 0
    shown = capsys.readouterr().out
    assert "14 of 42 speakers kept apart, 50 target and 50 impostor trials" in shown
    assert "EER before  10.00 %  (95 %: 1.00 to 20.00)" in shown
    assert "EER after   6.00 %" in shown
    assert "thresholds  learnt from these speakers" in shown
    assert told["steps"] == 7
    assert (told["frames"], told["encoder"], told["rows"]) == (Path("kept"), Path("small"), 1)
    told["answer"] = Adapted(report(5), report(3), 12, 12, 3, False, tmp_path / "out")
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert "each of 12 speakers kept apart once, in 3 parts" in shown
    assert "those of the encoder before" in shown


def test_a_worse_one_is_said_and_ends_with_1(run, capsys, manifest, told):
    told["answer"] = Adapted(report(3), report(5), 42, 14, 1, True, None)
    assert run("adapt", manifest, "--out", "out") == 1
    shown = capsys.readouterr()
    assert "worse than before: nothing was written" in shown.err
    assert "encoder  " not in shown.out
    assert told["even_if_worse"] is False


def test_a_mistake_is_one_line(run, capsys, manifest, monkeypatch):
    def refuse(*_, **__):
        raise InputError("9 speakers: too few.")

    monkeypatch.setattr(module, "adapt", refuse)
    assert run("adapt", manifest, "--out", "out") == 2
    assert capsys.readouterr().err.strip() == "error: 9 speakers: too few."
