"""The live page's server and feed, over real HTTP and WebSockets, on small videos."""

import asyncio
import contextlib
import functools
import http.client
import io
import json
import threading

import numpy as np
import pytest
from brightness import brightness
from PIL import Image
from videos import plain, write_video

from bireal_keras import runtime
from bireal_keras.runtime import Interpreter, open_camera
from bireal_keras.runtime.camera import Camera
from bireal_keras.runtime.live.feed import Feed

websockets = pytest.importorskip("websockets", reason="needs the extra [live]")
from websockets.asyncio.client import connect  # noqa: E402

from bireal_keras.runtime.live import server  # noqa: E402

TOKEN = "0123456789abcdef"
SECONDS = 20


class Pictures(Camera):
    """A camera that sees black and white in turns, and notes what becomes of it."""

    def __init__(self, *, left=10**6, pause=0.01):
        self.name, self.left, self.seen, self.pause = "camera 0", left, 0, pause
        self.opened, self.closed = threading.Event(), threading.Event()
        self.times_opened = 0

    def __call__(self):
        self.times_opened += 1
        self.closed.clear()
        self.opened.set()
        return self

    def close(self):
        self.closed.set()

    def _read(self):
        if self.left == 0:
            raise self._gone()
        self.left -= 1
        self.seen += 1
        threading.Event().wait(self.pause)
        return Image.fromarray(plain(255 * (self.seen % 2)))


@contextlib.asynccontextmanager
async def page(open_, *, token=None, idle_seconds=0.3, retry_seconds=0.05):
    """Serves on a free port."""
    with Interpreter(brightness(threshold=0.5)) as interpreter:
        feed = Feed(
            open_, interpreter, top_k=2, idle_seconds=idle_seconds, retry_seconds=retry_seconds
        )
        try:
            async with server.listen("127.0.0.1", 0, token, feed, "brightness · here") as port:
                yield port
        finally:
            feed.close()


