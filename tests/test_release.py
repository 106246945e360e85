"""One version everywhere, and what the jobs of CI are made from."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import speakervlad

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_one_version_everywhere():
    version = PROJECT["version"]
    citation = yaml.safe_load((ROOT / ".github/CITATION.cff").read_text("utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heading = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", changes, re.MULTILINE)
    assert heading
    assert speakervlad.__version__ == version == citation["version"] == heading[1]


def run_lowest(*extras):
    command = [sys.executable, ROOT / ".ci/lowest.py", *extras]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("extras", [(), ("all",), ("dev", "docs")])
def test_every_dependency_has_a_lowest_version(extras):
    done = run_lowest(*extras)
    assert done.returncode == 0, done.stderr
    names = [line.partition("==")[0] for line in done.stdout.splitlines()]
    base = [re.split(r"[>\[]", line)[0] for line in PROJECT["dependencies"]]
    assert set(base) <= set(names)
    assert len(names) == len(set(names))
    assert ("torch" in names) == bool(set(extras) & {"all", "dev"})


def test_the_hooks_before_a_commit_are_the_linters_of_ci():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0][
        "hooks"
    ]
    lines = (ROOT / ".ci/run").read_text("utf-8").splitlines()
    assert all(hook["entry"] in lines for hook in hooks)


def test_the_workflow_runs_what_decides():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    commands = [step.get("run", "") for step in jobs["ci"]["steps"]]
    assert "bash .ci/run" in commands
    assert any(".ci/lowest.py" in step.get("run", "") for step in jobs["lowest"]["steps"])


def test_a_public_type_that_is_not_known_is_told(load_script):
    script = load_script(".ci/public_types.py")
    public = script.public_names()
    assert "speakervlad.encoder.encoder.Encoder" in public
    assert "speakervlad.models.trunk.Trunk" in public
    symbols = [
        symbol("speakervlad.encoder.encoder.Encoder.verify", is_known=False),
        symbol("speakervlad.testing.check_loss", is_ambiguous=True),
        symbol("speakervlad.encoder.encoder.Encoder.embed"),
        symbol("speakervlad.encoder.encoder.Encoders", is_known=False),
        symbol("speakervlad.cli.verify.verify", is_known=False),
    ]
    first, second = script.unknown(symbols, public)
    assert first == "speakervlad.encoder.encoder.Encoder.verify: no return type"
    assert second.startswith("speakervlad.testing.check_loss")
    assert "python .ci/public_types.py" in (ROOT / ".ci/run").read_text("utf-8").splitlines()


def symbol(name, *, is_known=True, is_ambiguous=False):
    """What pyright says of one."""
    diagnostics = [] if is_known else [{"message": "no\n  return type"}]
    return {"name": name, "isTypeKnown": is_known, "isTypeAmbiguous": is_ambiguous,
            "diagnostics": diagnostics}  # fmt: skip
