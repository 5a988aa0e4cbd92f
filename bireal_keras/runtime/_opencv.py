"""OpenCV, where it is installed and works."""

import os
import platform
from types import ModuleType

import numpy as np


def load() -> ModuleType:
    """Imports OpenCV.

    Raises:
        ImportError: it is not installed, or does not fit the NumPy that is.
    """
    # It and its FFmpeg log on their own what we report, unless these are set before its import.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    try:
        import cv2
    except ModuleNotFoundError as error:
        if error.name not in (None, "cv2"):
            raise
        raise ImportError(f"OpenCV is not installed: {how_to_install()}.") from error
    except ImportError as error:
        # Debian 12's was compiled for NumPy 1, for example.
        raise ImportError(
            f"OpenCV does not work with the NumPy {np.__version__} of this environment "
            f"({' '.join(str(error).split())}): {how_to_install()}."
        ) from error
    return cv2


def how_to_install() -> str:
    """The line to type on this machine."""
    if platform.machine() in ("armv7l", "armv8l"):  # PyPI has no wheel for 32-bit Arm.
        return "sudo apt install python3-opencv"
    # From 4.12 on it wants NumPy 2, which Larq does not work with: pip would replace NumPy.
    limit = "<4.12" if int(np.__version__.partition(".")[0]) < 2 else ""
    return f"pip install 'opencv-python-headless{limit}'"
