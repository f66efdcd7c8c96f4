"""What stands before the page: no other site may use it, every answer has its headers, every request is logged."""

from __future__ import annotations

import ipaddress
import socket
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
ANY_ADDRESS = "any address"
"""Stands for all addresses written in numbers: a site that poses as this server (DNS rebinding) does it by a name."""
UPLOAD = "/api/sound"
MOST_BODY = 1 << 16
"""Bytes of a request; an upload counts its own."""


class Guard:
    """Refuses other names, other sites and large requests, adds the headers, and logs method, path, status and time.

    What follows the `?` is never logged: it may hold the words that somebody searches for.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, hosts

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
            await (self._refusal(scope) or self._app)(scope, receive, send_more)
        finally:
            milliseconds = round(1000 * (time.monotonic() - started))
            log(LOGGER, "request", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if not may_be_called(Headers(scope=scope).get("host", ""), self._hosts):
            return JSONResponse({"error": "This server is not called by that name."}, 400)
        if from_elsewhere(scope):
            return JSONResponse({"error": "Only the page of this server may ask that."}, 403)
        if too_large(scope):
            return JSONResponse({"error": f"A question has {MOST_BODY:,} bytes at most, and says how many."}, 413)
        return None


def may_be_called(host: str, hosts: Sequence[str]) -> bool:
    """Whether a `Host` header, port or not, names this server."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets without an end
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in hosts
    return ANY_ADDRESS in hosts or (f"[{address}]" if address.version == 6 else str(address)) in hosts


def too_large(scope: Scope) -> bool:
    """Whether a request brings more than a question, or does not say how much it brings; uploads are not looked at."""
    if scope["method"] in ("GET", "HEAD") or scope["path"] == UPLOAD:
        return False
    return int(Headers(scope=scope).get("content-length", MOST_BODY + 1)) > MOST_BODY


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
        return [*LOOPBACK, host.lower()]
    if address.is_unspecified:
        name = socket.gethostname().lower()
        return [*LOOPBACK, ANY_ADDRESS, name, f"{name}.local"]
    return [*LOOPBACK, f"[{address}]" if address.version == 6 else str(address)]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
