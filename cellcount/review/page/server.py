"""The page's server: Starlette and uvicorn on 127.0.0.1, everything it sends held in memory."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from cellcount.analysis.stored_results import stored_results
from cellcount.errors import UsageError
from cellcount.review.page.classifier_job import Adapter
from cellcount.review.page.gate import Address, App, Gate, Sessions
from cellcount.review.page.workbench import Workbench

if TYPE_CHECKING:
    import uvicorn

_PACKAGE = "cellcount.review.page"


def page_app(bench: Workbench, address: Address, sessions: Sessions) -> App:
    """The application: the gate, and behind it pages, pictures and answers in JSON.

    Args:
        bench: the run.
        address: by which it is asked.
        sessions: of browsers that came with the token.

    Raises:
        UsageError: the packages of the extra ``review`` are not installed.
    """
    _check_installed()
    from starlette.applications import Starlette

    from cellcount.review.page.api_routes import Api
    from cellcount.review.page.page_routes import ReviewPages

    routes = [*Api(bench).routes(), *ReviewPages(bench, page_texts()).routes()]
    return Gate(Starlette(routes=routes), address, sessions)


def page_texts() -> dict[str, str]:
    """Texts of the page by name; another language needs another such file."""
    text = resources.files(_PACKAGE).joinpath("static", "texts.en.json").read_text("utf-8")
    texts: dict[str, str] = json.loads(text)
    return texts


def serve(
    results: Path,
    *,
    port: int,
    read_only: bool,
    public: str,
    ready: Callable[[str], None],
    adapter: Adapter | None = None,
) -> list[str]:
    """Serve the page of a run until it is interrupted, then write its outputs.

    Args:
        results: counts.csv of a run, or what else `stored_results` knows.
        port: on 127.0.0.1, 0 for any that is free.
        read_only: nothing may be changed.
        public: origin of a proxy before it, "" for none.
        ready: is told the address once the server listens.
        adapter: makes a classifier of the reviewed cells; None where the page offers none.

    Returns:
        Names of the outputs that were written at the end; none where they were up to date.

    Raises:
        UsageError: the run cannot be opened, or the port is taken.
        JournalError: the run is still going on, or its journal is damaged.
    """
    _check_installed()
    with stored_results(results, work="cellcount review open") as stored:
        bench = Workbench(stored, read_only=read_only, adapter=adapter)
        listening = _listening(port)
        with listening:
            own = int(listening.getsockname()[1])
            address = Address.behind(own, public) if public else Address(own)
            sessions = Sessions()
            app = page_app(bench, address, sessions)
            ready(f"{address.url}/?token={sessions.token}")
            try:
                _run(app, listening)
            finally:
                bench.classifier.end()
        if read_only or not bench.is_behind():
            return []
        return [str(path) for path in bench.write_outputs().written]


def _run(app: App, listening: socket.socket) -> None:
    import uvicorn

    try:
        uvicorn.Server(uvicorn_config(app)).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises it again once everything is closed
        return


def uvicorn_config(app: App) -> uvicorn.Config:
    """Configure the server: HTTP alone, no trace of the server's make, no proxy believed."""
    import uvicorn

    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        timeout_graceful_shutdown=3,
    )


def _listening(port: int) -> socket.socket:
    """A socket on this machine alone."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.bind(("127.0.0.1", port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise UsageError(
            f"port {port} cannot be used ({error.strerror or error}); name another with --port, or "
            "leave it out for any that is free"
        ) from None
    return found


def _check_installed() -> None:
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise UsageError(
            f"the review page needs the package {error.name}, which is not installed; run "
            "pip install 'cellcount[review]'"
        ) from None
    del starlette, uvicorn
