"""What stands before the page: no other site may use it, every answer has its headers, every request is logged."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from htcl.logs import get_logger, log

LOGGER = get_logger("explore")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]


class Guard:
    """Refuses what other sites ask for, adds the headers, and logs method, path, status and time.

    What follows the `?` is never logged: it may hold the words that somebody searches for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        try:
            if from_elsewhere(scope):
                answer = JSONResponse({"error": "Only the page of this server may ask that."}, 403)
                await answer(scope, receive, send_more)
            else:
                await self._app(scope, receive, send_more)
        finally:
            milliseconds = round(1000 * (time.monotonic() - started))
            log(LOGGER, "request", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)


def from_elsewhere(scope: Scope) -> bool:
    """Whether another site makes the browser ask; a link to the page itself is fine."""
    headers = Headers(scope=scope)
    reads = scope["method"] in ("GET", "HEAD")
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not (reads and scope["path"] == "/"):
        return True
    origin = headers.get("origin")
    return not reads and origin is not None and urlsplit(origin).netloc != headers.get("host")


def allowed_hosts(host: str) -> Sequence[str]:
    """Names by which a server that listens on `host` may be called: without this a site could pose as it (DNS)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [*LOOPBACK, host]
    if address.is_unspecified:
        return ["*"]  # by any name of this machine, which it does not know itself
    return [*LOOPBACK, f"[{address}]" if address.version == 6 else str(address)]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
