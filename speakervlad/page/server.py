"""The server of the page: a socket, and connections that nobody can hold without a request."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from speakervlad.errors import InputError
from speakervlad.page.answers import Desk, hears_live
from speakervlad.page.app import build_app
from speakervlad.page.guard import MAX_MESSAGE_BYTES, is_loopback

MAX_CONNECTIONS = 200
# Connections that wait for a request; with one more, the one that has waited longest is closed.
MAX_WAITING = 100
# For the lines and headers of a request, from the connection or from the answer before it; and for
# the rest of a body that was refused before it was read.
HEADER_SECONDS, REFUSED_BODY_SECONDS = 10.0, 60.0
# From Ctrl-C until those are hung up on whose request has not come whole, or not been answered.
LAST_SECONDS = 5.0


class Connection(H11Protocol):
    """A connection that is closed where no whole request comes in time, however slowly it comes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as uvicorn makes it
        super().__init__(*args, **kwargs)
        self.waits_since = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(HEADER_SECONDS)
        waiting = [each for each in self.connections if isinstance(each, Connection) and each.waits]
        if len(waiting) > MAX_WAITING:
            min(waiting, key=lambda each: each.waits_since).close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.waits:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.waits:  # the next request was there already
            return
        is_refused = self.conn.their_state is h11.SEND_BODY
        self._wait(REFUSED_BODY_SECONDS if is_refused else HEADER_SECONDS)

    def close(self) -> None:
        """Close it at once, and count it no longer."""
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self.waits_since = self.loop.time()
        self._timer = self.loop.call_later(seconds, self.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Ending(uvicorn.Server):
    """Ends at Ctrl-C though somebody's upload stands still, or takes hours to be answered."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(LAST_SECONDS, self._hang_up)
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        for each in list(self.server_state.connections):
            each.transport.abort()  # pyright: ignore[reportOptionalMemberAccess]


class Server:
    """Listens from the start, so that whoever has its address is answered once it runs.

    Args:
        desk: what the answers are made of.
        host: address to listen on.
        port: 0 for any that is free.
        token: what requests must carry; a new one by default.

    Attributes:
        address: of the page, with its token.

    Raises:
        InputError: nothing can listen there.
    """

    def __init__(self, desk: Desk, host: str, port: int, token: str | None = None) -> None:
        token = token or secrets.token_urlsafe(24)
        self._listener = listen(host, port)
        name = f"[{host}]" if ":" in host else host
        self.address = f"http://{name}:{self._listener.getsockname()[1]}/#token={token}"
        config = uvicorn.Config(
            build_app(desk, token, is_local=is_loopback(host)),
            http=Connection,
            ws="wsproto" if hears_live() else "none",
            ws_max_size=MAX_MESSAGE_BYTES,
            # A pong comes behind the sound that waits while this machine is busy, and uvicorn would
            # take the client for gone; who sends nothing is let go by the route.
            ws_ping_interval=None,
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
        )
        self._server = _Ending(config)

    def run(self) -> None:
        """Answer until Ctrl-C or ``stop``."""
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """End ``run`` in another thread."""
        self._server.should_exit = True


def serve(
    desk: Desk, host: str, port: int, show: Callable[[str], None], token: str | None = None
) -> None:
    """Answer until Ctrl-C.

    Args:
        desk: what the answers are made of.
        host: address to listen on.
        port: 0 for any that is free.
        show: takes the address of the page, with its token, when the socket listens.
        token: what requests must carry; a new one by default.

    Raises:
        InputError: nothing can listen there.
    """
    server = Server(desk, host, port, token)
    show(server.address)
    server.run()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: no such address, or its port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise InputError(
            f"{host}:{port}: cannot listen there ({error.strerror or error}). "
            "Choose another --port or --host."
        ) from error
    return listener
