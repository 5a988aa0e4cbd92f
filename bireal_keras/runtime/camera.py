"""Pictures of a camera: of a Raspberry Pi's own through picamera2, of others through OpenCV.

OpenCV does not read the cameras of libcamera, which a Raspberry Pi's are: it may open one and
gives no picture (https://github.com/opencv/opencv/issues/21653). picamera2 is Debian's package
python3-picamera2, for the system's Python. A video file is read by OpenCV, too.
"""

import abc
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bireal_keras._pillow import Image
from bireal_keras.runtime import _opencv

# A Raspberry Pi says here what it is.
_MACHINE = Path("/proc/device-tree/model")
# Of sensors like the IMX219 the smallest modes show only the middle of what they see.
_PI_SIZE = (1280, 960)
# A camera that starts, or exposes for long in the dark, takes a second or two.
_PI_PATIENCE_SECONDS = 5.0
# OpenCV takes the number as a C++ int.
_MAX_INDEX = 2**31 - 1
_DEFAULT_FRAME_RATE = 30.0
_MAX_FRAME_RATE = 240.0
_PICAMERA2 = (
    "sudo apt install python3-picamera2, and an environment made by python3 -m venv "
    "--system-site-packages"
)


class Camera(abc.ABC):
    """Yields RGB pictures, until a video file ends.

        with open_camera(0) as camera:
            for image in camera:
                ...

    Attributes:
        name: what to call it in a message.
        frame_rate: of a video file, in pictures a second; None of a camera, which has its own
            pace.
    """

    name: str
    frame_rate: float | None = None

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Image.Image]:
        """The pictures.

        Raises:
            OSError: the camera gives no more.
        """
        while (image := self._read()) is not None:
            yield image

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of the camera, so that others can use it."""

    @abc.abstractmethod
    def _read(self) -> Image.Image | None:
        """The next picture, None after the end of a file."""

    def _gone(self) -> OSError:
        return OSError(f"{self.name} gives no picture any more.")


def open_camera(source: int | str | os.PathLike[str]) -> Camera:
    """Opens a camera or a video file.

    Args:
        source: which camera, the first being 0: picamera2's where it sees so many that are not
            on USB, or else OpenCV's. Or the path of a video file, or of a device like
            /dev/video8.

    Raises:
        ImportError: it takes a package that is not installed, or does not work here.
        ValueError: there is no such camera or file, or it gives no picture.
    """
    if not isinstance(source, int):
        path = Path(source)
        # A pipe would be waited for, and not even Ctrl-C ends that.
        if not path.is_file() and not path.is_char_device():
            raise ValueError(
                "A camera is a number from 0, a video file or a device. Received: "
                f"{path}, which is not a file."
            )
        return _OpenCvCamera(str(path), _opencv.load(), is_file=path.is_file())
    if not 0 <= source <= _MAX_INDEX:
        raise ValueError(f"A camera is a number from 0 to {_MAX_INDEX}. Received: {source}.")
    picamera2 = _load_picamera2()
    if picamera2 is not None and source < _count_pi_cameras(picamera2):
        return _PiCamera(source, picamera2)
    try:
        cv2 = _opencv.load()
    except ImportError as error:
        if picamera2 is not None:
            raise ValueError(
                f"picamera2 finds no camera {source}, and OpenCV, for cameras on USB, cannot look "
                f"for it. {error}"
            ) from error
        if _is_raspberry_pi():
            raise ImportError(
                f"A Raspberry Pi's own camera takes picamera2, which this Python does not find: "
                f"{_PICAMERA2}. One on USB takes OpenCV. {error}"
            ) from error
        raise
    return _OpenCvCamera(source, cv2, is_file=False)


def _is_raspberry_pi() -> bool:
    try:
        return _MACHINE.read_bytes().startswith(b"Raspberry Pi")
    except OSError:
        return False


def _load_picamera2() -> ModuleType | None:
    # libcamera says on stderr what every camera can do, unless this is set before its import.
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    try:
        import picamera2
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (None, "picamera2"):
            return None
        # From PyPI, for example, it comes without libcamera.
        raise ImportError(
            "picamera2 is installed and cannot be imported "
            f"({' '.join(str(error).split())}): {_PICAMERA2}."
        ) from error
    except ValueError as error:
        # The system's packages were compiled for the system's NumPy, and find another one.
        raise ImportError(
            f"picamera2 does not work with the NumPy {np.__version__} of this environment "
            f"({' '.join(str(error).split())}): pip uninstall numpy, which leaves the system's."
        ) from error
    return picamera2


def _count_pi_cameras(picamera2: ModuleType) -> int:
    # It lists cameras on USB after the others, and does not convert what they give.
    cameras = picamera2.Picamera2.global_camera_info()
    return sum("/usb" not in camera["Id"] for camera in cameras)


class _PiCamera(Camera):
    def __init__(self, index: int, picamera2: ModuleType):
        self.name = f"camera {index}"
        self._device: Any = None
        try:
            self._device = picamera2.Picamera2(index)
            # The name is that of the order in a little-endian word: the array is RGB.
            main = {"size": _PI_SIZE, "format": "BGR888"}
            self._device.configure(self._device.create_video_configuration(main=main))
            self._device.start()
        except Exception as error:  # The driver's, which raises whatever it likes.
            self.close()
            raise ValueError(
                f"{self.name} cannot be opened: {' '.join(str(error).split())} "
                "Perhaps another program uses it."
            ) from error

    def close(self) -> None:
        if self._device is not None:
            self._device.close()  # It stops before.

    def _read(self) -> Image.Image:
        try:
            pixels = self._device.capture_array("main", wait=_PI_PATIENCE_SECONDS)
        except Exception as error:
            raise self._gone() from error
        return Image.fromarray(pixels)


class _OpenCvCamera(Camera):
    def __init__(self, source: int | str, cv2: ModuleType, *, is_file: bool):
        self.name = f"camera {source}" if isinstance(source, int) else source
        self._is_file = is_file
        self._capture = cv2.VideoCapture(source)
        if is_file:
            self.frame_rate = _frame_rate(self._capture.get(cv2.CAP_PROP_FPS))
        else:
            # What waits in the driver's buffers is old.
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        # To be open says little: OpenCV opens cameras that it cannot read.
        self._first = self._grab() if self._capture.isOpened() else None
        if self._first is None:
            self.close()
            raise ValueError(self._why_not())

    def close(self) -> None:
        self._capture.release()

    def _read(self) -> Image.Image | None:
        image, self._first = self._first or self._grab(), None
        if image is None and not self._is_file:
            raise self._gone()
        return image

    def _grab(self) -> Image.Image | None:
        there_is_one, frame = self._capture.read()
        if not there_is_one or frame is None:
            return None
        # OpenCV's order is blue, green, red.
        return Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))

    def _why_not(self) -> str:
        if self._is_file:
            return f"{self.name} is not a video that OpenCV reads."
        message = f"{self.name} cannot be opened, or gives no picture."
        return f"{message} A Raspberry Pi's own: {_PICAMERA2}." if _is_raspberry_pi() else message


def _frame_rate(value: float) -> float:
    """What a file says of itself, if it makes sense."""
    if math.isfinite(value) and 0 < value <= _MAX_FRAME_RATE:
        return value
    return _DEFAULT_FRAME_RATE
