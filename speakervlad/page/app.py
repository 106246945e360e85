"""The routes of the page: each reads a form, asks for one answer, sends it."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from speakervlad import __version__
from speakervlad.errors import InputError
from speakervlad.page import answers, enrolment
from speakervlad.page.answers import Desk
from speakervlad.page.conversation import Conversations, exported
from speakervlad.page.document import document
from speakervlad.page.guard import API, Guard, refuse
from speakervlad.page.live import Live
from speakervlad.page.trial import example
from speakervlad.page.uploads import Form, received
from speakervlad.page.work import Threads
from speakervlad.people.doubts import DoubtfulError

logger = logging.getLogger(__name__)

# More would only slow each other down. A long conversation does not keep short answers waiting.
COMPUTED_AT_ONCE, CONVERSATIONS_AT_ONCE = 2, 1
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
        Route("/health", _health),
        *(Route(API + name, _getting(work, partial(of, desk))) for name, of in gets.items()),
        *(
            Route(API + name, _posting(work, *answer), methods=["POST"])
            for name, answer in posts.items()
        ),
        Route(f"{API}conversation", conversations, methods=["POST"]),
        Route(API + "examples/{name}", _example(desk, work)),
        WebSocketRoute(f"{API}live", Live(desk, token, Threads(COMPUTED_AT_ONCE)).__call__),
    ]
    handlers = {
        DoubtfulError: _doubtful,
        InputError: _input_error,
        HTTPException: _http_error,
        ClientDisconnect: _gone,
        Exception: _failure,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, is_local)


async def _health(_: Request) -> Response:
    """For whoever watches over the server, without a token: that it answers, and its version."""
    return JSONResponse({"status": "ok", "version": __version__})


def _example(desk: Desk, work: Threads) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        return await work(partial(example, desk, request.path_params["name"]))

    return endpoint


def _getting(work: Threads, answer: Callable[[], Any]) -> Callable[[Request], Any]:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(await work(answer))

    return endpoint


def _posting(
    work: Threads, answer: Answer, response: Callable[[Any], Response]
) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        async with received(request) as form:
            request.state.form = form
            return response(await work(partial(answer, form)))

    return endpoint


async def _input_error(request: Request, error: Exception) -> Response:
    return refuse(422, _shown(request, error))


async def _doubtful(request: Request, error: Exception) -> Response:
    """What was not enrolled, and why, for the question whether to do it all the same."""
    assert isinstance(error, DoubtfulError)
    form: Form = request.state.form
    doubts = [form.renamed(str(each)) for each in error.doubts]
    return JSONResponse({"error": _shown(request, error), "doubts": doubts}, 422)


def _shown(request: Request, error: object) -> str:
    form: Form | None = getattr(request.state, "form", None)
    return " ".join(str(error).split()) if form is None else form.shown(error)


async def _gone(_: Request, error: Exception) -> Response:
    """An answer that nobody receives: whoever asked hung up while sending."""
    return Response(status_code=400)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, error.detail)


async def _failure(_: Request, error: Exception) -> Response:
    return refuse(500, f"the server failed ({type(error).__name__}); its terminal says where.")
