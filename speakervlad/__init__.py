"""Speaker recognition with NetVLAD and GhostVLAD: train, embed, score, judge.

The public names are listed in ``__init__.pyi``; each is imported on first use, so that
``import speakervlad`` costs nothing and scoring needs no torch.
"""

import lazy_loader

__version__ = "0.3.0"

# Names of earlier versions that have left the package, and where they are in the repository.
MOVED = {
    "nearest": "recipes/images/retrieval.py",
    "recall_at": "recipes/images/retrieval.py",
    "whiten": "recipes/images/retrieval.py",
}
_import_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name in MOVED:
        raise AttributeError(f"speakervlad.{name} has moved: {MOVED[name]} of the repository")
    try:
        return _import_name(name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchaudio"):
            raise
        raise ModuleNotFoundError(
            f'speakervlad.{name} needs {error.name}: pip install "speakervlad[train]"',
            name=error.name,
        ) from error
