"""Speaker recognition with NetVLAD and GhostVLAD: train, embed, score, judge."""

import importlib

__version__ = "0.1.0"

_HOMES = {}
__all__ = ["__version__"]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import speakervlad`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'speakervlad' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
