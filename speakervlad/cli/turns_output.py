"""Where turns of speakers go: files, a folder, standard output, or a table on a terminal."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from speakervlad.cli.console import clock, console, counted, notes
from speakervlad.diarization.turns import FORMS, Turns, save_turns
from speakervlad.errors import InputError, first_few
from speakervlad.files import STANDARD_OUTPUT, check_writable
from speakervlad.urls import called

TABLE = "table"


@dataclass
class Output:
    """Takes the turns of one recording after the other.

    Attributes:
        out: a file, a folder, or None for standard output.
        forms: names of ``FORMS``, or ``TABLE``.
        is_folder: whether ``out`` gets a file for each recording and form.
    """

    out: Path | None
    forms: list[str]
    is_folder: bool = False
    _taken: list[Turns] = field(default_factory=list)

    @classmethod
    def of(cls, files: list[Path], out: Path | None, forms: list[str]) -> Self:
        """What ``--out`` and the options of forms ask for, checked before anything is computed.

        A name that ends as a form does is a file, unless such a folder is there.

        Args:
            files: the recordings.
            out: of the command line.
            forms: that are asked for, maybe none.

        Raises:
            InputError: they contradict each other, or nothing can be written there.
        """
        if out is None or out == STANDARD_OUTPUT:
            form = TABLE if out is None and sys.stdout.isatty() else "rttm"
            return cls._checked(cls(None, forms or [form]), len(files), "standard output")
        by_suffix = {form.suffix: name for name, form in FORMS.items()}
        if out.suffix.lower() in by_suffix and not out.is_dir():
            form = by_suffix[out.suffix.lower()]
            if set(forms) - {form}:
                raise InputError(f"{out}: is {form} by its suffix. Leave --{forms[0]}, or name a "
                                 "folder.")  # fmt: skip
            check_writable(out)
            return cls._checked(cls(out, [form]), len(files), str(out))
        forms = forms or ["rttm"]
        _check_names(files)
        check_writable(out / f"{files[0].stem}{FORMS[forms[0]].suffix}")
        return cls(out, forms, is_folder=True)

    @classmethod
    def _checked(cls, output: Self, num_files: int, where: str) -> Self:
        """Refuse several forms, or several recordings in a form that holds one."""
        (form, *more) = output.forms
        if more:
            raise InputError(f"{where}: holds one form, not {' and '.join(output.forms)}. "
                             "Name a folder with --out.")  # fmt: skip
        is_printed_json = form == "json" and output.out is None
        if num_files > 1 and form not in ("rttm", TABLE) and not is_printed_json:
            raise InputError(f"{where}: {form} holds one recording, not {num_files}. Name a folder "
                             "with --out.")  # fmt: skip
        return output

    def take(self, path: Path, turns: Turns) -> None:
        """Write or print the turns of a recording, or keep them for the one file of all.

        Raises:
            InputError: names that the form cannot hold, or a path that cannot be written.
        """
        if self.is_folder:
            assert self.out is not None
            for form in self.forms:
                save_turns(self.out / f"{Path(called(path)).stem}{FORMS[form].suffix}", turns, form)
            console.print(f"{called(path)}: {describe(turns)}")
        elif self.out is not None:
            self._taken.append(turns)
            notes.print(f"{called(path)}: {describe(turns)}")
        elif self.forms == [TABLE]:
            print_table(path, turns)
        elif self.forms == ["json"]:
            console.print(json.dumps(turns.to_dict(), ensure_ascii=False))
        else:
            sys.stdout.write(FORMS[self.forms[0]].write(turns))
            if not turns.turns:
                notes.print(f"{called(path)}: {describe(turns)}")

    def finish(self) -> None:
        """Write what was kept."""
        if self._taken:
            assert self.out is not None
            save_turns(self.out, self._taken, self.forms[0])


def print_table(path: Path, turns: Turns) -> None:
    """A line for each turn: begin, end, seconds and speaker."""
    console.print(f"{called(path)}: {describe(turns)}")
    for turn in turns.turns:
        begin, end = (clock(each, 2, hours=False) for each in (turn.start, turn.end))
        console.print(f"{begin:>10}  {end:>10}  {turn.seconds:7.2f} s  {turn.speaker}")


def describe(turns: Turns) -> str:
    """Who speaks how long, in one line."""
    if not turns.turns:
        return f"nobody speaks in {turns.seconds:.1f} s"
    said = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in turns.speakers.items())
    return f"{counted(len(turns), 'turn')} in {turns.seconds:.1f} s: {said}"


def _check_names(files: list[Path]) -> None:
    """Refuse two recordings whose turns would be written into one file.

    Raises:
        InputError: names them.
    """
    by_stem: dict[str, list[str]] = {}
    for path in files:
        by_stem.setdefault(Path(called(path)).stem, []).append(called(path))
    for stem, paths in by_stem.items():
        if len(paths) > 1:
            raise InputError(
                f"{first_few(paths)}: all would be {stem} in --out. Give each a folder of its own."
            )
