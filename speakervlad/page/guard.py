"""What every request passes before anything reads it: names, token, size, number."""

import hmac
import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Three hours of 16-bit mono at 16 kHz are 346 MB.
MAX_BODY_BYTES = 512_000_000
# Requests with a body that are received or computed at once; the next one is told to wait.
MAX_BODIES = 8
API = "/api/"
# Microphones that are listened to at once, and bytes of what they send at a time.
MAX_LIVE, MAX_MESSAGE_BYTES = 8, 1 << 16

ANSWER_HEADERS = {
    # The page itself brings a policy of its own.
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


@dataclass
class Guard:
    """Refuses what does not come from the page that this server gave to its own user.

    Attributes:
        app: what answers the rest.
        token: what every request to the API carries as ``Authorization: Bearer``.
        is_local: whether the server listens on loopback only; then it has loopback names only.
        max_body_bytes: of a request.
    """

    app: ASGIApp
    token: str
    is_local: bool = True
    max_body_bytes: int = MAX_BODY_BYTES
    _num_bodies: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":  # starting and stopping
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        else:
            self._num_bodies += 1
            try:
                await self.app(scope, self._counted(receive), send)
            finally:
                self._num_bodies -= 1

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket of the own page: its token comes in its first message, not in an address."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin")
        if is_own_name(host, self.is_local) and origin is not None and _netloc(origin) == host:
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})  # which is answered by 403

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not is_own_name(host, self.is_local):
            # Another site whose name was pointed at this machine (DNS rebinding).
            return refuse(421, f"this server is not called {host[:80]!r}. Use the printed address.")
        if is_foreign(headers, host):
            return refuse(403, "this request comes from another page.")
        if not scope["path"].startswith(API):
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return refuse(401, "the token is missing or wrong. Open the printed address.")
        return self._overload(scope["method"], headers)

    def _overload(self, method: str, headers: Headers) -> JSONResponse | None:
        claimed = headers.get("content-length", "0")
        if not claimed.isdecimal() or int(claimed) > self.max_body_bytes:
            return refuse(413, self._too_large())
        if method not in ("GET", "HEAD") and self._num_bodies >= MAX_BODIES:
            answer = refuse(503, "busy with other recordings. Try again in a moment.")
            answer.headers["retry-after"] = "2"
            return answer
        return None

    def _counted(self, receive: Receive) -> Receive:
        """The body, until it is longer than allowed, whatever its header claims."""
        num_bytes = 0

        async def receive_some() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_body_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return receive_some

    def _too_large(self) -> str:
        return f"more than {self.max_body_bytes // 1_000_000} MB. Send a shorter recording."


def refuse(status: int, reason: str) -> JSONResponse:
    """An answer of one line, as the page shows it."""
    return JSONResponse({"error": reason}, status)


def is_own_name(host: str, is_local: bool) -> bool:
    """Whether a Host header names this server.

    A browser that was led here by a foreign name sends that name; a literal address it cannot be
    led by. Off loopback the machine's own name is valid too.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        own = {"localhost"} if is_local else {"localhost", socket.gethostname().lower()}
        return name in own
    return address.is_loopback or not is_local


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_foreign(headers: Headers, host: str) -> bool:
    """Whether a browser says that another site makes this request.

    Requests that open the page itself (a link, an address typed) are not foreign.
    """
    origin = headers.get("origin")
    if origin is not None:
        return _netloc(origin) != host
    is_visit = headers.get("sec-fetch-mode") == "navigate"
    return not is_visit and headers.get("sec-fetch-site") in ("cross-site", "same-site")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in ANSWER_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_guarded
