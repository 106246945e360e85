"""The ``speakervlad`` command.

Nothing but the standard library is imported before ``main`` runs, so that a dependency that is
missing or broken is a failure like any other: one line and exit code 2. Python's own exit code for
it is 1, which ``verify`` gives to different speakers.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speakervlad.cli.commands import app as app


def main() -> None:
    """Run the command line."""
    try:
        from speakervlad.cli.commands import main as run
    except Exception as error:
        if "--debug" in sys.argv:
            import traceback

            traceback.print_exc()
        reason = " ".join(str(error).split())[:300]
        sys.stderr.write(
            f"error: speakervlad cannot start: {reason} ({type(error).__name__}). "
            "Install it again: pip install --force-reinstall speakervlad\n"
        )
        sys.exit(2)
    run()


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from speakervlad.cli.commands import app

    return app
