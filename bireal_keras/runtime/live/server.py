"""Serves the page, and to each viewer frames at the viewer's pace.

The page asks for a frame with a message over a WebSocket, and gets the newest one: its state as
JSON and then, if there is one, the picture as JPEG. So a slow viewer sees fewer frames and not
old ones, and who does not ask costs nothing.
"""

import contextlib
import errno
import json
import logging
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

from bireal_keras.runtime.live.access import Access
from bireal_keras.runtime.live.feed import Feed

try:
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.datastructures import Headers
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Request, Response
except ImportError as error:
    raise ImportError(
        "The live page needs the package websockets, 14 or newer: pip install 'websockets>=14', "
        "which is all that bireal-keras[live] adds."
    ) from error

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("live.html", "text/html; charset=utf-8"),
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_FRAMES = "/frames"
_HEADERS = {
    # Nothing is loaded from elsewhere, and no other page can frame this one.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_COOKIE_SECONDS = 365 * 24 * 3600
# A viewer says nothing but "next".
_MAX_MESSAGE_BYTES = 64
_MAX_MESSAGES = 4
# A viewer that vanished without a word is noticed after twice this time.
_PING_SECONDS = 10.0
_CLOSE_SECONDS = 1.0


@contextlib.asynccontextmanager
async def listen(
    host: str, port: int, token: str | None, feed: Feed, title: str
) -> AsyncIterator[int]:
    """Serves the page while the context lasts.

    Args:
        host: name or address to listen on.
        port: port to listen on, 0 for a free one.
        token: what a viewer has to know, see `Access`.
        feed: where frames come from.
        title: what the page says of itself, as model and camera.

    Yields:
        The port.

    Raises:
        OSError: the port is in use, or the host is not this machine's.
        ValueError: the token cannot be one.
    """
    with _bind(host, port) as listener:
        bound = int(listener.getsockname()[1])
        viewers = _Viewers(Access(host, bound, token), feed, title)
        async with serve(
            viewers.show,
            sock=listener,
            process_request=viewers.answer,
            compression=None,  # A JPEG does not get any smaller.
            max_size=_MAX_MESSAGE_BYTES,
            max_queue=_MAX_MESSAGES,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PING_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            server_header=None,
            logger=_silent_log(),
        ):
            yield bound


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Every address of this machine: most others of a network ask for one of IPv4.
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is in use. --port=0 takes any that is free."
        elif error.errno in (errno.EACCES, errno.EPERM):
            reason = f"port {port} is for the system's own servers. Others begin at 1024."
        else:
            reason = f"{host} is not an address of this machine."
        raise OSError(reason) from error


def _silent_log() -> logging.Logger:
    """Strangers' mistakes are no news, and a traceback of each least of all."""
    log = logging.getLogger(f"{__name__}.silent")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log


class _Viewers:
    """What becomes of their connections."""

    def __init__(self, access: Access, feed: Feed, title: str):
        self._access, self._feed, self._title = access, feed, title

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers a request for a file; None goes on to the WebSocket."""
        refused = self._access.refusal(request.path, request.headers)
        if refused is not None:
            status, text = refused
            return _response(status, f"{text}\n".encode())
        path, _, _ = request.path.partition("?")
        if path == _FRAMES:
            return None
        if path not in _FILES:
            return _response(HTTPStatus.NOT_FOUND, b"There is no such page.\n")
        token = self._access.token_in(request.path)
        if token is not None:
            # From now on a cookie has it, and what is in the address bar can be shown to others.
            cookie = f"{self._access.cookie}={token}; Path=/; Max-Age={_COOKIE_SECONDS}; HttpOnly; "
            return _response(
                HTTPStatus.SEE_OTHER, b"", Location=path, Set_Cookie=f"{cookie}SameSite=Strict"
            )
        name, kind = _FILES[path]
        return _response(HTTPStatus.OK, (_PAGE / name).read_bytes(), Content_Type=kind)

    async def show(self, connection: ServerConnection) -> None:
        """Gives a viewer a frame for each message, until the viewer leaves."""
        shown = 0
        with contextlib.suppress(ConnectionClosed):
            await connection.send(json.dumps({"title": self._title}))
            async for _ in connection:
                frame = await self._feed.next(shown)
                shown = frame.number
                await connection.send(json.dumps(frame.state))
                if frame.jpeg is not None:
                    await connection.send(frame.jpeg)


def _response(status: HTTPStatus, body: bytes, **headers: str) -> Response:
    fields = {"Content-Type": "text/plain; charset=utf-8"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields |= _HEADERS | {"Content-Length": str(len(body)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers(fields), body)
