"""Optional dependencies, asked for where they are needed."""

import importlib.util

from speakervlad.errors import InputError


def require(module: str, extra: str, purpose: str) -> None:
    """Say which extra to install when an optional module is absent.

    Raises:
        InputError: the module is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"{purpose} needs {module}. Install it: pip install 'speakervlad[{extra}]'."
        )
