import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speakervlad.encoder.backends import weights_digest
from speakervlad.encoder.encoder import load_encoder
from speakervlad.scoring.calibration import Calibration, load_calibration, save_calibration
from speakervlad.scoring.lists import save_trials
from speakervlad.scoring.metrics import cllr, equal_error_rate
from speakervlad.scoring.scores import read_scores, save_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two score files on the trials of 12 speakers, embeddings, a cohort and an enrolment map."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    ids = [f"s{speaker:02}/{n}.wav" for speaker in range(12) for n in range(4)]
    pairs = [(a, b) for a in ids for b in ids if a < b]
    is_target = np.array([a[:3] == b[:3] for a, b in pairs])
    trials = Trials.from_ids(*zip(*pairs, strict=True), is_target)
    for name in "AB":
        scores = 0.1 * (rng.normal(size=len(pairs)) + 2 * is_target)
        save_scores(f"{name}.txt", trials, scores)
    save_trials("list.txt", trials)
    voices = np.repeat(rng.normal(size=(12, 16)), 4, axis=0)
    save_embeddings("E.npz", Embeddings(np.array(ids), voices + rng.normal(size=(48, 16))))
    cohort = rng.normal(size=(40, 16))
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)
    save_embeddings("C.npz", Embeddings(np.array([f"c{n}" for n in range(40)]), cohort))
    return tmp_path


def test_calibrate_then_fuse(run, folder):
    assert run("calibrate", "A.txt", "B.txt", "--out", "both.json") == 0
    assert run("fuse", "A.txt", "B.txt", "--calibration", "both.json", "--out", "F.txt") == 0
    fused, alone = read_scores("F.txt"), read_scores("A.txt")
    labels = fused[0].labels()
    assert equal_error_rate(fused[1], labels) < 0.9 * equal_error_rate(alone[1], labels)
    assert cllr(fused[1], labels) < 0.4 < 0.8 < cllr(alone[1], labels)
    assert load_calibration("both.json").num_systems == 2


def test_calibrate_with_quality_measures(run, folder):
    sources = ["--embeddings", "E.npz", "--cohort", "C.npz"]
    kinds = ["--quality", "magnitude", "--quality", "cohort"]
    assert run("calibrate", "A.txt", *kinds, *sources, "--out", "q.json") == 0
    assert len(load_calibration("q.json").quality) == 4
    assert run("fuse", "A.txt", "--calibration", "q.json", *sources, "--out", "F.txt") == 0
    assert run("fuse", "A.txt", "--calibration", "q.json", "--out", "G.txt") == 2
    assert not (folder / "G.txt").exists()


def test_score_normalises_and_calibrates(run, folder):
    basic = ["score", "list.txt", "--embeddings", "E.npz"]
    assert run(*basic, "--out", "cosine.txt") == 0
    assert run(*basic, "--cohort", "C.npz", "--top", 20, "--out", "asnorm.txt") == 0
    assert run(*basic, "--cohort", "C.npz", "--top", 0, "--mean-of", "C.npz", "--out", "s.txt") == 0
    assert run("calibrate", "cosine.txt", "--out", "c.json") == 0
    assert run(*basic, "--calibration", "c.json", "--out", "llr.txt") == 0
    values = {name: read_scores(f"{name}.txt")[1] for name in ("cosine", "asnorm", "s", "llr")}
    labels = read_scores("cosine.txt")[0].labels()
    assert values["asnorm"].std() > 2 * values["cosine"].std()
    assert not np.allclose(values["asnorm"], values["s"])
    assert cllr(values["llr"], labels) < cllr(values["cosine"], labels)


def test_score_with_models_of_several_recordings(run, folder):
    (folder / "enroll.map").write_text("m0 s00/0.wav s00/1.wav\nm1 s01/0.wav s01/1.wav\n")
    (folder / "models.txt").write_text("m0 s00/2.wav target\nm0 s01/2.wav nontarget\n")
    arguments = ["--embeddings", "E.npz", "--enrol", "enroll.map", "--out", "M.txt"]
    assert run("score", "models.txt", *arguments) == 0
    trials, values = read_scores("M.txt")
    assert trials.enrol_ids.tolist() == ["m0", "m0"]
    assert values[0] > values[1]


