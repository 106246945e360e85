"""Names of earlier versions, which still work and warn; this is the one place that lists them.

Modules of earlier versions are in ``_moved.py``.
"""

import warnings

# Of the package: what a name is called now.
NAMES = {
    "Embedder": "Encoder",
    "VladState": "PoolingSums",
    "read_audio": "load_audio",
    "read_enrolment": "load_enrolment",
    "read_scores": "load_scores",
    "read_systems": "load_systems",
    "read_trials": "load_trials",
    "read_turns": "load_turns",
    "write_report": "save_report",
    "write_scores": "save_scores",
    "write_turns": "save_turns",
}
# Names that have left the package, and where they are in the repository.
MOVED = {
    "nearest": "recipes/images/retrieval.py",
    "recall_at": "recipes/images/retrieval.py",
    "whiten": "recipes/images/retrieval.py",
}


def current_name(name: str) -> str:
    """What a public name is called now.

    Raises:
        AttributeError: it is in the package no longer.
    """
    if name in MOVED:
        raise AttributeError(f"speakervlad.{name} has moved: {MOVED[name]} of the repository")
    if name in NAMES:
        warn_of_old_name(f"speakervlad.{name}", f"speakervlad.{NAMES[name]}")
    return NAMES.get(name, name)


def warn_of_old_name(old: str, new: str) -> None:
    """Warn whoever called the function that calls this."""
    warnings.warn(f"{old} is called {new} now.", DeprecationWarning, stacklevel=3)
