"""The recipes that show VLAD on images and clips, in miniature."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RECIPES = Path(__file__).parents[1] / "recipes"


def run_recipe(name, *arguments):
    command = [sys.executable, RECIPES / name / "train.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_images_from_a_folder_to_a_table_and_pictures(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    for number in range(6):
        small = rng.integers(0, 256, (40, 40, 3), np.uint8)
        pil.fromarray(small).resize((360, 360), pil.Resampling.BILINEAR).save(
            tmp_path / f"{number}.png"
        )
    options = ("--photos", tmp_path, "--out", tmp_path / "out", "--seeds", 1)
    done = run_recipe("images", *options, "--pretrain-steps", 2, "--steps", 2)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert len(results) == 6
    assert {len(columns) for seeds in results.values() for columns in seeds} == {4}
    assert all(0 <= share <= 1 for seeds in results.values() for share in seeds[0])
    assert "| GhostVLAD |" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "neighbours.webp",
        "map.webp",
    }


def test_images_that_are_not_there_are_one_line(tmp_path):
    done = run_recipe("images", "--photos", tmp_path / "none", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "0 photographs" in done.stderr
    assert done.stderr.count("\n") == 1


def test_actions_from_clips_to_a_table(tmp_path):
    options = ("--out", tmp_path, "--seeds", 1, "--steps", 2, "--num-clips", 32)
    done = run_recipe("actions", *options)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 3
    assert "| ActionVLAD, 24 x 8 numbers |" in done.stdout
