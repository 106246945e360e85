"""Speaker recognition with NetVLAD and GhostVLAD: train, embed, score, judge.

The public names are listed in ``__init__.pyi`` and told apart in ``docs/python.md``; each is
imported on first use, so that ``import speakervlad`` costs nothing and scoring needs no torch.
"""

import functools
import sys
from collections.abc import Callable

from speakervlad._moved import MovedModules

__version__ = "0.3.0"

sys.meta_path.append(MovedModules())  # pyright: ignore[reportArgumentType]


@functools.cache
def _public() -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """What imports a public name, lists them for ``dir``, and their list."""
    # Not before a name is asked for: the command line says it if a dependency is missing.
    import lazy_loader

    return lazy_loader.attach_stub(__name__, __file__)


def __dir__() -> list[str]:
    return _public()[1]()


def __getattr__(name: str) -> object:
    from speakervlad.deprecated import current_name

    if name == "__all__":
        return _public()[2]
    try:
        return _public()[0](current_name(name))
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchaudio"):
            raise
        raise ModuleNotFoundError(
            f'speakervlad.{name} needs {error.name}: pip install "speakervlad[train]"',
            name=error.name,
        ) from error
