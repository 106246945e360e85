"""What the commands share: the rich console, progress bars, one-line errors."""

import logging
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from rich import console as rich_console

from speakervlad.errors import InputError
from speakervlad.progress import tracked_by
from speakervlad.texts import parse_json

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

Item = TypeVar("Item")
# Where no terminal shows a bar, training prints a line of figures as often as this.
SECONDS_BETWEEN_LINES = 30
# Bars that were made, whether they are on the screen or not.
_bars: "WeakSet[Progress]" = WeakSet()
# Takes the step, the number of steps, and the newest figures.
Show = Callable[[int, int, str], None]

# Characters that a terminal interprets instead of showing them: controls but for the tab, line and
# paragraph separators, and what changes the direction of text.
OBEYED = re.compile(
    "[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)


def shown(text: str) -> str:
    r"""A text in which what a terminal would interpret is spelt out, as ``\x1b`` or ``\u202e``."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class Console(rich_console.Console):
    """rich's, which shows every control character: names in a file may come from anybody."""

    def render_str(self, text: str, **options: Any) -> "Text":  # noqa: ANN401 - as rich takes them
        return super().render_str(shown(text), **options)

    def print_json(self, json: str, **options: Any) -> None:  # pyright: ignore  # noqa: ANN401
        # JSON has escapes for them, which it leaves out of what it need not escape.
        plain = dumps(parse_json(json), ensure_ascii=False)
        super().print_json(json, ensure_ascii=OBEYED.search(plain) is not None, **options)


class PlainFormatter(logging.Formatter):
    """As logging's, with every control character shown."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return shown(super().formatMessage(record))


# Names of files and people are printed as they are, whatever rich would make of [x] and :x:.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
# What a command has done, and how far it is: apart from its results, and silent with --quiet.
notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number of things in words: "1 turn", "2 turns"."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def clock(seconds: float, digits: int, *, hours: bool = True) -> str:
    """``0:01:02.3``; without ``hours``, ``1:02.3`` where there are none."""
    scale = 10**digits
    minutes, rest = divmod(round(seconds * scale), 60 * scale)
    whole, minutes = divmod(minutes, 60)
    shown_seconds = f"{rest / scale:0{3 + digits}.{digits}f}"
    return (
        f"{whole}:{minutes:02}:{shown_seconds}" if hours or whole else f"{minutes}:{shown_seconds}"
    )


def asked(question: str) -> bool:
    """Whether somebody at the terminal says yes; no by default, and at the end of input."""
    errors.print(f"{question} [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def progress_bar(
    items: Iterable[Item], description: str, total: int | None = None
) -> Iterator[Item]:
    """A bar with count and remaining time, on stderr, gone when done; none within another one."""
    if _is_drawing():
        yield from items
        return
    with _progress() as progress:
        yield from progress.track(items, total=total, description=description)


def audio_bar(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """As ``progress_bar``, with the speed so far; items that have ``seconds`` count as audio."""
    import time

    began, audio_seconds = time.perf_counter(), 0.0
    with _progress("{task.fields[speed]}") as progress:
        task = progress.add_task(description, total=total, speed="")
        for count, item in enumerate(items, 1):
            audio_seconds += getattr(item, "seconds", 0.0)
            speed = describe_speed(count, audio_seconds, time.perf_counter() - began)
            progress.update(task, advance=1, speed=speed)
            yield item


def describe_speed(num_files: int, audio_seconds: float, elapsed: float) -> str:
    """``12.3 files/s, 98 x real time``."""
    return f"{num_files / elapsed:.3g} files/s, {audio_seconds / elapsed:.3g} x real time"


@contextmanager
def training_line(*, enabled: bool = True) -> Iterator[Show]:
    """Progress and the newest figures on stderr, from the first figures on.

    A terminal has one line that stays; elsewhere, as in a log file, a line is printed now and then,
    and always for the first and the last figures.
    """
    import time

    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  {task.description}"),
        TimeRemainingColumn(),
    )
    progress = _on_terminal(*columns, transient=False)
    task = progress.add_task("", total=None)
    next_line = -math.inf

    def show(step: int, total: int, line: str) -> None:
        nonlocal next_line
        if not enabled:
            return
        if notes.is_terminal:
            progress.update(task, completed=step, total=total, description=line)
            progress.start()
        elif step == total or time.monotonic() >= next_line:
            notes.print(f"training  {step}/{total}  {line}")
            next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    try:
        yield show
    finally:
        progress.stop()


def _progress(*texts: str) -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *map(TextColumn, texts),
        TimeRemainingColumn(),
    )
    return _on_terminal(*columns, transient=True)


def _on_terminal(*columns: "ProgressColumn", transient: bool) -> "Progress":
    """A bar on stderr; none where nobody watches, so that logs stay readable."""
    from rich.progress import Progress

    disable = notes.quiet or not notes.is_terminal
    progress = Progress(*columns, console=notes, transient=transient, disable=disable)
    _bars.add(progress)
    return progress


def _is_drawing() -> bool:
    """Whether a bar is on the screen: a terminal has room for one."""
    return any(progress.live.is_started for progress in _bars)


def be_quiet(wanted: bool) -> None:
    """Print results, warnings and errors alone: no progress, no notes."""
    if wanted:
        notes.quiet = True
        logging.getLogger("speakervlad").setLevel(logging.WARNING)


def set_up_logging(level: int = logging.INFO) -> None:
    """Library messages go to stderr as plain lines; only the command line calls this.

    On a terminal they are folded to its width; elsewhere each is one line, however long.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_log_handler()], force=True)
    logging.getLogger("speakervlad").setLevel(level)


