"""A review page that tests open: a real server in a thread, asked over real connections."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from cellcount.analysis.stored_results import stored_results
from cellcount.store.edits import new_id

if TYPE_CHECKING:
    from cellcount.review.page.classifier_job import Adapter

Json: TypeAlias = Any
"""Whatever JSON holds; tests look into it."""


@dataclass
class Page:
    """One browser of one person, without a browser."""

    port: int
    token: str
    bench: Any
    cookie: str = ""
    person: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.url}/?token={self.token}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask as this browser would; a header that is None is left out."""
        given: dict[str, str | None] = {"Cookie": self.cookie or None}
        if method == "POST":
            given |= {"Origin": self.url, "Content-Type": "application/json"}
        given |= {**self.extra, **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            sent = {name: value for name, value in given.items() if value is not None}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def enter(self, person: str = "A. Smith") -> Page:
        """Another browser that comes with the token, in which somebody signs in."""
        status, headers, _ = self.ask("GET", f"/?token={self.token}", headers={"Cookie": None})
        assert status == 200
        cookie = headers["set-cookie"].partition(";")[0]
        entered = Page(self.port, self.token, self.bench, cookie, person)
        if person:
            assert entered.post("/api/sign-in", name=person)[0] == 200
        return entered

    def get(self, path: str) -> Json:
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, **said: Json) -> tuple[int, Json]:
        status, _, body = self.ask("POST", path, json.dumps(said).encode())
        return status, json.loads(body)

    def rows(self, slide: int = 0) -> list[dict[str, Any]]:
        found = self.get(f"/api/slides/{slide}/cells")
        return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]

    def edit(self, *edits: dict[str, Any], slide: int = 0, batch: str = "") -> tuple[int, Any]:
        return self.post(f"/api/slides/{slide}/edits", batch=batch or new_id(), edits=list(edits))

    def undo(self, slide: int = 0, *, redo: bool = False) -> tuple[int, Any]:
        return self.post(f"/api/slides/{slide}/undo", batch=new_id(), redo=redo)


def of(row: Mapping[str, Any], kind: str, **facts: object) -> dict[str, Any]:
    """An edit of the cell of a row."""
    return {
        "kind": kind,
        "image": row["image"],
        "cell": row["id"],
        "version": row["version"],
        **facts,
    }


@contextmanager
def open_page(
    results: Path, *, read_only: bool = False, public: str = "", adapter: Adapter | None = None
) -> Iterator[Page]:
    """The page of a run, served as the command serves it."""
    pytest.importorskip("starlette", reason="the extra review is not installed")
    uvicorn = pytest.importorskip("uvicorn", reason="the extra review is not installed")
    from cellcount.review.page.gate import Address, Sessions
    from cellcount.review.page.server import page_app, uvicorn_config
    from cellcount.review.page.workbench import Workbench

    with (
        stored_results(results, work="cellcount review open") as stored,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        bench = Workbench(stored, read_only=read_only, adapter=adapter)
        port = listening.getsockname()[1]
        sessions = Sessions()
        address = Address.behind(port, public) if public else Address(port)
        server = uvicorn.Server(uvicorn_config(page_app(bench, address, sessions)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Page(port, sessions.token, bench)
        finally:
            server.should_exit = True
            thread.join(20)
            bench.classifier.end()
