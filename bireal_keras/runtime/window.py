"""Pictures on the screen, where there is one."""

import os
import sys

import numpy as np

from bireal_keras._pillow import Image
from bireal_keras.runtime import _opencv


class Window:
    """Shows pictures with a line of text, or does nothing: without a screen, or OpenCV's windows.

    with Window("title") as window:
        is_open = window.show(image, "cat")
    """

    def __init__(self, title: str):
        self._title = title
        self._cv2 = None
        # Without a screen, OpenCV's windows end the whole process.
        if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
            return
        try:
            cv2 = _opencv.load()
        except ImportError:
            return  # picamera2 does without.
        try:
            cv2.namedWindow(title)
        except cv2.error:
            return  # opencv-python-headless has the functions, and they do this.
        self._cv2 = cv2

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        if self._cv2 is not None:
            self._cv2.destroyAllWindows()

    def show(self, image: Image.Image, caption: str) -> bool:
        """Shows a picture, and says whether to go on: nobody has pressed q in the window."""
        cv2 = self._cv2
        if cv2 is None:
            return True
        frame = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        # OpenCV's fonts have no other letters. Black below white is legible on everything.
        line = (caption.encode("ascii", "replace").decode(), (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1)
        cv2.putText(frame, *line, (0, 0, 0), 4)
        cv2.putText(frame, *line, (255, 255, 255), 2)
        cv2.imshow(self._title, frame)
        return cv2.waitKey(1) & 0xFF != ord("q")
