"""The review page killed while people edit: no acknowledged edit is lost, none is there twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from cellcount.store.edits import new_id
from cellcount.store.journal import Journal
from tests.integration.open_page import Json, Page, of, open_page

KILLS = 50


def _serve(results: Path, told: Connection) -> None:
    with open_page(results) as page:
        told.send((page.port, page.token))
        time.sleep(600)


@contextmanager
def killed_page(results: Path) -> Iterator[Page]:
    """A page in a process of its own, which is killed at the end of the block."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(results, there))
    process.start()
    there.close()
    try:
        port, token = here.recv()
        yield Page(port, token, None).enter()
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        here.close()


@pytest.mark.faults
def test_fifty_kills_lose_and_double_nothing(typed_run: Path, tmp_path: Path) -> None:
    shutil.copytree(typed_run, tmp_path / "o")
    results, chance = tmp_path / "o" / "counts.csv", random.Random(17)
    acknowledged: list[str] = []
    waiting: tuple[str, Json] | None = None
    for _ in range(KILLS):
        with killed_page(results) as page:
            end = time.monotonic() + chance.uniform(0.02, 0.5)
            rows = {row["id"]: row for row in page.rows()}
            while time.monotonic() < end or waiting is not None:
                batch, edit = waiting or (new_id(), _any_edit(chance, list(rows.values())))
                if time.monotonic() > end - 0.02:
                    # The answer never comes: the server is killed while it is at work.
                    waiting = (batch, edit)
                    _send_and_leave(page, batch, edit)
                    break
                status, found = page.edit(edit, batch=batch)
                assert status in (200, 409)
                waiting = None
                if status == 200:
                    acknowledged.append(batch)
                rows |= {row[1]: {**rows.get(row[1], {}), **_row(row)} for row in found["rows"]}
    with Journal.reopen(results.with_name("counts.journal.sqlite")) as journal:
        uids = Counter(edit.uid.partition("-")[0] for edit in journal.edits())
    assert len(acknowledged) > KILLS
    assert {batch: uids[batch] for batch in acknowledged} == dict.fromkeys(acknowledged, 1)
    assert max(uids.values()) == 1
    assert set(uids) - set(acknowledged) <= {waiting[0] if waiting else ""}


def _row(row: list[Json]) -> dict[str, Json]:
    return {"image": row[0], "id": row[1], "version": row[16], "model": row[9]}


def _any_edit(chance: random.Random, rows: list[dict[str, Json]]) -> dict[str, Json]:
    """A correction of some kind of some cell."""
    if chance.random() < 0.2:
        return {"kind": "add", "image": 0, "box": [2, 2, 30, 30], "label": "wbc"}
    row = chance.choice(rows)
    if chance.random() < 0.3:
        return of(row, "move", box=[1, 1, 20 + chance.randint(0, 20), 30])
    return of(row, "retype", type=chance.choice(["lymphocyte", "blasts"]))


def _send_and_leave(page: Page, batch: str, edit: dict[str, Json]) -> None:
    """Send an edit and do not wait for the answer."""
    body = json.dumps({"batch": batch, "edits": [edit]}).encode()
    head = (
        f"POST /api/slides/0/edits HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n"
        f"Cookie: {page.cookie}\r\nOrigin: {page.url}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", page.port), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(random.Random(batch).uniform(0, 0.02))
