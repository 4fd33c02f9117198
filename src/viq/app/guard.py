"""Who may talk to the page: only itself, under a name that is really this server's.

A server on loopback is reached by every site that the browser shows. Two checks keep them out: a
name that was made to resolve to this machine (DNS rebinding) is not one of the server's, and what
changes something must come from the page itself.
"""

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from socket import gethostname
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    # Everything comes from here; pictures and downloads also from the page's own memory.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Middleware that refuses other names and other origins, and adds headers to each answer."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        """Besides ``names`` there are localhost, this machine's own name, and IP addresses.

        Addresses are safe: what was made to resolve to this machine is a name.
        """
        self._app = app
        self._names = {name.lower() for name in ("localhost", gethostname(), *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        message = self._wrong(scope["method"], Headers(scope=scope))
        app = self._app if message is None else JSONResponse({"error": message}, 403)
        await app(scope, receive, send_with_headers)

    def _wrong(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return (
                f"This server does not go by the name {host[:80]!r}; start it with"
                " --allow-host and that name if it should."
            )
        if method in ("GET", "HEAD"):
            return None
        # Browsers send an origin with all that is not a plain reading; other programs need none.
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "same-origin")
        if (origin is not None and urlsplit(origin).netloc != host) or site != "same-origin":
            return "This request came from another site."
        return None

    def _is_own(self, host: str) -> bool:
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ip_address(name)
            return True
        return False
