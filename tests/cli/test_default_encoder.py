import pytest

from speakervlad.cli.quickstart import print_pairs
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.location import find_encoder


def test_info_of_the_default_encoder_prints_parts_and_card(run, capsys):
    assert run("info") == 0
    printed = capsys.readouterr().out
    assert "million, stored as F16" in printed
    assert "8 clusters, 2 ghosts" in printed
    assert "Proof of identity" in printed
    assert "\nFAR 0.1 %   accept from 0." in printed


def test_info_without_card(run, capsys):
    assert run("info", "small", "--no-card") == 0
    assert "Proof of identity" not in capsys.readouterr().out


def test_info_of_an_exported_file(run, capsys):
    assert run("info", find_encoder("small") / "model.onnx") == 0
    assert "num_mels 64" in capsys.readouterr().out


def test_info_refuses_what_is_no_encoder(run, capsys, tmp_path):
    assert run("info", tmp_path) == 2
    assert "holds no config.json" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{}")
    assert run("info", tmp_path) == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert run("info", tmp_path / "absent") == 2
    assert "no such encoder" in capsys.readouterr().err
    (tmp_path / "a.wav").touch()
    assert run("info", tmp_path / "a.wav") == 2
    assert (
        "a.wav: is no encoder. Name a folder, an .onnx file, or default" in capsys.readouterr().err
    )


def test_info_refuses_weights_that_do_not_fit_their_config(run, capsys, tmp_path):
    weights = find_encoder("small") / "model.safetensors"
    (tmp_path / "model.safetensors").write_bytes(weights.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    assert run("info", tmp_path) == 2
    shown = capsys.readouterr()
    assert "does not fit its config: projection.linear.bias is (256,), not (512,)" in shown.err
    assert not shown.out


def test_info_refuses_damaged_thresholds(run, capsys, tmp_path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((find_encoder("small") / name).read_bytes())
    (tmp_path / "thresholds.json").write_text('{"eer": "x"}')
    assert run("info", tmp_path) == 2
    assert "its thresholds.json holds no thresholds" in capsys.readouterr().err


def test_quickstart_compares_every_two_recordings(make_waveform, tmp_path, capsys):
    import soundfile

    paths = [tmp_path / f"{seed}.wav" for seed in range(3)]
    for seed, path in enumerate(paths):
        soundfile.write(path, make_waveform(1.5, seed=seed // 2), 16000)
    print_pairs(paths)
    lines = [line for line in capsys.readouterr().out.splitlines() if "speaker" in line]
    assert len(lines) == 3
    assert lines[0].split()[0] == "1.000"


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "good.wav: one recording has none to be compared with. Give two."),
        (["absent.wav"], "absent.wav: no such file"),
        (["text.wav"], "text.wav: "),
    ],
)
def test_quickstart_refuses_recordings_before_it_trains(
    run, capsys, make_wav, tmp_path, others, words
):
    (tmp_path / "text.wav").write_text("this is no sound")
    recordings = [make_wav(tmp_path / "good.wav"), *(tmp_path / name for name in others)]
    assert run("quickstart", *recordings, "--out", tmp_path / "run") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_score_embeds_what_the_list_names(run, make_wav, tmp_path):
    vectors = [load_encoder().embed(make_wav(tmp_path / f"{n}.wav", 1.5, seed=n)) for n in range(3)]
    pairs = [(0, 1), (2, 0), (1, 2)]
    (tmp_path / "list.trials").write_text("".join(f"{a}.wav {b}.wav {a % 2}\n" for a, b in pairs))
    assert run("score", tmp_path / "list.trials", "--out", tmp_path / "S.txt") == 0
    scores = [float(line.split()[2]) for line in (tmp_path / "S.txt").read_text().splitlines()]
    assert scores == pytest.approx([vectors[a] @ vectors[b] for a, b in pairs], abs=1e-5)
    assert max(scores) - min(scores) > 0.01


def test_score_without_embeddings_takes_no_models(run, capsys, tmp_path):
    (tmp_path / "list.trials").write_text("1 0.wav 0.wav\n")
    options = ("--out", tmp_path / "S.txt", "--cohort", tmp_path / "C.npz")
    assert run("score", tmp_path / "list.trials", *options) == 2
    assert "go with --embeddings" in capsys.readouterr().err


def test_score_takes_embeddings_or_what_makes_them(run, capsys, tmp_path):
    (tmp_path / "list.trials").write_text("1 0.wav 0.wav\n")
    options = ("--embeddings", tmp_path / "E.npz", "--encoder", "small")
    assert run("score", tmp_path / "list.trials", *options, "--out", tmp_path / "S.txt") == 2
    assert "--encoder small would compute what --embeddings" in capsys.readouterr().err


def test_info_says_which_threshold_is_whose(run, capsys):
    assert run("info", "default") == 0
    printed = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines()[:20] if " " in line)
    assert lines["verify"].startswith("decides by the calibration: from 0.")
    assert lines["identify"].startswith("has a threshold of its own")
    assert "\n| list | language |" in printed
    assert "\\n" not in printed
