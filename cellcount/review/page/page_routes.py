"""Pages, modules and pictures of the page's server, looked up by ids and never by path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cellcount import __version__
from cellcount.review.page.gate import Session
from cellcount.review.page.messages import RefusedError
from cellcount.review.page.workbench import Workbench

_PACKAGE = "cellcount.review.page"
_VIEWS = ("cells", "field", "second", "agreement")
_MEDIA = {
    "js": "text/javascript",
    "css": "text/css",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_NO_STORE = {"cache-control": "no-store"}
_KEPT = {"cache-control": "private, max-age=3600"}


class ReviewPages:
    """Routes of the pages and pictures.

    Args:
        bench: the run.
        texts: of the page, by name.
    """

    def __init__(self, bench: Workbench, texts: Mapping[str, str]) -> None:
        self._bench, self._texts = bench, texts
        self._static = {
            one.name: (one.read_bytes(), _MEDIA[one.name.rpartition(".")[2]])
            for one in resources.files(_PACKAGE).joinpath("static").iterdir()
            if one.name.rpartition(".")[2] in _MEDIA
        }
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader(_PACKAGE, "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def routes(self) -> list[Route]:
        """Addresses and what answers them."""
        return [
            Route("/", self._slides, methods=["GET"]),
            Route("/classifier", self._classifier, methods=["GET"]),
            Route("/slides/{slide:int}/{view:str}", self._view, methods=["GET"]),
            Route("/static/{name:str}", self._file, methods=["GET"]),
            Route("/favicon.ico", self._icon, methods=["GET"]),
            Route("/crops/{image:int}/{cell:str}", self._crop, methods=["GET"]),
            Route(
                "/tiles/{image:int}/{level:int}/{column:int}/{row:int}",
                self._tile,
                methods=["GET"],
            ),
        ]

    async def _slides(self, request: Request) -> Response:
        return self._page(request, "slides", None)

    async def _classifier(self, request: Request) -> Response:
        if not self._bench.classifier.is_offered:
            return Response("There is no such page.", 404, _NO_STORE, "text/plain")
        return self._page(request, "classifier", None)

    async def _view(self, request: Request) -> Response:
        view, slide = str(request.path_params["view"]), int(request.path_params["slide"])
        if view not in _VIEWS or slide >= len(self._bench.slides):
            return Response("There is no such page.", 404, _NO_STORE, "text/plain")
        return self._page(request, view, slide)

    def _page(self, request: Request, view: str, slide: int | None) -> Response:
        session: Session = request.scope["session_of_page"]
        signed_in = bool(session.person) or self._bench.read_only
        shown = view if signed_in else "sign_in"
        values: dict[str, Any] = {
            "t": self._texts,
            "version": __version__,
            "view": shown,
            "slide": slide,
            "title": "" if slide is None else self._bench.slides[slide].title,
            "person": session.person,
            "read_only": self._bench.read_only,
            "offers_classifier": self._bench.classifier.is_offered,
        }
        text = self._templates.get_template(f"{shown}.html").render(values)
        content = text.encode("utf-8", "backslashreplace")
        return Response(content, 200, _NO_STORE, "text/html; charset=utf-8")

    async def _file(self, request: Request) -> Response:
        found = self._static.get(str(request.path_params["name"]))
        if found is None:
            return Response("There is no such file.", 404, _NO_STORE, "text/plain")
        return Response(found[0], 200, _NO_STORE, found[1])

    async def _icon(self, request: Request) -> Response:
        del request
        return Response(self._static["icon.svg"][0], 200, _KEPT, self._static["icon.svg"][1])

    async def _crop(self, request: Request) -> Response:
        image, cell = int(request.path_params["image"]), str(request.path_params["cell"])
        return await run_in_threadpool(self._cut, image, cell)

    def _cut(self, image: int, cell: str) -> Response:
        try:
            with self._bench.lock:
                place = self._bench.place_of(image, cell)
                box = self._bench.kept(image).result.cells.detections.boxes_xyxy[place].tolist()
        except RefusedError as error:
            return Response(str(error), error.status, _NO_STORE, "text/plain")
        jpeg = self._bench.pixels.crop(image, box)
        if jpeg is None:
            return Response("The image is gone or has changed.", 404, _NO_STORE, "text/plain")
        return Response(jpeg, 200, _KEPT, "image/jpeg")

    async def _tile(self, request: Request) -> Response:
        return await run_in_threadpool(self._tiled, request)

    def _tiled(self, request: Request) -> Response:
        image, level, column, row = (
            int(request.path_params[name]) for name in ("image", "level", "column", "row")
        )
        try:
            with self._bench.lock:
                self._bench.slide_of_image(image)
                self._bench.size_of(image)
        except RefusedError as error:
            return Response(str(error), error.status, _NO_STORE, "text/plain")
        tile = self._bench.pixels.tile(image, level, column, row)
        if tile is None:
            return Response("There is no such tile.", 404, _NO_STORE, "text/plain")
        if tile == "later":
            return Response("It is being made.", 503, {**_NO_STORE, "retry-after": "1"})
        return Response(tile, 200, _KEPT, "image/jpeg")
