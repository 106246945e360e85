"""The page as one document: style and code stand inside, and nothing else is asked for."""

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from starlette.responses import HTMLResponse

PAGE = Path(__file__).parent / "assets"
IMPORT = re.compile(r'^import .*? from "\./(.+?)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ", re.MULTILINE)


def document() -> HTMLResponse:
    """``assets/index.html`` with everything that it names, and a policy that lets nothing else run.

    The modules become one in the order of their imports, so no name may be declared twice in them.
    """
    style = (PAGE / "page.css").read_text(encoding="utf-8")
    code = "\n".join(_modules("app.js", set()))
    icon = base64.b64encode((PAGE / "icon.svg").read_bytes()).decode()
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    for name, inlined in (
        ('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>"),
        ('<script type="module" src="app.js"></script>', f'<script type="module">{code}</script>'),
        ("icon.svg", f"data:image/svg+xml;base64,{icon}"),
    ):
        assert name in text
        text = text.replace(name, inlined)
    return HTMLResponse(text, headers={"content-security-policy": _policy(style, code)})


def _modules(name: str, seen: set[str]) -> Iterator[str]:
    """A module behind those that it imports, each once, without imports and exports."""
    if name not in seen:
        seen.add(name)
        text = (PAGE / name).read_text(encoding="utf-8")
        for imported in IMPORT.findall(text):
            yield from _modules(imported, seen)
        yield EXPORT.sub("", IMPORT.sub("", text))


def _policy(style: str, code: str) -> str:
    """The style and the code by their hashes; recordings and the microphone's code as blobs."""
    hashes = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, code)
    )
    of_style, of_code = (f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {of_code} blob:; style-src {of_style}; "
        "connect-src 'self'; img-src data:; media-src blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
