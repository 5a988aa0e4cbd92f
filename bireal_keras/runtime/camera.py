"""Pictures of a camera, through OpenCV where it is installed."""

import os
import sys
from collections.abc import Iterator
from types import ModuleType, TracebackType

from bireal_keras._pillow import Image

_WINDOW = "bireal-classify (q quits)"


class Camera:
    """Yields a camera's pictures, and shows them in a window where there is a screen.

        with Camera(0) as camera:
            for image in camera:
                camera.show("cat")

    Args:
        index: which camera, the first being 0.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: there is no such camera.
    """

    def __init__(self, index: int):
        self._cv2 = _opencv()
        self._capture = self._cv2.VideoCapture(index)
        if not self._capture.isOpened():
            self._capture.release()
            raise ValueError(f"camera {index} cannot be opened.")
        self._name = f"camera {index}"
        self._has_window = self._open_window()
        self._done = False
        self._frame = None

    def __enter__(self) -> "Camera":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._capture.release()
        if self._has_window:
            self._cv2.destroyAllWindows()

    def __iter__(self) -> Iterator[Image.Image]:
        """RGB pictures, until somebody presses q in the window.

        Raises:
            OSError: the camera gives no more.
        """
        while not self._done:
            there_is_one, self._frame = self._capture.read()
            if not there_is_one or self._frame is None:
                raise OSError(f"{self._name} gives no picture.")
            yield Image.fromarray(self._cv2.cvtColor(self._frame, self._cv2.COLOR_BGR2RGB))

    def show(self, caption: str) -> None:
        """Shows the last picture with a line of text, and looks for a pressed key."""
        if not self._has_window:
            return
        cv2 = self._cv2
        # OpenCV's fonts have no other letters. Black below white is legible on everything.
        line = (caption.encode("ascii", "replace").decode(), (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1)
        cv2.putText(self._frame, *line, (0, 0, 0), 4)
        cv2.putText(self._frame, *line, (255, 255, 255), 2)
        cv2.imshow(_WINDOW, self._frame)
        self._done = cv2.waitKey(1) & 0xFF == ord("q")

    def _open_window(self) -> bool:
        # Without a screen, OpenCV's windows end the whole process.
        if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
            return False
        try:
            self._cv2.namedWindow(_WINDOW)
        except self._cv2.error:
            return False  # opencv-python-headless, whose functions are there and do this.
        return True


def _opencv() -> ModuleType:
    # It logs on its own what we report, unless this is set before its import.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ImportError(
            "--camera needs OpenCV, which is not installed: pip install opencv-python."
        ) from error
    return cv2
