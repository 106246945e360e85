"""Hook of the site: what pages say of files outside ``docs``.

On a page of the site there is nothing beside ``docs``, and no host of the repository is known. A
link to a file of the repository becomes its text and the file's path; a picture is copied. One
that leads nowhere is a warning, which ``mkdocs build --strict`` ends with.
"""

import logging
import os
import re
from pathlib import Path

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

logger = logging.getLogger("mkdocs.hooks.links")

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(((?:\.\./)+[^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links that a reader of the site can use."""
    folder = Path(page.file.abs_src_path or "").parent

    def replaced(link: re.Match[str]) -> str:
        is_picture, text, target = link.groups()
        name, _, anchor = target.partition("#")
        path = Path(os.path.normpath(folder / name))
        if path.is_relative_to(config.docs_dir):
            return link[0]
        shown = path.relative_to(ROOT).as_posix()
        if not path.exists():
            logger.warning("%s: links to %s, which does not exist", page.file.src_uri, shown)
        elif anchor and anchor not in anchors(path):
            logger.warning("%s: %s has no heading #%s", page.file.src_uri, shown, anchor)
        if is_picture:
            return f"![{text}]({copied(path, shown, files, config, page)})"
        return f"{text} (`{shown}`)"

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts)


def anchors(path: Path) -> set[str]:
    """The anchors of a file's headings."""
    return {slugify(heading, "-") for heading in HEADING.findall(path.read_text("utf-8"))}


def copied(path: Path, shown: str, files: Files, config: MkDocsConfig, page: Page) -> str:
    """Where a picture of the repository is in the site, seen from a page."""
    name = f"repository/{shown}"
    if files.get_file_from_path(name) is None:
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return os.path.relpath(name, Path(page.file.src_uri).parent)
