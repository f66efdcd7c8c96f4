"""The web side: routes over the explorer, in FastAPI."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool

from htcl.errors import HTCLError
from htcl.explore.explorer import EMPTY, MOST_HITS, MOST_WORDS, Answer, Explorer, Hit, Question
from htcl.explore.guard import UPLOAD, Guard
from htcl.explore.refusal import Refusal
from htcl.explore.songs import Song
from htcl.logs import get_logger, log_error
from htcl.web import web_file

MOST_BYTES = 50_000_000
"""Of an uploaded file."""
TOO_LARGE = f"This file is larger than {MOST_BYTES // 1_000_000} MB; the models hear two minutes at most, so cut it."
TAGS = 200
"""As many are offered when somebody types one."""

_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_SHARED = ("look.css", "map.css", "map.js")


@dataclass(frozen=True)
class Page:
    """What the page says of the set: its name, the key of its model, when it was published, queries to try."""

    name: str
    model: str
    since: str
    examples: Sequence[str]
    colours: Mapping[str, int]


def create_app(explorer: Explorer, page: Page, hosts: Sequence[str]) -> FastAPI:
    """The application.

    Args:
        explorer: that answers.
        page: what the page says of the set.
        hosts: names by which browsers may call this server, from `htcl.explore.guard.allowed_hosts`.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, hosts=hosts)
    app.add_exception_handler(HTCLError, _sentence)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    _add_files(app, explorer, page)
    _add_audio(app, explorer)

    @app.post("/api/search")
    def search(question: Question) -> Answer:
        return explorer.answer(question)

    @app.get("/api/suggest")
    def suggest(text: str = "") -> Sequence[Song]:
        return explorer.suggest(text)

    @app.get("/api/song/{track_id:path}")
    def song(track_id: str) -> Hit:
        return explorer.hit(track_id)

    @app.get("/api/map")
    def draw_map(response: Response) -> dict[str, Any] | None:
        told = explorer.chart.told()
        response.status_code = 202 if told is None else 200
        return told

    return app


def _add_files(app: FastAPI, explorer: Explorer, page: Page) -> None:
    """The page itself, its styles and its scripts."""
    files = _static_files()
    shown = _render(explorer, page)

    @app.api_route("/", methods=["GET", "HEAD"], response_class=HTMLResponse)
    def index() -> str:
        return shown

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise Refusal(f"There is no file {name} here.", 404)
        return Response(files[name], media_type=_TYPES[name.rpartition(".")[2]])


def _add_audio(app: FastAPI, explorer: Explorer) -> None:
    """Songs to listen to, and files to listen for."""

    @app.api_route("/audio/{track_id:path}", methods=["GET", "HEAD"])
    def audio(track_id: str) -> Response:
        path, media_type = explorer.shelf.file(explorer.songs.audio_path(explorer.songs.row(track_id)))
        return FileResponse(path, media_type=media_type)

    @app.post(UPLOAD)
    async def sound(request: Request) -> dict[str, Any]:
        """Hear an uploaded file, the body as it is; the answer's `sound` is what searches name it by."""
        if int(request.headers.get("content-length", "0")) > MOST_BYTES:
            raise Refusal(TOO_LARGE, 413)
        with tempfile.NamedTemporaryFile(prefix="htcl-") as file:
            size = 0
            async for block in request.stream():
                size += len(block)
                if size > MOST_BYTES:
                    raise Refusal(TOO_LARGE, 413)
                file.write(block)
            file.flush()
            key, heard = await run_in_threadpool(explorer.hear, file.name)
        return {"sound": key, "seconds": heard.seconds, "cut": heard.cut}


def _static_files() -> dict[str, str]:
    own = [file for file in (resources.files("htcl.explore") / "static").iterdir() if file.is_file()]
    return {file.name: file.read_text(encoding="utf-8") for file in own} | {name: web_file(name) for name in _SHARED}


def _render(explorer: Explorer, page: Page) -> str:
    environment = Environment(
        loader=PackageLoader("htcl.explore", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    songs = explorer.songs
    everything = explorer.answer(Question(kind="browse"))
    facts = {
        "songs": len(songs),
        "colours": page.colours,
        "mostBytes": MOST_BYTES,
        "tooLarge": TOO_LARGE,
        "empty": EMPTY,
        "mostHits": MOST_HITS,
    }
    return environment.get_template("index.html.j2").render(
        page=page,
        songs=len(songs),
        genres=[(name, count) for name, count in everything.genres.items() if count],
        languages=[(name, count) for name, count in everything.languages.items() if count],
        tags=songs.top_tags(TAGS),
        years=songs.year_range(),
        most_words=MOST_WORDS,
        facts=facts,
    )


def _sentence(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Refusal):
        log_error(get_logger("explore"), str(error), path=request.url.path)
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, Refusal) else 503)


def _misunderstood(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "The server does not understand that; reload the page and try again."}, 422)
