"""The command that shows the page: ``serve``."""

import logging
import re
from typing import Annotated

import typer

from speakervlad.cli.console import console
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    BackendOption,
    DeviceOption,
    EncoderOption,
    PrecisionOption,
)
from speakervlad.cli.people import StoreOption
from speakervlad.errors import InputError
from speakervlad.progress import tracked_by

logger = logging.getLogger(__name__)


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8765,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback are reached by others.")
    ] = "127.0.0.1",
    store: StoreOption = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SPEAKERVLAD_TOKEN",
            show_envvar=True,
            help="Of requests; a new one each time by default. Others on this machine see "
            "arguments of commands: use the variable.",
        ),
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
) -> None:
    """Open a local page to verify, enrol and identify people, see conversations, judge scores.

    It answers on this machine alone, to whoever has the printed address. Ctrl-C ends it.

    Example: speakervlad serve --store people.db
    """
    from speakervlad.extras import require

    for module in ("starlette", "uvicorn", "python_multipart", "scipy"):
        require(module, "serve", "the page")
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.page.answers import Desk
    from speakervlad.page.guard import is_loopback
    from speakervlad.page.server import serve as answer

    if not is_loopback(host):
        logger.warning(
            "%s: other machines reach this server, and what they send and receive is not "
            "encrypted. Whoever has the printed address can use it.",
            host,
        )
    check_token(token)
    from speakervlad.people.people import encoder_for

    encoder = encoder_for(store, encoder)
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    with tracked_by(None):
        answer(Desk(embedder, store), host, port, lambda address: console.print(address), token)


def check_token(token: str | None) -> None:
    """Refuse one that is guessed, or that no address can hold.

    Raises:
        InputError: says so, without it.
    """
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", token):
        raise InputError(
            "--token: 16 to 200 letters, digits, - and _. Make one: "
            "python -c 'import secrets; print(secrets.token_urlsafe(24))'."
        )
