"""One camera and one model for any number of viewers."""

import asyncio
import collections
import contextlib
import dataclasses
import io
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from bireal_keras._pillow import Image
from bireal_keras.runtime.camera import Camera
from bireal_keras.runtime.classifier import classify
from bireal_keras.runtime.image import central_box
from bireal_keras.runtime.interpreter import Interpreter

# A page need not be larger.
_MAX_JPEG_SIZE = (960, 960)
_JPEG_QUALITY = 80
# Pictures a second are those of the last so many.
_RATE_WINDOW = 20
_CLOSE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture and what the model makes of it, or why there is none.

    Attributes:
        number: 1, 2, ...
        state: for the page, as JSON: `classes`, a list of {"label", "probability"}, the most
            probable one first; `milliseconds` of crop, resizing and model together;
            `frames_per_second`, None of the first one; and `box`, the part that the model sees,
            as shares of width and height: left, top, right, bottom. Or nothing but `error`.
        jpeg: the picture; None with an error.
    """

    number: int
    state: Mapping[str, Any]
    jpeg: bytes | None


class Feed:
    """Classifies what a camera sees while somebody wants to know.

    The camera is opened when a viewer asks for a frame, and let go of when nobody has asked for a
    while. A camera that vanishes is a frame that says so, and is tried again. A video file starts
    again at its end.

    Args:
        open_camera: opens the camera; called from a thread.
        interpreter: a classifier.
        top_k: how many classes to tell.
        idle_seconds: how long the camera stays open after the last viewer.
        retry_seconds: how long to wait before a camera is tried again.
    """

    def __init__(
        self,
        open_camera: Callable[[], Camera],
        interpreter: Interpreter,
        *,
        top_k: int = 5,
        idle_seconds: float = 5.0,
        retry_seconds: float = 2.0,
    ):
        self._open_camera, self._interpreter, self._top_k = open_camera, interpreter, top_k
        self._idle_seconds, self._retry_seconds = idle_seconds, retry_seconds
        self._loop = asyncio.get_running_loop()
        # These two are the event loop's, and the next two the thread's.
        self._latest: Frame | None = None
        self._waiting: set[asyncio.Future[Frame]] = set()
        self._number = 0
        self._times: collections.deque[float] = collections.deque(maxlen=_RATE_WINDOW)
        self._wanted, self._closed = threading.Event(), threading.Event()
        self._last_wanted = 0.0
        self._thread = threading.Thread(target=self._work, name="bireal-live", daemon=True)
        self._thread.start()

    async def next(self, after: int) -> Frame:
        """The newest frame, as soon as there is one with a higher number than `after`."""
        self._last_wanted = time.monotonic()
        self._wanted.set()
        if self._latest is not None and self._latest.number > after:
            return self._latest
        future: asyncio.Future[Frame] = self._loop.create_future()
        self._waiting.add(future)
        try:
            return await future
        finally:
            self._waiting.discard(future)

    def close(self) -> None:
        """Lets go of the camera. Who waits for a frame gets none."""
        self._closed.set()
        self._wanted.set()
        # A driver may hang, and then it does so without us.
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        while self._wanted.wait() and not self._closed.is_set():
            try:
                with self._open_camera() as camera:
                    self._watch(camera)
            except Exception as error:  # Drivers raise what they like; whoever looks is told.
                self._times.clear()
                self._publish({"error": " ".join(str(error).split()) or type(error).__name__})
                self._closed.wait(self._retry_seconds)
            if self._is_idle():
                self._times.clear()
                # Nobody who comes later is shown what there was to see now.
                self._tell(None)
                self._wanted.clear()
                if self._closed.is_set() or not self._is_idle():  # Since a moment ago.
                    self._wanted.set()

    def _watch(self, camera: Camera) -> None:
        pause = 1 / camera.frame_rate if camera.frame_rate else 0.0
        due = time.monotonic()
        for image in camera:
            if self._closed.is_set() or self._is_idle():
                return
            start = time.perf_counter()
            guesses = classify(image, self._interpreter, top_k=self._top_k)
            milliseconds = (time.perf_counter() - start) * 1e3
            self._times.append(time.monotonic())
            box = central_box(image, self._interpreter.metadata)
            state = {
                "classes": [
                    {"label": guess.name, "probability": guess.probability} for guess in guesses
                ],
                "milliseconds": milliseconds,
                "frames_per_second": self._rate(),
                "box": [edge / side for edge, side in zip(box, image.size * 2, strict=True)],
            }
            self._publish(state, _jpeg(image))
            # A file would be over in no time. One that is late does not hurry afterwards.
            due = max(due + pause, time.monotonic())
            self._closed.wait(due - time.monotonic())

    def _rate(self) -> float | None:
        seconds = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / seconds if seconds > 0 else None

    def _is_idle(self) -> bool:
        # Who waits for a slow camera is not idle. `next` notes the time before it waits.
        long_ago = time.monotonic() - self._last_wanted > self._idle_seconds
        return long_ago and not self._waiting

    def _publish(self, state: Mapping[str, Any], jpeg: bytes | None = None) -> None:
        self._number += 1
        self._tell(Frame(self._number, state, jpeg))

    def _tell(self, frame: Frame | None) -> None:
        # The loop may end first where a driver hangs, and nobody is there to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, frame)

    def _deliver(self, frame: Frame | None) -> None:
        self._latest = frame
        if frame is None:
            return
        for future in self._waiting:
            if not future.done():
                future.set_result(frame)


def _jpeg(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail(_MAX_JPEG_SIZE, Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()
