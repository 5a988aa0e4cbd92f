"""Small videos."""

import numpy as np
import pytest


def write_video(path, frames, *, fps=10):
    """Writes a video of uint8 (height, width, 3) RGB frames, each compressed for itself."""
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    height, width, _ = frames[0].shape
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def plain(value, size=(48, 64)):
    """A frame of one colour."""
    return np.full((*size, 3), value, np.uint8)