def _log_handler() -> logging.Handler:
    if errors.is_terminal:
        from rich.logging import RichHandler

        handler = RichHandler(console=errors, show_path=False, show_time=False, markup=False)
        handler.setFormatter(PlainFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(PlainFormatter("%(levelname)-8s %(message)s"))
    return handler


def run(app: Callable[[], object]) -> None:
    """Run a command line; every error ends in one line on stderr and exit code 2.

    Exit code 1 is an answer of some commands, so no failure may look like it.
    """
    set_up_logging()
    notes.quiet = False
    handler = signal.signal(signal.SIGINT, interrupted)
    try:
        with tracked_by(progress_bar):
            app()
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as ended:
        # rich and typer turn a closed pipe into exit code 1.
        if not _is_closed_pipe(ended):
            raise
        # The reader has gone: 141, as shells report for a command that SIGPIPE ended.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(141)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        known = isinstance(error, InputError | OSError)
        hint = "" if known else f" ({type(error).__name__}; --debug before the command says where)"
        if not (known and _is_echo()):
            errors.print(f"error: {describe(error)}{hint}", markup=False, emoji=False)
        sys.exit(2)
    finally:
        signal.signal(signal.SIGINT, handler)


def _is_echo() -> bool:
    """Whether torchrun's first process on this machine says the same: before they joined."""
    distributed = sys.modules.get("torch.distributed")
    has_joined = distributed is not None and distributed.is_initialized()
    return os.environ.get("LOCAL_RANK", "0") != "0" and not has_joined


def _is_closed_pipe(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__context__
    return error is not None


def interrupted(*_: object) -> None:
    """Ctrl-C ends a command with 130, as a shell says of it; training has a handler of its own."""
    errors.print("interrupted")
    raise SystemExit(130)


def describe(error: Exception) -> str:
    """One line for one error; an OSError names its file, and what to look at."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        start = "" if Path(error.filename).is_absolute() else f", which starts from {Path.cwd()}"
        return f"{error.filename}: {error.strerror}. Check the path{start}."
    if isinstance(error, IsADirectoryError) and error.filename is not None:
        return f"{error.filename}: is a folder. Name a file."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
