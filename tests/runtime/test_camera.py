"""Which library opens which camera, and what is said where none does."""

import os
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
from videos import plain, write_video

from bireal_keras.runtime import camera, open_camera

try:
    import cv2 as real_cv2
except ImportError:
    real_cv2 = None

RED = (200, 10, 30)
ON_USB = "/base/axi/pcie@120000/rp1/usb@200000-1:1.0-046d:0825"
ON_THE_BOARD = "/base/axi/pcie@120000/rp1/i2c@88000/imx708@1a"
SYSTEM_PACKAGES = (
    "sudo apt install python3-picamera2, and an environment made by python3 -m venv "
    "--system-site-packages"
)


class FakePicamera2:
    """As picamera2 0.3 behaves: "BGR888" gives RGB arrays, a number for `wait` is seconds."""

    cameras = (ON_THE_BOARD, ON_USB)
    busy = False
    pictures = 3

    def __init__(self, index):
        self.index, self.taken, self.state = index, 0, "new"
        FakePicamera2.last = self
        if self.busy:
            raise RuntimeError("Camera __init__ sequence did not complete.")

    @classmethod
    def global_camera_info(cls):
        return [{"Id": name, "Num": number} for number, name in enumerate(cls.cameras)]

    def create_video_configuration(self, main):
        return {"main": main}

    def configure(self, configuration):
        assert configuration["main"]["format"] == "BGR888"
        self.size = configuration["main"]["size"]

    def start(self):
        self.state = "started"

    def capture_array(self, stream, wait):
        assert (stream, self.state) == ("main", "started")
        assert wait > 0
        self.taken += 1
        if self.taken > self.pictures:
            raise TimeoutError
        width, height = self.size
        return np.full((height, width, 3), RED, np.uint8)

    def close(self):
        self.state = "closed"


class FakeCapture:
    """As OpenCV 4 behaves."""

    pictures = types.MappingProxyType({0: 2, 7: 0, "/dev/null": 2})

    def __init__(self, source):
        self.source, self.left, self.released = source, self.pictures.get(source), False
        self.settings = {}
        FakeCapture.last = self

    def isOpened(self):
        return self.left is not None

    def set(self, name, value):
        self.settings[name] = value

    def read(self):
        if not self.left:
            return False, None
        self.left -= 1
        return True, np.full((30, 40, 3), RED[::-1], np.uint8)  # Blue, green, red.

    def release(self):
        self.released = True


@pytest.fixture(autouse=True)
def _a_pc(monkeypatch, tmp_path):
    """Neither a Raspberry Pi nor a camera library, whatever this machine is."""
    monkeypatch.setattr(camera, "_MACHINE", tmp_path / "model")
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setitem(sys.modules, "cv2", None)


@pytest.fixture
def raspberry_pi(tmp_path):
    (tmp_path / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")


@pytest.fixture
def picamera2(monkeypatch):
    class Fresh(FakePicamera2):
        pass

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Fresh))
    return Fresh


@pytest.fixture
def cv2(monkeypatch):
    module = SimpleNamespace(VideoCapture=FakeCapture, CAP_PROP_BUFFERSIZE=38, CAP_PROP_FPS=5)
    monkeypatch.setitem(sys.modules, "cv2", module)
    return module


def colours(images):
    return [image.getpixel((5, 5)) for image in images]


class TestPicamera2:
    def test_gives_rgb_until_the_camera_vanishes(self, picamera2, cv2):
        with open_camera(0) as pictures:
            assert (pictures.name, pictures.frame_rate) == ("camera 0", None)
            seen = []
            with pytest.raises(OSError, match=r"^camera 0 gives no picture any more\.$"):
                seen.extend(pictures)
        assert colours(seen) == [RED] * 3
        assert {(image.mode, image.size) for image in seen} == {("RGB", (1280, 960))}
        assert FakePicamera2.last.state == "closed"

    def test_leaves_cameras_on_usb_to_opencv(self, picamera2, cv2):
        picamera2.cameras = (ON_USB,)
        with open_camera(0) as pictures:
            assert next(iter(pictures)).size == (40, 30)
        assert FakeCapture.last.source == 0

    def test_a_camera_that_another_program_has(self, picamera2):
        picamera2.busy = True
        with pytest.raises(ValueError, match=r"^camera 0 cannot be opened: .* complete\. Perhaps"):
            open_camera(0)

    def test_a_camera_that_fails_to_start_is_closed(self, picamera2, monkeypatch):
        def fail(self):
            raise RuntimeError("no bandwidth")

        monkeypatch.setattr(picamera2, "start", fail)
        with pytest.raises(ValueError, match="camera 0 cannot be opened: no bandwidth"):
            open_camera(0)
        assert FakePicamera2.last.state == "closed"

    def test_without_opencv(self, picamera2):
        with pytest.raises(ValueError, match="picamera2 finds no camera 1, and OpenCV, for "):
            open_camera(1)

    def test_that_cannot_be_imported(self, monkeypatch, cv2, tmp_path):
        """As from PyPI, without libcamera."""
        (tmp_path / "picamera2.py").write_text("import libcamera_of_the_system\n")
        monkeypatch.delitem(sys.modules, "picamera2")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(
            ImportError, match=r"cannot be imported \(No module named 'libc"
        ) as error:
            open_camera(0)
        assert SYSTEM_PACKAGES in str(error.value)

    def test_with_another_numpy_than_the_systems(self, monkeypatch, cv2, tmp_path):
        """As its package simplejpeg says it."""
        (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')\n")
        monkeypatch.delitem(sys.modules, "picamera2")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ImportError, match=r"dtype size changed\): pip uninstall numpy"):
            open_camera(0)


