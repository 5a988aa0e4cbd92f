"""A web server on this machine that can misbehave, and a cache of its own for each test."""

import contextlib
import http.server
import threading
import time

import pytest


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`; what else `server` says is how it misbehaves."""

    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        if self.path.startswith("/redirect/"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/redirect/", "/files/"))
            self.end_headers()
            return
        if not self.path.startswith("/files/"):
            self.send_error(404)
            return
        start = 0
        if asked and server.knows_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            size = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(server.seconds)
        with contextlib.suppress(ConnectionError):  # Whoever asked may be gone.
            self.wfile.write(body[: server.breaks_off_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """`.url` is where it serves `.content`, `.ranges` what it was asked for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.content = b""
        server.knows_ranges = True
        server.says_length = True
        server.breaks_off_after = None
        server.ranges = []
        server.seconds = 0
        server.daemon_threads = True
        server.block_on_close = False
        server.url = f"http://127.0.0.1:{server.server_port}/files/weights.h5"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """The folder where downloads have to lie. No proxy stands between us and this machine."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "models" / "bireal_keras"
