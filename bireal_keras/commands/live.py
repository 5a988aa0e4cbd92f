"""Shows in a browser what a camera sees and what a model makes of it.

Usage: bireal-live [flags] MODEL

MODEL is a .tflite file, a folder of bireal-train with the file that bireal-export put into it, or
cifar10, the model that comes with the package.

Prints the address of the page, and serves it until Ctrl-C. Without --host only this machine can
open it. With --host=0.0.0.0 all machines of the network can that know the token, which is part of
the address; the picture is not encrypted. The camera is on while somebody looks.
"""

import asyncio
import contextlib
import functools
import os
import secrets
import signal
import socket
import sys

from absl import app, flags

from bireal_keras import _native_log
from bireal_keras.commands import _camera_flag, _cli, _model_argument
from bireal_keras.runtime.interpreter import Interpreter

_CAMERA = _camera_flag.define(
    0,
    "What to look at: the first camera, --camera=1 the second one, or --camera=FILE.mp4. Takes "
    "picamera2 or OpenCV.",
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "The address to serve on; 0.0.0.0 is every one of this machine, and :: also those of IPv6.",
)
_PORT = flags.DEFINE_integer(
    "port", 8000, "The port; 0 takes a free one.", lower_bound=0, upper_bound=65535
)
_TOKEN = flags.DEFINE_string(
    "token",
    None,
    "What a viewer has to know: 16 letters, digits, - or _, or more. By default a new one at every "
    "start, and none where only this machine can open the page.",
)
_TOP_K = flags.DEFINE_integer("top_k", 5, "How many classes to show.", lower_bound=1)
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads to compute with.", lower_bound=1, upper_bound=64
)


def main(args: list[str]) -> None:
    if len(args) != 1:
        raise app.UsageError(f"exactly one model is needed. Received: {len(args)}.")
    from bireal_keras.runtime import classifier
    from bireal_keras.runtime.camera import open_camera
    from bireal_keras.runtime.live import access, server  # noqa: F401  Is websockets there?

    with _native_log.quiet():  # LiteRT greets.
        interpreter = Interpreter(_model_argument.resolve(args[0]), num_threads=_NUM_THREADS.value)
    classifier.check(interpreter)
    with open_camera(_CAMERA.value) as camera:  # A mistake is to be seen here, not on the page.
        title = f"{_title(args[0])} · {os.path.basename(camera.name)}"
    host, token = _host(), _TOKEN.value
    if token is None and not access.is_loopback(host):
        token = secrets.token_urlsafe(16)
    asyncio.run(_serve(interpreter, host, token, title))


def _host() -> str:
    """An IPv6 address may be in brackets, as it is in the address of a page."""
    host = _HOST.value
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _title(argument: str) -> str:
    """What to call a model: runs/photos/model.tflite is one of many of this name."""
    path = os.path.abspath(argument)
    name = os.path.basename(path)
    return os.path.basename(os.path.dirname(path)) if name == "model.tflite" else name


async def _serve(interpreter: Interpreter, host: str, token: str | None, title: str) -> None:
    from bireal_keras.runtime.camera import open_camera
    from bireal_keras.runtime.live import server
    from bireal_keras.runtime.live.feed import Feed

    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows has no such handlers.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    feed = Feed(functools.partial(open_camera, _CAMERA.value), interpreter, top_k=_TOP_K.value)
    try:
        async with server.listen(host, _PORT.value, token, feed, title) as port:
            for address in _addresses(host):
                print(f"http://{address}:{port}/" + (f"?token={token}" if token else ""))
            sys.stdout.flush()
            await stop.wait()
    finally:
        feed.close()


def _addresses(host: str) -> list[str]:
    """What to type into a browser for a host."""
    from bireal_keras.runtime.live import access

    if host not in ("", "0.0.0.0", "::"):
        return [f"[{host}]" if ":" in host else host]
    _, name = access.own_names()
    # Nothing is sent: to connect a UDP socket looks up which way a packet would leave. The
    # address is one for documentation (RFC 5737).
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:  # There is no network.
            return [name]
        return [name, probe.getsockname()[0]]


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-live", main, module=__name__, doc=__doc__)