def test_metrics_with_labels_from_a_list_and_intervals(run, folder, capsys):
    assert run("convert-scores", "A.txt", "K.txt", "--format", "kaldi") == 0
    assert run("metrics", "K.txt") == 2
    arguments = [
        "--trials",
        "list.txt",
        "--resamples",
        20,
        "--json",
        "m.json",
        "--point",
        "0.1,5,1",
    ]
    assert run("metrics", "K.txt", *arguments) == 0
    report = json.loads((folder / "m.json").read_text())
    assert set(report["min_dcf"]) == {"0.1,5,1"}
    low, high = report["intervals"]["eer"]
    assert low < report["eer"] < high
    assert "EER" in capsys.readouterr().out


def test_metrics_at_a_threshold_of_ones_own_or_of_an_encoder(run, folder, capsys):
    assert run("metrics", "A.txt", "--resamples", 0, "--threshold", 0.1, "--json", "m.json") == 0
    report = json.loads((folder / "m.json").read_text())
    scored, values = read_scores("A.txt")
    labels = scored.labels()
    assert report["at_threshold"]["far"] == pytest.approx(np.mean(values[~labels] >= 0.1))
    assert report["at_threshold"]["frr"] == pytest.approx(np.mean(values[labels] < 0.1))
    said = capsys.readouterr().out
    assert f"at 0.1000           FAR {np.mean(values[~labels] >= 0.1):.3%}" in said
    thresholds = {"eer": 0.15, "false_accept_rate": {"0.01": 0.2}}
    (folder / "enc").mkdir()
    (folder / "enc" / "config.json").write_text("{}")
    (folder / "enc" / "thresholds.json").write_text(json.dumps(thresholds))
    assert run("metrics", "A.txt", "--resamples", 0, "--encoder", "enc") == 0
    assert "at 0.1500 " in capsys.readouterr().out
    assert run("metrics", "A.txt", "--resamples", 0, "--encoder", "enc", "--far", 0.01) == 0
    assert "at 0.2000 " in capsys.readouterr().out
    assert run("metrics", "A.txt", "--far", 0.01) == 2
    assert run("metrics", "A.txt", "--threshold", 0.1, "--encoder", "enc") == 2


def test_a_fusion_takes_its_systems_by_name(run, folder):
    assert run("calibrate", "A.txt", "B.txt", "--out", "both.json") == 0
    fusing = ["--calibration", "both.json", "--out"]
    assert run("fuse", "A.txt", "B.txt", *fusing, "one.txt") == 0
    assert run("fuse", "B.txt", "A.txt", *fusing, "other.txt") == 0
    one, other = (
        dict(zip(zip(pairs.enrol_ids, pairs.test_ids, strict=True), values, strict=True))
        for pairs, values in (read_scores("one.txt"), read_scores("other.txt"))
    )
    assert one == other
    (folder / "C.txt").write_text((folder / "B.txt").read_text())
    assert run("fuse", "A.txt", "C.txt", *fusing, "x.txt") == 2
    assert run("fuse", "A.txt", "B=C.txt", *fusing, "third.txt") == 0
    assert (folder / "third.txt").read_text() == (folder / "one.txt").read_text()


def test_brackets_and_colons_in_names_are_printed_as_they_are(run, folder, capsys):
    assert run("score", "list.txt", "--embeddings", "E.npz", "--out", "x[/a]:x:.txt") == 0
    assert "x[/a]:x:.txt" in capsys.readouterr().err
    assert run("score", "list.txt", "--embeddings", "no[/a]:x:.npz", "--out", "y.txt") == 2
    assert "no[/a]:x:.npz" in capsys.readouterr().err


def test_half_a_list_is_judged_only_on_demand(run, folder, capsys):
    lines = (folder / "A.txt").read_text().splitlines(keepends=True)
    (folder / "half.txt").write_text("".join(lines[::2]))
    judging = ["metrics", "half.txt", "--trials", "list.txt", "--resamples", 0]
    assert run(*judging) == 2
    assert "564 of 1128 trials of the list have no score" in capsys.readouterr().err
    assert run(*judging, "--partial") == 0
    assert "564 of 1128 trials of the list have no score" in capsys.readouterr().err


def test_compare_and_report(run, folder, capsys):
    assert run("compare", "A.txt", "B.txt", "--resamples", 20) == 0
    said = capsys.readouterr().out
    assert "minDCF (p_target 0.01)" in said
    assert "A  A\nB  B\n" in said
    assert re.search(r"^EER +\d+\.\d\d% +\d+\.\d\d% +[+-]\d", said, re.MULTILINE)
    assert run("report", "A.txt", "B.txt", "--resamples", 20, "--out", "r.html") == 0
    page = (folder / "r.html").read_text()
    assert page.count("<svg") == 4
    assert "EER minus that of" in page


