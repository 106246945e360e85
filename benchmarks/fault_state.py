"""Counts and findings of ``faults.py``, kept so that a run goes on where it was."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

# Outcomes that should be; all others are findings.
USUAL = ("read", "otherwise", "refused", "same", "killed", "answered", "closed")


def load_state(path: Path, seed: int) -> dict[str, Any]:
    """Counts and findings so far."""
    if path.exists():
        found = json.loads(path.read_text())
        assert found["seed"] == seed, f"{path} is of seed {found['seed']}"
        return found
    return {"seed": seed, "done": {}, "counts": {}, "findings": []}


def save_state(path: Path, found: dict[str, Any]) -> None:
    """For the next time."""
    from speakervlad.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1))


def note(found: dict[str, Any], name: str, outcome: str, case: int) -> None:
    """Count an outcome; one that should not be is a finding."""
    usual = outcome in USUAL
    counts = found["counts"].setdefault(name, {})
    word = outcome if usual else "finding"
    counts[word] = counts.get(word, 0) + 1
    if not usual:
        found["findings"].append({"case": case, "name": name, "outcome": outcome})


def show(found: dict[str, Any]) -> None:
    """A line of counts."""
    total: Counter[str] = Counter()
    for counts in found["counts"].values():
        total.update(counts)
    words = ", ".join(f"{count} {word}" for word, count in sorted(total.items()))
    print(words, flush=True)
