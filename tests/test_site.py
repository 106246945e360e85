"""The site of the documentation: its generated page is current, API pages and menu are complete."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

import speakervlad

DOCS = Path(__file__).parents[1] / "docs"
PUBLIC = [name for name in dir(speakervlad) if not name.startswith("_")]


@pytest.fixture(scope="module")
def make_commands(load_script):
    return load_script("docs/make_commands.py")


def test_the_page_of_every_command_is_that_of_the_command_line(make_commands):
    message = "run `python docs/make_commands.py`"
    assert make_commands.PAGE.read_text("utf-8") == make_commands.page(), message


def test_the_page_of_every_command_has_options_with_values_and_defaults(make_commands):
    page = make_commands.page()
    for row in ("| `--far FAR` |", "| `--json` |", "| `--channels {mixed,separate}` |"):
        assert row in page
    assert "## people add" in page
    assert "speakervlad trials make [OPTIONS] MANIFEST\n" in page
    assert "Environment: `SPEAKERVLAD_STORE`." in page
    assert "bench-data" not in page


def test_every_public_name_is_on_one_page():
    pages = sorted((DOCS / "reference/api").glob("*.md"))
    named = [re.findall(r"^::: speakervlad\.(\w+)$", page.read_text("utf-8"), re.MULTILINE)
             for page in pages]  # fmt: skip
    assert Counter(name for names in named for name in names) == Counter(PUBLIC)


def test_the_menu_has_every_page():
    menu = yaml.safe_load((DOCS.parent / ".mkdocs.yml").read_text("utf-8"))["nav"]
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(leaves(menu)) == sorted(pages)


def leaves(menu):
    if isinstance(menu, str):
        yield menu
    else:
        for below in menu.values() if isinstance(menu, dict) else menu:
            yield from leaves(below)