@pytest.mark.parametrize("suffix", ["ark", "scp", "parquet", "npz"])
def test_convert_embeddings(run, folder, suffix):
    assert run("convert-embeddings", "E.npz", f"F.{suffix}") == 0
    arguments = ["--embeddings", f"F.{suffix}", "--out", "S.txt"]
    assert run("score", "list.txt", *arguments) == 0


def test_large_files_are_streamed(run, folder, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    assert run("metrics", "A.txt", "--resamples", 0, "--json", "small.json") == 0
    monkeypatch.setattr("speakervlad.cli.evaluation.STREAM_BYTES", 10)
    assert run("metrics", "A.txt", "--json", "large.json") == 0
    assert "read as a stream" in capsys.readouterr().err
    small, large = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("small", "large")
    )
    assert large["eer"] == pytest.approx(small["eer"])
    assert large["min_dcf"] == pytest.approx(small["min_dcf"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metrics", "A.txt", "--by", "gender"], "--by needs --manifest"),
        (["metrics", "A.txt", "--point", "2"], "operating point 2"),
        (["metrics", "A.npy"], "A.npy: scores without names"),
        (["report", "A.txt", "list.txt", "--out", "x.html"], "a trial list, not a score file"),
        (["compare", "A.txt", "half.txt"], "score files 2 hold other trials"),
        (["compare", "A.txt", "other.txt"], "disagree about 1 of 1128 labels, first that of s00/0"),
        (["fuse", "A.txt", "--calibration", "E.npz", "--out", "x.txt"], "E.npz: no calibration"),
        (["score", "list.txt", "--embeddings", "E.h5", "--out", "x.txt"], "unknown kind"),
        (["convert-scores", "A.txt", "x.txt", "--format", "kaldy"], "Did you mean 'kaldi'"),
        (
            ["score", "list.txt", "--embeddings", "E.npz", "--cohort", "C.npz", "--out", "x.txt"],
            "top 300 of a cohort of 40",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, folder, capsys, arguments, message):
    (folder / "half.txt").write_text("s00/0.wav s00/1.wav 0.5 1\ns00/0.wav s01/1.wav 0.5 0\n")
    text = (folder / "B.txt").read_text()
    (folder / "other.txt").write_text(text.replace(" 1\n", " 0\n", 1))
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert err.strip().count("\n") == 0
    assert not list(folder.glob("x.*"))


def test_a_calibration_of_another_encoder_is_refused(run, folder, capsys):
    for name, encoder in (("own", "1" * 64), ("others", "2" * 64)):
        save_calibration(f"{name}.json", Calibration((12.0,), -6.0, encoder=encoder))
    save_embeddings("E.npz", replace(load_embeddings("E.npz"), encoder="1" * 64))
    asked = ("score", "list.txt", "--embeddings", "E.npz", "--out", "S.txt", "--calibration")
    assert run(*asked, "others.json") == 2
    error = capsys.readouterr().err
    assert "made by different encoders: embeddings of 111111111111, calibration of 22" in error
    assert not Path("S.txt").exists()
    assert run(*asked, "own.json") == 0


def test_calibrate_names_the_encoder_in_whose_folder_it_writes(run, folder, save_tiny_encoder):
    encoder = save_tiny_encoder(folder / "encoder")
    for place, weights in ((encoder, weights_digest(encoder)), (folder, None)):
        assert run("calibrate", "A.txt", "--out", place / "calibration.json") == 0
        assert load_calibration(place / "calibration.json").encoder == weights
    assert load_encoder(encoder, backend="torch").calibration.num_target > 0


def test_plda_is_fitted_and_scores(run, folder, capsys):
    rows = [f"s{speaker:02}/{n}.wav" for speaker in range(12) for n in range(4)]
    manifest = "utterance_id,path,speaker,session,num_samples\n"
    manifest += "".join(f"{row},{row},{row[:3]},{row[:3]},16000\n" for row in rows)
    (folder / "m.csv").write_text(manifest)
    fit = ("plda", "E.npz", "--manifest", "m.csv", "--out", "plda.npz")
    assert run(*fit, "--lda", 8) == 0
    assert "8 dimensions, of 48 recordings: plda.npz" in capsys.readouterr().err
    scoring = ("score", "list.txt", "--embeddings", "E.npz", "--out", "P.txt", "--plda")
    assert run(*scoring, "plda.npz") == 0
    pairs, scores = read_scores("P.txt")
    assert equal_error_rate(scores, pairs.labels()) < 0.05
    assert run(*scoring, "E.npz") == 2
    assert "E.npz: holds no PLDA" in capsys.readouterr().err
    assert run(*scoring, "plda.npz", "--cohort", "C.npz") == 2
