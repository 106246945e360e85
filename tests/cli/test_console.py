"""Progress is drawn on terminals alone, and not before there is any."""

import io
import logging

import pytest
from rich.console import Console

from speakervlad.cli.console import progress_bar, set_up_logging, training_line
from speakervlad.errors import InputError


@pytest.fixture
def drawn(monkeypatch):
    """``drawn(is_terminal)``: what goes to stderr from now on."""

    def make(is_terminal):
        shown = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
        monkeypatch.setattr("speakervlad.cli.console.errors", shown)
        monkeypatch.setattr("speakervlad.cli.console.notes", shown)
        return shown.file

    return make


def test_training_line_shows_step_and_figures(drawn):
    shown = drawn(is_terminal=True)
    with training_line() as show:
        show(3, 8, "loss 1.5")
    assert "3/8  loss 1.5" in shown.getvalue()
    assert "0/" not in shown.getvalue()


def test_an_error_before_the_first_step_stands_alone(drawn):
    shown = drawn(is_terminal=True)
    with pytest.raises(InputError), training_line():
        raise InputError("no manifest")
    assert shown.getvalue() == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_nothing_is_drawn_by_processes_that_are_not_the_first(drawn, is_terminal):
    shown = drawn(is_terminal)
    with training_line(enabled=False) as show:
        show(3, 8, "loss 1.5")
    assert shown.getvalue() == ""


def test_a_log_gets_a_line_of_training_now_and_then(drawn, monkeypatch):
    shown, now = drawn(is_terminal=False), 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with training_line() as show:
        for step in range(1, 9):
            show(step, 8, f"loss {9 - step}.5")
            now += 7
    steps = [line.split()[1] for line in shown.getvalue().splitlines()]
    assert steps == ["1/8", "6/8", "8/8"]
    assert shown.getvalue().startswith("training  1/8  loss 8.5\n")


def test_bars_are_drawn_on_terminals_alone(drawn):
    for is_terminal in (True, False):
        shown = drawn(is_terminal)
        assert list(progress_bar(range(2), "counting", 2)) == [0, 1]
        assert ("2/2" in shown.getvalue()) is is_terminal


def test_a_loop_within_a_bar_draws_none(drawn):
    shown = drawn(is_terminal=True)
    for _ in progress_bar(range(2), "outside", 2):
        assert list(progress_bar(range(2), "inside", 2)) == [0, 1]
    assert "outside" in shown.getvalue()
    assert "inside" not in shown.getvalue()
    assert list(progress_bar(range(2), "afterwards", 2)) == [0, 1]
    assert "afterwards" in shown.getvalue()


def test_a_message_is_one_line_in_a_log(capsys):
    set_up_logging()
    words = "a long message " * 20
    logging.getLogger("speakervlad.some.part").warning("%s", words)
    assert capsys.readouterr().err == f"WARNING  {words}\n"


def test_a_message_is_folded_on_a_terminal(drawn):
    shown = drawn(is_terminal=True)
    set_up_logging()
    logging.getLogger("speakervlad.some.part").info("%s", "a long message " * 20)
    assert "INFO" in shown.getvalue()
    assert shown.getvalue().count("\n") > 1