class TestOpenCV:
    def test_gives_rgb_until_the_camera_vanishes(self, cv2):
        with open_camera(0) as pictures:
            seen = []
            with pytest.raises(OSError, match=r"^camera 0 gives no picture any more\.$"):
                seen.extend(pictures)
        assert colours(seen) == [RED] * 2
        # Of a driver's queue, a slow model would be shown what is long gone.
        assert FakeCapture.last.settings == {38: 1}
        assert FakeCapture.last.released

    @pytest.mark.parametrize("index", [7, 8])
    def test_an_open_camera_may_give_nothing(self, cv2, index):
        with pytest.raises(
            ValueError, match=r"^camera \d cannot be opened, or gives no picture\.$"
        ):
            open_camera(index)
        assert FakeCapture.last.released

    def test_on_a_raspberry_pi_it_cannot_read_the_own_camera(self, cv2, raspberry_pi):
        with pytest.raises(ValueError, match=r"camera 7 .* A Raspberry Pi's own: ") as error:
            open_camera(7)
        assert SYSTEM_PACKAGES in str(error.value)

    def test_a_device_by_its_path(self, cv2):
        with open_camera("/dev/null") as pictures:
            assert pictures.frame_rate is None
            with pytest.raises(OSError, match="/dev/null gives no picture any more"):
                list(pictures)

    @pytest.mark.parametrize("name", ["nothing.mp4", "."])
    def test_no_file(self, cv2, name):
        with pytest.raises(ValueError, match=r"Received: .*, which is not a file"):
            open_camera(name)

    def test_a_pipe_is_not_waited_for(self, cv2, tmp_path):
        os.mkfifo(tmp_path / "clip.mp4")
        with pytest.raises(ValueError, match=r"Received: .*clip\.mp4, which is not a file"):
            open_camera(tmp_path / "clip.mp4")

    @pytest.mark.parametrize("index", [-1, 2**31, 99999999999999])
    def test_no_number_of_a_camera(self, cv2, index):
        with pytest.raises(ValueError, match=rf"a number from 0 to \d+\. Received: {index}\.$"):
            open_camera(index)


class TestNothingInstalled:
    @pytest.mark.parametrize(
        ("numpy", "machine", "line"),
        [
            ("1.26.4", "x86_64", "pip install 'opencv-python-headless<4.12'"),
            ("2.3.1", "aarch64", "pip install 'opencv-python-headless'"),
            ("1.26.4", "armv7l", "sudo apt install python3-opencv"),
        ],
    )
    def test_the_line_to_type(self, monkeypatch, numpy, machine, line):
        monkeypatch.setattr(np, "__version__", numpy)
        monkeypatch.setattr("platform.machine", lambda: machine)
        with pytest.raises(ImportError) as error:
            open_camera(0)
        assert str(error.value) == f"OpenCV is not installed: {line}."

    def test_on_a_raspberry_pi(self, raspberry_pi):
        with pytest.raises(ImportError) as error:
            open_camera(0)
        message = str(error.value)
        assert SYSTEM_PACKAGES in message
        assert message.index("picamera2") < message.index("OpenCV is not installed: ")

    def test_opencv_for_another_numpy(self, monkeypatch, tmp_path):
        """As Debian 12's says it in an environment with NumPy 2."""
        (tmp_path / "cv2.py").write_text(
            "raise ImportError('numpy.core.multiarray failed to import')\n"
        )
        monkeypatch.delitem(sys.modules, "cv2")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ImportError) as error:
            open_camera(0)
        message = str(error.value)
        assert f"does not work with the NumPy {np.__version__} of this environment" in message
        assert "multiarray failed to import" in message
        assert "pip install" in message


class TestVideoFile:
    @pytest.fixture(autouse=True)
    def _real_opencv(self, monkeypatch):
        if real_cv2 is None:
            pytest.skip("needs opencv-python-headless")
        monkeypatch.setitem(sys.modules, "cv2", real_cv2)

    def test_its_pictures_in_order_then_its_end(self, tmp_path):
        values = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]
        path = write_video(tmp_path / "clip.avi", [plain(value) for value in values], fps=12)
        with open_camera(path) as pictures:
            assert pictures.name == str(path)
            assert pictures.frame_rate == pytest.approx(12)
            seen = colours(pictures)
        # JPEG rounds.
        np.testing.assert_allclose(seen, values, atol=6)

    @pytest.mark.parametrize("content", [b"", b"no video" * 100])
    def test_no_video(self, tmp_path, content):
        path = tmp_path / "clip.mp4"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"clip\.mp4 is not a video that OpenCV reads"):
            open_camera(path)

    def test_one_that_breaks_off(self, tmp_path):
        path = write_video(tmp_path / "clip.avi", [plain(value) for value in range(0, 250, 10)])
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with open_camera(path) as pictures:
            assert 0 < len(list(pictures)) < 25


def test_a_frame_rate_that_makes_no_sense():
    assert [camera._frame_rate(value) for value in (25.0, 0.0, float("nan"), 1e9)] == [
        25,
        30,
        30,
        30,
    ]
