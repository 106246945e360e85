"""Fails where a type of the public API is unknown or left to a type checker to infer.

    python .ci/public_types.py

Public is what ``speakervlad/__init__.pyi`` and ``speakervlad.parts`` name, all of
``speakervlad.testing``, and the attributes and methods of these classes. pyright also says of a
symbol whether what it is made of is known, so other classes count where these refer to them.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "speakervlad"
NAMED_IN = [PACKAGE / "__init__.pyi", PACKAGE / "parts.py"]


def public_names() -> tuple[str, ...]:
    """Where each public name is defined: ``speakervlad.audio.recording.Recording``."""
    found = []
    for path in NAMED_IN:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                module = f"speakervlad.{node.module}" if node.level else node.module
                found += [f"{module}.{name.name}" for name in node.names]
    return (*found, "speakervlad.testing")


def completeness() -> list[dict]:
    """What pyright says of every symbol of the package."""
    # It looks for the packages that are imported beside the python that it finds first.
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyright", "--verifytypes", "speakervlad"]
    done = subprocess.run(
        [*command, "--ignoreexternal", "--outputjson"],
        cwd=ROOT,
        env=os.environ | {"PATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    if not symbols:
        raise SystemExit(f"pyright found no symbols of speakervlad: {done.stdout}")
    return symbols


def unknown(symbols: list[dict], public: tuple[str, ...]) -> list[str]:
    """A line for each public symbol that is not known."""
    inside = tuple(f"{name}." for name in public)
    lines = []
    for symbol in symbols:
        is_public = symbol["name"] in public or symbol["name"].startswith(inside)
        if is_public and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]):
            reasons = [" ".join(each["message"].split()) for each in symbol["diagnostics"]]
            lines.append(f"{symbol['name']}: {'; '.join(reasons) or 'made of what is not known'}")
    return lines


if __name__ == "__main__":
    found = unknown(completeness(), public_names())
    print("\n".join(found))
    sys.exit(f"{len(found)} public types are not known" if found else 0)
