"""The routes of the page: each reads a form, asks for one answer, sends it."""

import logging
import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from speakervlad.errors import InputError
from speakervlad.page import answers, enrolment
from speakervlad.page.answers import Desk
from speakervlad.page.conversation import Conversations, exported
from speakervlad.page.document import document
from speakervlad.page.guard import API, Guard, is_loopback, refuse
from speakervlad.page.uploads import Form, received
from speakervlad.page.work import Threads
from speakervlad.people.doubts import DoubtfulError

logger = logging.getLogger(__name__)

# More would only slow each other down. A long conversation does not keep short answers waiting.
COMPUTED_AT_ONCE, CONVERSATIONS_AT_ONCE = 2, 1
MAX_CONNECTIONS = 200
Answer = Callable[[Form], Any]


def build_app(desk: Desk, token: str, *, is_local: bool = True) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        desk: what the answers are made of.
        token: what requests must carry.
        is_local: whether it listens on loopback only.
    """
    work, page = Threads(COMPUTED_AT_ONCE), document()
    gets = {"about": answers.about, "people": enrolment.people}
    posts: dict[str, tuple[Answer, Callable[[Any], Response]]] = {
        "verify": (partial(answers.verification, desk), JSONResponse),
        "people/add": (partial(enrolment.add, desk), JSONResponse),
        "people/rename": (partial(enrolment.rename, desk), JSONResponse),
        "people/forget": (partial(enrolment.forget, desk), JSONResponse),
        "people/recordings": (partial(enrolment.recordings, desk), JSONResponse),
        "people/recordings/forget": (partial(enrolment.forget_recording, desk), JSONResponse),
        "identify": (partial(enrolment.identify, desk), JSONResponse),
        "turns": (exported, PlainTextResponse),
        "report": (answers.report, JSONResponse),
        "report.html": (answers.kept_report, HTMLResponse),
    }
    conversations = Conversations(desk, Threads(CONVERSATIONS_AT_ONCE))
    routes = [
        Route("/", lambda _: page),
        *(Route(API + name, _getting(work, partial(of, desk))) for name, of in gets.items()),
        *(
            Route(API + name, _posting(work, *answer), methods=["POST"])
            for name, answer in posts.items()
        ),
        Route(f"{API}conversation", conversations, methods=["POST"]),
    ]
    handlers = {
        DoubtfulError: _doubtful,
        InputError: _input_error,
        HTTPException: _http_error,
        Exception: _failure,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, is_local)


def serve(desk: Desk, host: str, port: int, show: Callable[[str], None]) -> None:
    """Answer until Ctrl-C.

    Args:
        desk: what the answers are made of.
        host: address to listen on.
        port: 0 for any that is free.
        show: takes the address of the page, with its token, before the first request.

    Raises:
        InputError: nothing can listen there.
    """
    import uvicorn

    token = secrets.token_urlsafe(24)
    listener = listen(host, port)
    name = f"[{host}]" if ":" in host else host
    app = build_app(desk, token, is_local=is_loopback(host))
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
    )
    show(f"http://{name}:{listener.getsockname()[1]}/#token={token}")
    uvicorn.Server(config).run(sockets=[listener])


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
    except OSError as error:
        listener.close()
        raise InputError(
            f"{host}:{port}: cannot listen there ({error.strerror or error}). "
            "Choose another --port or --host."
        ) from error
    return listener


def _getting(work: Threads, answer: Callable[[], Any]) -> Callable[[Request], Any]:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(await work(answer))

    return endpoint


def _posting(
    work: Threads, answer: Answer, response: Callable[[Any], Response]
) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        async with received(request) as form:
            return response(await work(partial(answer, form)))

    return endpoint


async def _input_error(_: Request, error: Exception) -> Response:
    return refuse(422, " ".join(str(error).split()))


async def _doubtful(_: Request, error: Exception) -> Response:
    """What was not enrolled, and why, for the question whether to do it all the same."""
    assert isinstance(error, DoubtfulError)
    text = " ".join(str(error).split())
    return JSONResponse({"error": text, "doubts": [str(each) for each in error.doubts]}, 422)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, error.detail)


async def _failure(_: Request, error: Exception) -> Response:
    return refuse(500, f"the server failed ({type(error).__name__}); its terminal says where.")
