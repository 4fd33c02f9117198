"""The page's server: routes, and the life of the application.

What takes models or long is answered as a stream of JSON lines, its events: {"type": "waiting",
"ahead": 2}, then "working", then what comes, and "done" or "error" at the end. A person who leaves
closes the stream, which ends the work.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from viq.app import edit, pictures
from viq.app.guard import Guard
from viq.app.limits import Limits, RefusedError, megabytes
from viq.app.models import Checkpoint
from viq.app.pictures import Picture
from viq.app.sessions import Session, Sessions, give_back
from viq.app.work import Event, Job, Work
from viq.codes import Codes
from viq.version import __version__

T = TypeVar("T")
STATIC = files("viq") / "app" / "static"
TOKEN = "x-viq-session"
MAX_JSON = 10_000  # bytes
DRAIN_SECONDS = 10  # for what is too large to end, so that the browser reads the answer
SWEEP_SECONDS = 10


class Events(StreamingResponse):
    """A job's events as JSON lines; gives its place up however the stream ends."""

    def __init__(self, work: Work, job: Job, events: AsyncIterator[Event]) -> None:
        lines = (json.dumps(event, allow_nan=False) + "\n" async for event in events)
        super().__init__(lines, media_type="application/x-ndjson")
        self._work, self._job = work, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.leave(self._job)


