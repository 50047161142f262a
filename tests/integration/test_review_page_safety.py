"""Two hundred hostile requests of ten kinds: each is refused, and nothing is changed by any."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.review.page.gate import Address
from cellcount.store.edits import new_id
from tests.integration.open_page import Page, of, open_page

EACH = 20


@pytest.fixture(scope="module")
def results(typed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "o"
    shutil.copytree(typed_run, folder)
    return folder / "counts.csv"


@pytest.fixture(scope="module")
def page(results: Path) -> Iterator[Page]:
    with open_page(results) as opened:
        yield opened.enter()


@pytest.fixture(autouse=True)
def nothing_is_changed(page: Page) -> Iterator[None]:
    before = page.bench.stored.journal.said()
    yield
    assert page.bench.stored.journal.said() == before
    assert page.get("/api/run")["person"] == page.person, "the page still answers"


def good(page: Page) -> bytes:
    row = next(row for row in page.rows() if row["model"] >= 0)
    said = {"batch": new_id(), "edits": [of(row, "retype", type="lymphocyte")]}
    return json.dumps(said).encode()


def raw(page: Page, request: bytes) -> bytes:
    """The first line that the server answers to bytes that no browser sends."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(200).split(b"\r\n")[0]


def test_without_the_cookie_nobody_gets_anything(page: Page) -> None:
    name = page.cookie.partition("=")[0]
    cookies = [None, "", f"{name}=", f"{name}=x", f"{name}={page.token}", f"other={page.cookie}"]
    cookies += [f"{name}={page.cookie[-n:]}" for n in range(1, 5)]
    paths = ["/", "/api/run", "/api/slides/0/cells", "/static/cells.js", "/crops/0/x"]
    asked = [(path, cookie) for cookie in cookies for path in paths][:EACH]
    for path, cookie in asked:
        status, _, body = page.ask("GET", path, headers={"Cookie": cookie})
        assert status == 403
        assert b"terminal" in body


def test_a_guessed_token_is_refused(page: Page) -> None:
    for n in range(EACH):
        guess = (page.token[:n] + "A" * 43)[:43] if n else "x"
        status, headers, _ = page.ask("GET", f"/?token={guess}", headers={"Cookie": None})
        assert (status, headers.get("set-cookie")) == (403, None)


def test_another_host_name_that_leads_here_is_refused(page: Page) -> None:
    hosts = ["evil.example", f"evil.example:{page.port}", f"127.0.0.1:{page.port + 1}", "127.0.0.1"]
    hosts += [f"127.0.0.1.evil.example:{page.port}", f"localhost.:{page.port}", "0.0.0.0", ""]
    hosts += [f"[::1]:{page.port}", f"2130706433:{page.port}"]
    for host in hosts * 2:
        assert page.ask("GET", "/api/run", headers={"Host": host})[0] in (400, 421)


def test_requests_of_other_sites_are_refused(page: Page) -> None:
    origins = [None, "", "null", "https://evil.example", f"http://evil.example:{page.port}"]
    origins += [f"https://127.0.0.1:{page.port}", f"http://127.0.0.1:{page.port + 1}"]
    origins += [f"http://127.0.0.1:{page.port}.evil.example", "file://", page.url + "/"]
    for origin in origins:
        status, _, _ = page.ask("POST", "/api/slides/0/edits", good(page), {"Origin": origin})
        assert status == 403
    for site in ("cross-site", "same-site") * 5:
        assert page.ask("GET", "/api/run", headers={"Sec-Fetch-Site": site})[0] == 403


def test_forms_and_other_bodies_than_json_are_refused(page: Page) -> None:
    kinds = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None]
    kinds += ["application/jsonp", "text/json", "application/xml", "application", "*/*"]
    for kind in kinds * 2:
        headers = {"Content-Type": kind}
        assert page.ask("POST", "/api/slides/0/edits", good(page), headers)[0] == 415


