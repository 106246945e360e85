"""The recipes that show VLAD on images and clips, in miniature."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def run_recipe(monkeypatch, capsys):
    """``run_recipe("images", ...)``: its exit code, and what it printed."""

    def run(name, *arguments):
        script = RECIPES / name / "train.py"
        before = set(sys.modules)
        monkeypatch.syspath_prepend(script.parent)
        monkeypatch.setattr("sys.argv", [str(script), *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(script), run_name="__main__")
        # Its neighbours have everyday names.
        for each in set(sys.modules) - before:
            if (script.parent / f"{each}.py").exists():
                del sys.modules[each]
        return stopped.value.code or 0, capsys.readouterr()

    return run


def test_images_from_a_folder_to_a_table_and_pictures(run_recipe, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    for number in range(6):
        small = rng.integers(0, 256, (40, 40, 3), np.uint8)
        pil.fromarray(small).resize((360, 360), pil.Resampling.BILINEAR).save(
            tmp_path / f"{number}.png"
        )
    options = ("--photos", tmp_path, "--out", tmp_path / "out", "--seeds", 1)
    code, shown = run_recipe("images", *options, "--pretrain-steps", 2, "--steps", 2)
    assert code == 0, shown.err
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert len(results) == 6
    assert {len(columns) for seeds in results.values() for columns in seeds} == {4}
    assert all(0 <= share <= 1 for seeds in results.values() for share in seeds[0])
    assert "| GhostVLAD |" in shown.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "neighbours.webp",
        "map.webp",
    }


def test_images_that_are_not_there_are_one_line(run_recipe, tmp_path):
    code, shown = run_recipe("images", "--photos", tmp_path / "none", "--out", tmp_path / "out")
    assert code == 2
    assert "0 photographs" in shown.err
    assert shown.err.count("\n") == 1


def test_actions_from_clips_to_a_table(run_recipe, tmp_path):
    options = ("--out", tmp_path, "--seeds", 1, "--steps", 2, "--num-clips", 32)
    code, shown = run_recipe("actions", *options)
    assert code == 0, shown.err
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 3
    assert "| ActionVLAD, 24 x 8 numbers |" in shown.out
