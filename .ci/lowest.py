"""Prints a constraints file of the lowest versions that pyproject.toml allows.

    python .ci/lowest.py > lowest.txt && pip install -c lowest.txt .
    python .ci/lowest.py train diarization > lowest.txt && pip install -c lowest.txt ".[train]"

Arguments are extras whose dependencies count too. What has no lower bound is an error.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[\w,]+\])?>=([\w.]+)")


def lowest(project: dict, extras: list[str]) -> dict[str, str]:
    """The lowest version of every dependency by its name."""
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith(f"{project['name']}["):
            inner = line.partition("[")[2].rstrip("]").split(",")
            found |= lowest(project, inner)
            continue
        match = REQUIREMENT.match(line)
        if match is None:
            raise SystemExit(f"{line}: has no lower bound")
        # Where two extras bound one package, the higher bound is the lowest that both take.
        name, version = match.groups()
        found[name] = max(version, found.get(name, "0"), key=key)
    return found


def key(version: str) -> tuple[int, ...]:
    """A version to compare by."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    for name, version in sorted(lowest(project, sys.argv[1:]).items()):
        print(f"{name}=={version}")