def test_no_path_leads_out_of_the_page(page: Page) -> None:
    paths = ["/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/gate.py"]
    paths += ["/static//etc/passwd", "/static/....//gate.py", "/static/cells.js%00", "/etc/passwd"]
    paths += ["/crops/0/../../etc/passwd", "/crops/0/..%5c..%5cx", "/crops/-1/x", "/crops/0/"]
    paths += ["/tiles/0/0/0/-1", "/tiles/0/99/0/0", "/tiles/1e3/0/0/0", "/slides/0/../../x"]
    paths += ["/slides/99/cells", "/slides/0/server", "/static/templates", "/api", "/crops/0/%ff"]
    assert len(paths) == EACH
    for path in paths:
        status, _, body = page.ask("GET", path)
        assert status in (400, 404), path
        assert b"root:" not in body
        assert b"import" not in body


def test_bodies_that_are_too_long_or_of_no_stated_length_are_refused(page: Page) -> None:
    head = (
        f"POST /api/slides/0/edits HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nCookie: {page.cookie}"
        f"\r\nOrigin: {page.url}\r\nContent-Type: application/json\r\n"
    ).encode()
    lengths = [b"2000001", b"99999999999", b"9" * 11, b"12345678901"]
    lines = [b"Content-Length: " + length + b"\r\n\r\n" for length in lengths]
    lines += [b"Content-Length: -1\r\n\r\n", b"Content-Length: 1e3\r\n\r\n", b"\r\n"]
    lines += [b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
    lines += [b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"]
    lines += [b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"]
    for line in lines * 2:
        status = raw(page, head + line).split(b" ")
        assert status[0].startswith(b"HTTP/1.1")
        assert status[1] in (b"400", b"411", b"413")


def test_bodies_that_are_no_sense_are_refused(page: Page) -> None:
    deep = b"[" * 100_000
    bodies = [b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", deep, b'{"edits":NaN}', b"{}"]
    bodies += [json.dumps({"batch": batch, "edits": edits}).encode() for batch, edits in (
        ("x", []), (new_id(), []), (new_id(), {}), (new_id(), [1]), (1, [{}]), (None, [{}]),
        (new_id(), [{}] * 3000), (new_id(), [{"image": True}]), (new_id(), [{"image": -1}]),
        (new_id(), [{"image": 1e400}]),
    )]  # fmt: skip
    assert len(bodies) == EACH
    for body in bodies:
        assert page.ask("POST", "/api/slides/0/edits", body)[0] == 400


def test_edits_of_what_is_not_there_or_makes_no_sense_are_refused(page: Page) -> None:
    row = next(row for row in page.rows() if row["model"] >= 0)
    boxes: list[object] = [[0, 0, 1, 1], [5, 5, 5, 5], [9, 9, 2, 2], [0, 0, "9", 9], [1, 2, 3]]
    boxes += ["0,0,9,9", None, [0, 0, 1e12, 1e12], [500, 500, 900, 900], [True, 0, 30, 30]]
    edits = [of(row, "move", box=box) for box in boxes]
    edits += [of(row, "retype", type=name) for name in ("nothing", "", "__proto__", 7, ["x"])]
    edits += [of(row | {"id": "d-0"}, "delete"), of(row | {"image": 99}, "delete")]
    edits += [of(row, "drop table edit"), of(row, "comment", comment="x" * 3000)]
    edits += [{"kind": "add", "image": 0, "box": [1, 1, 30, 30], "label": "'; DROP TABLE edit"}]
    assert len(edits) == EACH
    for edit in edits:
        assert page.edit(edit)[0] in (400, 404), edit


def test_other_methods_and_addresses_are_refused(page: Page) -> None:
    methods = ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "FOO"]
    asked = [(method, path) for method in methods for path in ("/", "/api/slides/0/edits")]
    asked += [("GET", "/api/slides/0/edits"), ("POST", "/"), ("POST", "/api/run")]
    asked += [("POST", "/static/cells.js")]
    assert len(asked) == EACH
    for method, path in asked:
        assert page.ask(method, path)[0] in (400, 404, 405, 411)


def test_keys_of_no_type_are_refused(page: Page) -> None:
    names: list[object] = [[], {}, ["lymphocyte"], None, 7, True, "", "__proto__", "nothing"]
    for name in names:
        assert page.post("/api/keys", batch=new_id(), keys={"q": name})[0] == 400
    wrong: list[object] = [[], "q", None, *({key: "lymphocyte"} for key in ("qq", "", "\x00"))]
    for keys in wrong:
        assert page.post("/api/keys", batch=new_id(), keys=keys)[0] == 400


def test_a_level_beyond_all_levels_takes_no_memory(page: Page) -> None:
    for level in ("13", "9" * 11, "9" * 280):
        assert page.ask("GET", f"/tiles/0/{level}/0/0")[0] == 404


def test_whoever_has_not_signed_in_changes_nothing(page: Page) -> None:
    nobody = page.enter("")
    status, _, body = nobody.ask("POST", "/api/slides/0/edits", good(page))
    assert (status, b"sign in" in body) == (401, True)
    assert b"sign-in" in nobody.ask("GET", "/slides/0/cells")[2]
    for name in ("", " ", "\t", "x" * 101, "a\x00b", "a\u202eb", 7, None, ["x"]):
        assert nobody.post("/api/sign-in", name=name)[0] in (200, 400)
        assert nobody.get("/api/run")["person"] == ""


def test_every_answer_keeps_the_browser_to_this_page(page: Page) -> None:
    for path in ("/", "/slides/0/cells", "/api/run", "/static/cells.js", "/nothing", "/%00"):
        headers = page.ask("GET", path)[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "uvicorn" not in headers.get("server", "")
    cookie = page.ask("GET", f"/?token={page.token}", headers={"Cookie": None})[1]["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_behind_a_proxy_only_its_address_counts(typed_run: Path, tmp_path: Path) -> None:
    shutil.copytree(typed_run, tmp_path / "o")
    with open_page(tmp_path / "o/counts.csv", public="https://review.example") as page:
        proxied = {"Host": "review.example", "X-Forwarded-Proto": "https"}
        path = f"/?token={page.token}"
        status, headers, _ = page.ask("GET", path, headers=proxied)
        assert (status, "Secure" in headers["set-cookie"]) == (200, True)
        cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
        assert page.ask("GET", "/api/run", headers=proxied | cookie)[0] == 200
        inner = {"Host": "127.0.0.1", "X-Forwarded-Host": "review.example"}
        forwarded = inner | {"X-Forwarded-Proto": "https"} | cookie
        assert page.ask("GET", "/api/run", headers=forwarded)[0] == 200
        assert page.ask("GET", path)[0] == 421, "past the proxy"
        assert page.ask("GET", path, headers=proxied | {"X-Forwarded-Proto": "http"})[0] == 421
        assert page.ask("GET", path, headers=proxied | {"X-Forwarded-Host": "x.example"})[0] == 421
        body, origin = good_sign_in(), {"Origin": "https://review.example"}
        assert page.ask("POST", "/api/sign-in", body, proxied | cookie | origin)[0] == 200
        assert page.ask("POST", "/api/sign-in", body, proxied | cookie)[0] == 403


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("HTTPS://Review.Example/", "https://review.example"),
        ("https://review.example:443", "https://review.example"),
        ("http://review.example:443", "http://review.example:443"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_the_address_of_a_proxy_is_taken_as_browsers_name_it(given: str, origin: str) -> None:
    assert Address.behind(1, given).origins == {origin}


def good_sign_in() -> bytes:
    return json.dumps({"name": "A. Smith"}).encode()


def test_the_server_listens_on_this_machine_alone(page: Page) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        # Another address of this machine is free to be bound: nobody listens on all of them.
        other.bind(("127.0.0.2", page.port))


def test_a_proxy_that_is_no_address_and_a_taken_port_are_told(
    page: Page, typed_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(typed_run, tmp_path / "o")
    command = ["review", "open", str(tmp_path / "o"), "--no-browser"]
    wrong = ["review.example/path", "https://[::1", "https://review.example:x", "https://a@b.c"]
    for address in [*wrong, "https://review.example?x", "https://review.example#x", "https://:1"]:
        assert cli.main([*command, "--behind-proxy", address]) == 2
        assert "expected the address by which people reach the proxy" in capfd.readouterr().err
    assert cli.main([*command, "--port", str(page.port)]) == 2
    assert f"port {page.port} cannot be used" in capfd.readouterr().err
