"""The command that shows the page: ``serve``."""

import logging
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
from speakervlad.progress import tracked_by

logger = logging.getLogger(__name__)


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8765,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback are reached by others.")
    ] = "127.0.0.1",
    store: StoreOption = None,
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

    for module in ("starlette", "uvicorn", "python_multipart", "scipy", "sklearn"):
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
    from speakervlad.people.people import encoder_for

    encoder = encoder_for(store, encoder)
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    with tracked_by(None):
        answer(Desk(embedder, store), host, port, lambda address: console.print(address))
