"""Access control of the page: requests without the right to ask are refused first.

The server listens on 127.0.0.1 alone. The address that the terminal shows holds a random token,
which is exchanged for a cookie of the same site. Host and Origin are checked, so that neither a
page of another site nor a name that leads here (rebinding) gets an answer.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cellcount.errors import UsageError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 2_000_000
_PATH = re.compile(rb"/[A-Za-z0-9/_.~-]{0,300}")
_MOST_SESSIONS = 200
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(slots=True)
class Session:
    """A browser that presented the token.

    Attributes:
        person: who signed in there, "" for nobody yet.
    """

    person: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """Address by which the page is reached.

    Attributes:
        port: on 127.0.0.1.
        public: origin of the proxy before it, such as ``https://review.example``; "" for none.
    """

    port: int
    public: str = ""

    @classmethod
    def behind(cls, port: int, public: str) -> Address:
        """The address behind a proxy.

        Raises:
            UsageError: the proxy's address is no origin.
        """
        origin = _origin(public)
        if not origin:
            raise UsageError(
                f"--behind-proxy is {public!r}, expected the address by which people reach the "
                "proxy, without a path, for example https://review.example"
            )
        return cls(port, origin)

    @property
    def origins(self) -> frozenset[str]:
        """Origins of the pages that may send requests."""
        own = {f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"}
        return frozenset({self.public} if self.public else own)

    @property
    def hosts(self) -> frozenset[str]:
        """Hosts by which the server may be addressed."""
        return frozenset(origin.partition("://")[2] for origin in self.origins)

    @property
    def url(self) -> str:
        """The page's address without its token, as a browser opens it."""
        return self.public or f"http://127.0.0.1:{self.port}"

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers share cookies between ports."""
        return f"cellcount_review_{self.port}"


@dataclass(slots=True)
class Sessions:
    """The browsers that presented the token.

    Attributes:
        token: what the address holds.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _known: dict[str, Session] = field(default_factory=dict)

    def begin(self, token: str) -> str:
        """Exchange the token for the value of a cookie; "" for a wrong one."""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return ""
        while len(self._known) >= _MOST_SESSIONS:
            self._known.pop(next(iter(self._known)))
        cookie = secrets.token_urlsafe(32)
        self._known[cookie] = Session()
        return cookie

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie."""
        return self._known.get(cookie)


class Gate:
    """Checks of every request, as an ASGI application before another.

    Args:
        app: what answers those that pass.
        address: by which it may be asked.
        sessions: of the browsers that came with the token.
    """

    def __init__(self, app: App, address: Address, sessions: Sessions) -> None:
        self._app, self._address, self._sessions = app, address, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it pass."""
        if scope["type"] != "http":
            return  # neither WebSockets nor anything else is spoken here
        headers = _Headers(scope["headers"])
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if token and scope["method"] == "GET" and scope["path"] == "/":
            await self._exchange(send, token[0])
            return
        session = self._sessions.find(headers.cookie(self._address.cookie))
        if session is None:
            text = "Open the address that the terminal of cellcount review open shows."
            await _answer(send, 403, text)
            return
        scope["session_of_page"] = session
        await self._app(scope, _limited(receive), _protected(send))

    def _refused(self, scope: Scope, headers: _Headers) -> tuple[int, str] | None:
        """Status and reason where a request does not pass."""
        method = scope["method"]
        if headers.all("host") != [headers.one("host")]:
            return 400, "One Host is expected."
        if not self._is_our_host(headers):
            return 421, "This server is not asked by that name."
        if method not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST are known here."
        raw = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
        if not _PATH.fullmatch(raw) or b"/.." in raw or b"//" in raw:
            return 400, "No such address."
        if len(scope["query_string"]) > 300:
            return 414, "The query is too long."
        if headers.one("sec-fetch-site") not in ("", "none", "same-origin"):
            return 403, "Requests of other sites are refused."
        return self._refused_post(headers) if method == "POST" else None

    def _refused_post(self, headers: _Headers) -> tuple[int, str] | None:
        if headers.one("origin").lower() not in self._address.origins:
            return 403, "Requests of other sites are refused."
        if headers.one("content-type").partition(";")[0].strip().lower() != "application/json":
            return 415, "application/json is expected."
        length = headers.one("content-length")
        if headers.one("transfer-encoding") or not length.isascii() or not length.isdigit():
            return 411, "A body of stated length is expected."
        if len(length) > 12 or int(length) > LARGEST_BODY:
            return 413, f"The body is longer than {LARGEST_BODY} bytes."
        return None

    def _is_our_host(self, headers: _Headers) -> bool:
        hosts = self._address.hosts
        if not self._address.public:
            return headers.one("host").lower() in hosts
        forwarded = headers.one("x-forwarded-host") or headers.one("host")
        scheme = headers.one("x-forwarded-proto").lower()
        return forwarded.lower() in hosts and self._address.public.startswith(f"{scheme}://")

    async def _exchange(self, send: Send, token: str) -> None:
        cookie = self._sessions.begin(token)
        if not cookie:
            await _answer(send, 403, "The token is another one: the server was started again.")
            return
        secure = "; Secure" if self._address.public.startswith("https:") else ""
        value = f"{self._address.cookie}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}"
        # A page of our own leads on, since a cookie of the same site is not sent along redirects
        # that another program began.
        more = {"set-cookie": value, "refresh": "0; url=/", "content-type": "text/html"}
        await _answer(
            send, 200, '<!DOCTYPE html><title>cellcount</title><a href="/">Go on</a>', more
        )


class _Headers:
    """Headers of a request."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [v.decode("latin-1") for n, v in self._raw if n == name.encode()]

    def one(self, name: str) -> str:
        """The value of a header, "" where there is none; of several the last."""
        return (self.all(name) or [""])[-1]

    def cookie(self, name: str) -> str:
        """The value of a cookie."""
        for line in self.all("cookie"):
            for pair in line.split(";"):
                key, _, value = pair.strip().partition("=")
                if key == name:
                    return value
        return ""


def _origin(address: str) -> str:
    """Normalise an address to the form of the Origin header; "" where it is no plain origin."""
    try:
        parts = urlsplit(address.lower())
        port = parts.port
    except ValueError:  # no port, or no address of IPv6
        return ""
    known = {"http": 80, "https": 443}
    rest = parts.path.strip("/") + parts.query + parts.fragment
    if parts.scheme not in known or not parts.hostname or rest or "@" in parts.netloc:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (
        f":{port}" if port not in (None, known[parts.scheme]) else ""
    )


def _limited(receive: Receive) -> Receive:
    """Limit the body of a request, whatever length it states."""
    left = LARGEST_BODY

    async def limited() -> MutableMapping[str, Any]:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return limited


def _protected(send: Send) -> Send:
    """Adds the headers that keep a browser from doing more than the page needs."""

    async def protected(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_encoded(_HEADERS)]
        await send(message)

    return protected


async def _answer(
    send: Send, status: int, text: str, more: Mapping[str, str] | None = None
) -> None:
    headers = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}
    headers |= {**_HEADERS, **(more or {}), "content-length": str(len(text.encode()))}
    start = {"type": "http.response.start", "status": status, "headers": _encoded(headers)}
    await send(start)
    await send({"type": "http.response.body", "body": text.encode()})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