def get(port, path="/", **headers):
    """(status, headers, body) of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    with contextlib.closing(connection):
        return response.status, response.headers, response.read()


async def fetch(*args, **kwargs):
    return await asyncio.to_thread(get, *args, **kwargs)


async def frame(viewer):
    """What a viewer gets who asks: the state, and the picture where there is one."""
    await viewer.send("next")
    state = json.loads(await viewer.recv())
    return state, None if "error" in state else await viewer.recv()


def visit(port, **options):
    return connect(f"ws://127.0.0.1:{port}/frames", **options)


def run(test):
    """Makes a test of a coroutine, which must not take long."""

    @functools.wraps(test)
    def wrapper(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), SECONDS))

    return wrapper


@run
async def test_the_page_and_its_files():
    async with page(Pictures()) as port:
        for path, kind in [
            ("/", "text/html; charset=utf-8"),
            ("/live.css", "text/css; charset=utf-8"),
            ("/live.js", "text/javascript; charset=utf-8"),
            ("/icon.svg", "image/svg+xml"),
        ]:
            status, headers, body = await fetch(port, path)
            assert (status, headers["Content-Type"]) == (200, kind)
            assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"https://" not in body
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
        for path in ("/live.py", "/../server.py", "/%2e%2e/server.py", "//", "/frames/"):
            assert (await fetch(port, path))[0] == 404


@run
async def test_no_frames_for_strangers():
    camera = Pictures()
    async with page(camera) as port:
        assert (await fetch(port, Host="evil.example"))[0] == 421
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await visit(port, origin="http://evil.example")
        with pytest.raises(websockets.InvalidStatus, match="421"):
            await visit(port, additional_headers={"Host": "evil.example"}).__aenter__()
        async with visit(port, origin=f"http://127.0.0.1:{port}") as viewer:
            assert "title" in json.loads(await viewer.recv())
    assert camera.times_opened == 0


@run
async def test_a_token_opens_the_page_once_and_for_all():
    async with page(Pictures(), token=TOKEN) as port:
        for path in ("/", "/live.js", "/?token=wrong"):
            status, _, body = await fetch(port, path)
            assert (status, b"address that bireal-live printed" in body) == (403, True)
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await visit(port)
        status, headers, _ = await fetch(port, f"/?token={TOKEN}")
        assert (status, headers["Location"]) == (303, "/")
        cookie, *attributes = headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
        assert (await fetch(port, Cookie=cookie))[0] == 200
        async with visit(port, additional_headers={"Cookie": cookie}) as viewer:
            assert json.loads(await viewer.recv()) == {"title": "brightness · here"}


@run
async def test_frames_are_what_classify_says_of_the_files(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 60, (48, 64, 3), np.uint8) + shade for shade in (10, 190, 80, 150)]
    path = write_video(tmp_path / "clip.avi", [frame.astype(np.uint8) for frame in frames], fps=25)
    model = brightness(threshold=0.5)
    with open_camera(path) as camera:
        expected = [
            [(guess.label, guess.probability) for guess in guesses]
            for guesses in runtime.classify(list(camera), model)
        ]
    assert len({answer[0] for answer in expected}) > 1
    async with page(functools.partial(open_camera, path)) as port, visit(port) as viewer:
        await viewer.recv()
        # The file starts again at its end.
        shown = [await frame(viewer) for _ in range(6)]
    for state, jpeg in shown:
        # A busy machine may have left one out: by its brightness it is known which one this is.
        shade = np.asarray(Image.open(io.BytesIO(jpeg))).mean()
        which = np.argmin([abs(frame.mean() - shade) for frame in frames])
        answer = [(guess["label"], guess["probability"]) for guess in state["classes"]]
        assert answer == expected[which]
    for state, jpeg in shown:
        assert Image.open(io.BytesIO(jpeg)).size == (64, 48)
        assert state["box"] == [8 / 64, 0, 56 / 64, 1]
        assert 0 < state["milliseconds"] < 10_000
    # A file is not over in no time: it keeps its own pace, or a busy machine's.
    rates = [state["frames_per_second"] for state, _ in shown]
    assert rates[0] is None
    assert all(0 < rate < 100 for rate in rates[1:])


@run
async def test_viewers_share_a_camera_that_rests_without_them():
    camera = Pictures()
    async with page(camera) as port:
        assert not camera.opened.is_set()
        async with visit(port) as one, visit(port) as other:
            for viewer in (one, other):
                await viewer.recv()
            found = await asyncio.gather(*(frame(viewer) for viewer in (one, other)))
            assert all(jpeg is not None for _, jpeg in found)
            assert camera.times_opened == 1
            await other.close()
            assert (await frame(one))[1] is not None
            assert not camera.closed.is_set()
        # Nobody looks now, or one without asking, whose page is paused.
        async with visit(port):
            assert await asyncio.to_thread(camera.closed.wait, SECONDS)
        async with visit(port) as late:
            await late.recv()
            assert (await frame(late))[1] is not None
        assert camera.times_opened == 2
    assert camera.closed.is_set()


@run
async def test_a_viewer_that_vanishes_without_a_word():
    camera = Pictures()
    async with page(camera) as port:
        viewer = await visit(port)
        await viewer.recv()
        await viewer.send("next")
        viewer.transport.abort()
        assert await asyncio.to_thread(camera.opened.wait, SECONDS)
        assert await asyncio.to_thread(camera.closed.wait, SECONDS)


@run
async def test_a_slow_viewer_gets_the_newest_frame():
    camera = Pictures()
    async with page(camera, idle_seconds=SECONDS) as port, visit(port) as viewer:
        await viewer.recv()
        await frame(viewer)
        before = camera.seen
        await asyncio.sleep(0.5)
        assert camera.seen > before + 5
        state, jpeg = await frame(viewer)
        # Black and white take turns, and the camera's next picture is at hand.
        shade = np.asarray(Image.open(io.BytesIO(jpeg))).mean()
        assert state["classes"][0]["label"] == ("bright" if shade > 127 else "dark")


@run
async def test_a_camera_that_vanishes_and_comes_back():
    camera = Pictures(left=2)
    async with page(camera, idle_seconds=SECONDS) as port, visit(port) as viewer:
        await viewer.recv()
        states = []
        while not states or "error" not in states[-1]:
            states.append((await frame(viewer))[0])
        assert states[-1] == {"error": "camera 0 gives no picture any more."}
        assert (await frame(viewer))[0] == states[-1]  # It is tried again.
        camera.left = 10**6
        while "error" in (await frame(viewer))[0]:
            pass


@run
async def test_what_a_driver_raises_is_a_state():
    def open_():
        raise RuntimeError("ioctl\nfailed")

    async with page(open_) as port, visit(port) as viewer:
        await viewer.recv()
        assert await frame(viewer) == ({"error": "ioctl failed"}, None)


@run
async def test_a_port_in_use_and_a_host_that_is_none():
    async with page(Pictures()) as port:
        for host, message in [
            ("127.0.0.1", rf"^port {port} of 127\.0\.0\.1 is in use\. --port=0 takes any"),
            ("192.0.2.77", r"^192\.0\.2\.77 is not an address of this machine\.$"),
        ]:
            with pytest.raises(OSError, match=message):
                await server.listen(host, port, None, None, "").__aenter__()


@run
async def test_a_viewer_who_says_too_much_is_let_go():
    async with page(Pictures()) as port, visit(port) as viewer:
        await viewer.recv()
        await viewer.send("x" * 10_000)
        with pytest.raises(websockets.ConnectionClosed):
            await viewer.recv()
        assert (await fetch(port))[0] == 200