@dataclass(eq=False)
class App:
    """What the routes share."""

    checkpoints: list[Checkpoint]
    limits: Limits
    sessions: Sessions
    work: Work

    # The page.

    async def page(self, _: Request) -> Response:
        return FileResponse(str(STATIC / "index.html"))

    async def sample(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in pictures.samples():
            raise RefusedError(404, "There is no such sample.")
        return FileResponse(str(pictures.SAMPLES / name))

    # Sessions.

    async def open_session(self, _: Request) -> Response:
        session = self.sessions.new()
        limits = self.limits
        about = {
            "session": session.token,
            "version": __version__,
            "models": [one.view() for one in self.checkpoints],
            "samples": pictures.samples(),
            "limits": {
                "bytes": limits.max_bytes,
                "pixels": limits.max_pixels,
                "question": limits.max_question,
            },
        }
        return JSONResponse(about, 201)

    async def close_session(self, request: Request) -> Response:
        self.sessions.forget(request.headers.get(TOKEN, ""))
        return Response(status_code=204)

    # Pictures.

    async def upload(self, request: Request) -> Response:
        session, checkpoint = self._session(request), self._checkpoint(request)
        job = self.work.enter(session.token)
        try:
            data = await _body(request, self.limits.max_bytes, self.limits.upload_seconds)
            name = request.query_params.get("name", "")
            upload = await run_in_threadpool(pictures.open_upload, data, name, self.limits)
        except BaseException:
            self.work.leave(job)
            raise
        order = [checkpoint, *(one for one in self.checkpoints if one is not checkpoint)]
        return self._new(session, job, lambda: pictures.encode(job, upload, order, self.limits))

    async def take_sample(self, request: Request) -> Response:
        session, checkpoint = self._session(request), self._checkpoint(request)
        upload = pictures.open_sample(request.path_params["name"], self.limits)
        job = self.work.enter(session.token)
        return self._new(
            session, job, lambda: pictures.encode(job, upload, [checkpoint], self.limits)
        )

    async def recode(self, request: Request) -> Response:
        session, checkpoint = self._session(request), self._checkpoint(request)
        source = session.picture(request.path_params["number"]).source
        if source.png is None:
            raise RefusedError(
                400, "These codes came without a picture; only their own model has them."
            )
        job = self.work.enter(session.token)
        return self._new(session, job, lambda: pictures.recode(job, source, checkpoint))

    async def change(self, request: Request) -> Response:
        session = self._session(request)
        picture = session.picture(request.path_params["number"])
        codes = _edited(session, picture, await _json(request))
        job = self.work.enter(session.token)
        return self._new(
            session, job, lambda: pictures.show(job, picture.source, picture.checkpoint, codes)
        )

    async def file(self, request: Request) -> Response:
        picture = self._session(request).picture(request.path_params["number"])
        match request.path_params["file"]:
            case "decoded.png":
                return Response(picture.png, media_type="image/png")
            case "original.png" if picture.source.png is not None:
                return Response(picture.source.png, media_type="image/png")
            case "codes.viq":
                return Response(picture.codes.to_bytes(), media_type="application/octet-stream")
        raise RefusedError(404, "There is no such file.")

    async def compare(self, request: Request) -> Response:
        session = self._session(request)
        picture = session.picture(request.path_params["number"])
        job = self.work.enter(session.token)
        return self._events(job, lambda: pictures.compare(job, picture))

    async def ask(self, request: Request) -> Response:
        session = self._session(request)
        picture = session.picture(request.path_params["number"])
        question = (await _json(request)).get("question")
        if not isinstance(question, str) or not question.strip():
            raise RefusedError(400, "Write a question first.")
        if len(question) > self.limits.max_question:
            raise RefusedError(
                400, f"The question is too long; {self.limits.max_question:,} characters are read."
            )
        if picture.checkpoint.why_not is not None:
            raise RefusedError(400, picture.checkpoint.why_not)
        job = self.work.enter(session.token)

        def do() -> None:
            from viq.app.answers import answer  # which needs the extra `ask`

            answer(job, picture, question, self.limits)

        return self._events(job, do)

    # Inside.

    def _session(self, request: Request) -> Session:
        return self.sessions.find(request.headers.get(TOKEN, ""))

    def _checkpoint(self, request: Request) -> Checkpoint:
        name = request.query_params.get("model", self.checkpoints[0].name)
        for checkpoint in self.checkpoints:
            if checkpoint.name == name:
                return checkpoint
        raise RefusedError(404, "There is no such model on this page.")

    def _new(self, session: Session, job: Job, do: Callable[[], Picture]) -> Events:
        """Events of work that ends with a new picture of the session."""

        def keep(picture: Picture) -> Event:
            self.sessions.keep(session, picture)
            return {"type": "picture"} | picture.view()

        return Events(self.work, job, self.work.run(job, lambda _: do(), keep))

    def _events(self, job: Job, do: Callable[[], None]) -> Events:
        return Events(self.work, job, self.work.run(job, lambda _: do(), lambda _: None))

    async def sweep(self) -> None:
        """Forgets idle sessions, even while nobody comes, and lets memory go."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sessions.sweep()
            give_back()


def create_app(
    checkpoints: list[Checkpoint], limits: Limits | None = None, hosts: Sequence[str] = ()
) -> Starlette:
    """The application, as ASGI servers take it.

    Args:
        checkpoints: to choose from, the first to begin with.
        limits: on uploads and memory.
        hosts: names that the server goes by, besides localhost and addresses.
    """
    limits = limits or Limits()
    work = Work(max_jobs=limits.max_jobs, max_session_jobs=limits.max_session_jobs)
    app = App(checkpoints, limits, Sessions(limits), work)
    one = "/api/pictures/{number}"
    routes = [
        Route("/", app.page),
        Route("/samples/{name}", app.sample),
        Mount("/static", StaticFiles(directory=str(STATIC))),
        Route("/api/session", app.open_session, methods=["POST"]),
        Route("/api/session", app.close_session, methods=["DELETE"]),
        Route("/api/pictures", app.upload, methods=["POST"]),
        Route("/api/samples/{name}", app.take_sample, methods=["POST"]),
        Route(f"{one}/recode", app.recode, methods=["POST"]),
        Route(f"{one}/edit", app.change, methods=["POST"]),
        Route(f"{one}/compare", app.compare, methods=["POST"]),
        Route(f"{one}/ask", app.ask, methods=["POST"]),
        Route(f"{one}/{{file}}", app.file),
    ]

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(app.sweep())
        yield
        sweeping.cancel()
        app.work.close()

    found = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=hosts)],
        exception_handlers={
            RefusedError: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
        },
        lifespan=life,
    )
    found.state.viq = app
    return found


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse({"error": error.message}, error.status)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{error.detail}."}, error.status_code, headers=error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _body(request: Request, limit: int, seconds: float) -> bytes:
    """The body, of which no more than ``limit`` bytes are ever held.

    Raises:
        RefusedError: there are more, or they come too slowly.
    """
    too_large = RefusedError(413, f"This file is too large; at most {megabytes(limit)} are taken.")
    declared = request.headers.get("content-length", "")
    data, chunks = bytearray(), request.stream()
    try:
        async with asyncio.timeout(seconds):
            fits = not declared.isdecimal() or int(declared) <= limit
            while fits and (chunk := await anext(chunks, None)) is not None:
                data += chunk
                fits = len(data) <= limit
    except TimeoutError:
        raise RefusedError(408, f"The upload took more than {seconds:.0f} seconds.") from None
    if fits:
        return bytes(data)
    data.clear()
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass
    except TimeoutError:
        pass
    raise too_large


async def _json(request: Request) -> Mapping[str, Any]:
    """The body as a JSON object.

    Raises:
        RefusedError: it is none.
    """
    data = await _body(request, MAX_JSON, DRAIN_SECONDS)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(400, "The request is not a JSON object.")
    return found


def _edited(session: Session, picture: Picture, wish: Mapping[str, Any]) -> Codes:
    """The codes of a picture after an edit.

    Raises:
        RefusedError: the wish is not understood, or cannot be met.
    """
    codes = picture.codes
    try:
        top, left, height, width = map(int, wish["region"])
        place = edit.Place(top, left, height, width, heads=tuple(map(int, wish["heads"])))
        place.check(codes)
        match wish["operation"]:
            case "fill":
                return edit.fill(codes, place, [int(value) for value in wish["values"]])
            case "copy":
                row, column = map(int, wish["patch"])
                return edit.copy(codes, place, (row, column))
            case "mask":
                return edit.mask(codes, place)
            case "random":
                return edit.scramble(codes, place, abs(int(wish["seed"])))
            case "mix":
                other = session.picture(str(wish["other"]))
                return edit.mix(codes, place, other.codes, float(wish["share"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise RefusedError(400, "This edit is not understood.")
