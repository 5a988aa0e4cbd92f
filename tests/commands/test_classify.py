"""bireal-classify as a person or a program runs it."""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from brightness import brightness
from commands import command
from lce_ops import Bconv2d, Op, Tensor, build_model, constant
from PIL import Image

from bireal_keras import runtime
from bireal_keras.image_file import SUFFIXES
from bireal_keras.runtime import Interpreter, Metadata, Normalization, load_image
from bireal_keras.runtime.results import Guess, top_k
from bireal_keras.tflite.metadata_writer import embed

NOT_AN_IMAGE = f"it is not an image of a kind that is read ({', '.join(SUFFIXES)})"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "brightness.tflite"
    path.write_bytes(brightness(threshold=0.5))
    return path


def picture(path, color, mode="RGB", size=(40, 30)):
    Image.new(mode, size, color).save(path)
    return path


def classify(*args):
    """Runs the command; `stderr` is without what LiteRT says of itself."""
    result = command("classify", *args)
    result.stderr = without_litert(result.stderr)
    return result


def without_litert(text):
    return "".join(line for line in text.splitlines(True) if not line.startswith("INFO: "))


def test_names_the_classes(model, tmp_path):
    images = [
        picture(tmp_path / "night.png", (3, 2, 9)),
        picture(tmp_path / "snow.jpg", (250, 250, 255)),
        picture(tmp_path / "grey.png", 240, mode="L", size=(5, 90)),
        picture(tmp_path / "glass.png", (0, 0, 0, 0), mode="RGBA"),
    ]
    result = classify(model, *images)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "".join(
        f"{image}\n  100.0%  {first}\n    0.0%  {second}\n"
        for image, first, second in zip(
            images,
            ["dark", "bright", "bright", "bright"],
            ["bright", "dark", "dark", "dark"],
        )
    )


def test_says_nothing_else(model, tmp_path):
    """Neither does LiteRT, which greets on stderr."""
    result = command("classify", model, picture(tmp_path / "night.png", (3, 2, 9)))
    assert (result.returncode, result.stderr) == (0, "")


def test_takes_the_folder_of_a_run(model, tmp_path):
    image = picture(tmp_path / "night.png", (3, 2, 9))
    run = tmp_path / "run"
    run.mkdir()
    result = classify(run, image)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"bireal-classify: There is no {run}/model.tflite. bireal-export --model_dir={run} "
        "writes it.\n"
    )
    (run / "model.tflite").write_bytes(model.read_bytes())
    result = classify(run, image)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1] == "  100.0%  dark"


def test_normalization_and_crop_are_the_files(tmp_path):
    """A picture with a bright border and a less bright centre."""
    pixels = np.full((20, 20, 3), 230, np.uint8)
    pixels[5:15, 5:15] = 100
    image = tmp_path / "x.png"
    Image.fromarray(pixels).save(image)
    found = []
    for threshold in (0.3, 0.55, 0.6):
        for center_crop in (1.0, 0.5):
            interpreter = Interpreter(brightness(threshold=threshold, center_crop=center_crop))
            scores = interpreter.predict(load_image(image, interpreter.metadata)[None])
            [guess] = top_k(scores[0], interpreter.metadata.labels, 1)
            found.append((guess.label, guess.probability))
    # 100 / 255 is 0.39, resized with the border 0.51; three quarters of the square are border.
    assert found == [("bright", 1.0)] * 2 + [("bright", 0.75), ("dark", 1.0)] * 2


def test_goes_on_after_a_broken_image(model, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no jpeg")
    truncated = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    Image.fromarray(noise).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").touch()
    good = picture(tmp_path / "good.png", (255, 255, 255))
    missing = tmp_path / "no\x1b[2J.png"
    result = classify(model, empty, broken, missing, truncated, good, "--top_k=1")
    assert result.returncode == 1
    assert result.stdout == f"{good}\n  100.0%  bright\n"
    prefix = f"bireal-classify: {tmp_path}"
    errors = result.stderr.splitlines()
    assert [error.split(": ")[1] for error in errors] == [
        str(empty),
        str(broken),
        f"{tmp_path}/no\\x1b[2J.png",
        str(truncated),
    ]
    assert errors[0].startswith(f"{prefix}/empty: there is no image in this folder (.avif, ")
    assert "it is not an image of a kind that is read (.avif, " in errors[1]
    assert errors[2].endswith(".png: No such file or directory")
    assert "truncated" in errors[3]


def test_a_pipe_is_not_waited_for(model, tmp_path):
    good = picture(tmp_path / "good.png", (255, 255, 255))
    os.mkfifo(tmp_path / "x.jpg")
    result = classify(model, tmp_path / "x.jpg", tmp_path, "--top_k=1")
    assert result.returncode == 1
    assert result.stdout == f"{good}\n  100.0%  bright\n"
    assert result.stderr == f"bireal-classify: {tmp_path}/x.jpg: it is not a regular file\n"


def test_without_pillow(model, tmp_path, monkeypatch):
    (tmp_path / "PIL.py").write_text("raise ModuleNotFoundError(\"No module named 'PIL'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = classify(model, "x.png")
    assert (result.returncode, result.stdout) == (1, "")
    message = "Images need Pillow, which is not installed: pip install Pillow."
    assert result.stderr == f"bireal-classify: {message}\n"
    assert classify("--help").returncode == 0


def grey(batch):
    """Two scores from (batch, 1, 2, 1) images: the left pixel, and the right one."""
    shape = constant(np.array([batch, 2], np.int32))
    tensors = [Tensor((batch, 1, 2, 1)), shape, Tensor((batch, 2))]
    content = build_model(tensors, [Op("RESHAPE", [0, 1], [2])], [0], [2])
    metadata = Metadata(("left", "right"), (1, 2), Normalization(0, 255), channels=1)
    return embed(content, metadata, name="grey")


@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_of_grey_images(tmp_path, batch):
    """Of any batch size. Colours become grey by their brightness: ITU-R BT.601."""
    path = tmp_path / "grey.tflite"
    path.write_bytes(grey(batch))
    assert Interpreter(path).metadata.channels == 1
    pixels = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    result = classify(path, tmp_path / "x.png", "--output=csv")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [row.split(",")[3:] for row in result.stdout.splitlines()[1:]]
    assert [name for name, _ in rows] == ["right", "left"]
    scores = [float(score) for _, score in rows]
    np.testing.assert_allclose(scores, [0.587, 0.299], atol=0.5 / 255)


class TestFromPython:
    @pytest.mark.parametrize("open_first", [False, True])
    def test_files_and_pixels(self, model, tmp_path, open_first):
        classifier = Interpreter(model) if open_first else model
        path = picture(tmp_path / "x.png", (200, 200, 200))
        pixels = np.full((30, 40, 3), 200, np.uint8)
        images = [path, str(path), io.BytesIO(path.read_bytes()), Image.open(path)]
        for image in (*images, pixels, pixels[..., 0]):
            guesses = runtime.classify(image, classifier)
            assert guesses == [Guess(1, "bright", 1.0), Guess(0, "dark", 0.0)]
        # The file's normalization, without which any pixel would be bright.
        [guess] = runtime.classify(np.full((9, 9, 3), 100, np.uint8), classifier, top_k=1)
        assert guess.label == "dark"

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_several_images(self, model, tmp_path, kind):
        path = picture(tmp_path / "x.png", (200, 200, 200))
        images = kind([path, np.zeros((5, 5, 3), np.uint8), Image.new("L", (9, 9), 255)])
        several = runtime.classify(images, model, top_k=1)
        assert [[guess.label for guess in guesses] for guesses in several] == [
            *(["bright"], ["dark"], ["bright"])
        ]
        assert runtime.classify(kind(), model) == []

    @pytest.mark.parametrize(
        "pixels",
        [np.zeros((4, 4, 3)), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((0, 3), np.uint8)],
    )
    def test_what_are_not_pixels(self, model, pixels):
        with pytest.raises(ValueError, match=r"`image` must .* Received: .*"):
            runtime.classify(pixels, model)

    @pytest.mark.parametrize("image", [None, 3, b"\xff\xd8\xff"])
    def test_what_is_no_image(self, model, image):
        message = rf"^an image must be a path, .*\. Received: {type(image).__name__}\.$"
        with pytest.raises(ValueError, match=message):
            runtime.classify([image], model)
        with pytest.raises(ValueError, match=message):
            load_image(image, runtime.read_metadata(model))


def test_a_folder_is_its_images_sorted(model, tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".cache").mkdir()
    for name in ("b/2.JPG", "b/10.png", "b/deep/x.webp", "a.png", ".hidden.png", ".cache/y.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "labels.txt").write_text("no image\n")
    (tmp_path / "weights.h5").write_text("no image\n")
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    result = classify(model, tmp_path, "--output=csv", "--top_k=1")
    assert (result.returncode, result.stderr) == (0, "")
    names = [row["image"] for row in csv.DictReader(io.StringIO(result.stdout))]
    assert names == [
        f"{tmp_path}/{name}" for name in ("a.png", "b/10.png", "b/2.JPG", "b/deep/x.webp")
    ]


def test_a_folder_that_cannot_be_read_leaves_the_others(model, tmp_path, monkeypatch):
    """Root may read every folder, and so the system's answer is made up."""
    for name in ("a/1.png", "b/2.png", "c/3.png", "d/4.png"):
        (tmp_path / name).parent.mkdir()
        picture(tmp_path / name, (0, 0, 0))
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "scandir = os.scandir\n"
        "def refusing(path='.'):\n"
        "    if os.path.basename(path) in ('b', 'd'):\n"
        "        raise PermissionError(13, 'Permission denied', path)\n"
        "    return scandir(path)\n"
        "os.scandir = refusing\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    result = classify(model, tmp_path, tmp_path / "d", "--output=csv", "--top_k=1")
    assert result.returncode == 1
    assert result.stderr == "".join(
        f"bireal-classify: {tmp_path}/{name}: Permission denied\n" for name in "bdd"
    )
    names = [row["image"] for row in csv.DictReader(io.StringIO(result.stdout))]
    assert names == [f"{tmp_path}/a/1.png", f"{tmp_path}/c/3.png"]


def test_csv(model, tmp_path):
    image = picture(tmp_path / 'night, "late".png', (3, 2, 9))
    result = classify(model, image, "--output=csv")
    assert list(csv.reader(io.StringIO(result.stdout))) == [
        ["image", "rank", "index", "label", "probability"],
        [str(image), "1", "0", "dark", "1.000000"],
        [str(image), "2", "1", "bright", "0.000000"],
    ]


def classify_bytes(model, content, *flags):
    return subprocess.run(
        [sys.executable, "-c", "from bireal_keras.commands import classify; classify.run()"]
        + [str(model), "-", *flags],
        input=content,
        capture_output=True,
    )


def test_json_and_standard_input(model, tmp_path):
    content = picture(tmp_path / "x.png", (255, 255, 255)).read_bytes()
    result = classify_bytes(model, content, "--output=json")
    assert result.returncode == 0, result.stderr
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "image": "-",
            "classes": [
                {"index": 1, "label": "bright", "probability": 1.0},
                {"index": 0, "label": "dark", "probability": 0.0},
            ],
        }
    ]
    for content, message in (
        (b"", "there is nothing on standard input"),
        (b"text", NOT_AN_IMAGE),
    ):
        result = classify_bytes(model, content)
        assert (result.returncode, result.stdout) == (1, b"")
        assert without_litert(result.stderr.decode()) == f"bireal-classify: -: {message}\n"


def test_names_that_a_terminal_cannot_show(tmp_path, monkeypatch):
    """Names come from anywhere: none may control the terminal, or stop the command."""
    path = tmp_path / "model.tflite"
    path.write_bytes(brightness(labels=("\x1b]0;title\x07", "猫")))
    image = picture(tmp_path / "white.png", (255, 255, 255))
    stray = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    os.rename(image, stray)
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    result = classify(path, os.fsdecode(stray))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{tmp_path}/caf\\udce9.png",
        "  100.0%  \\u732b",
        "    0.0%  \\x1b]0;title\\x07",
    ]
    assert json.loads(classify(path, os.fsdecode(stray), "--output=json").stdout)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda: Bconv2d(1, 4, 5, 64, 8).model(),
            "must take images (batch, height, width, 3), or 1 if they are grey, float32 or uint8. "
            "Received: int32 (1, 4, 5, 2).",
        ),
        (
            lambda: build_model(
                [Tensor((1, 4, 4, 3)), Tensor((1, 4, 4, 1), np.int32)],
                [Op("LceQuantize", [0], [1])],
                [0],
                [1],
            ),
            "must give float32 (batch, classes). Received: int32 (1, 4, 4, 1).",
        ),
        (lambda: brightness(labels=("one",)), "holds 1 class names for 2 classes."),
        (
            lambda: brightness(size=(4, 5)),
            "takes images of 4 x 4 pixels, and its metadata say 4 x 5.",
        ),
    ],
)
def test_unfit_models(tmp_path, content, message):
    path = tmp_path / "model.tflite"
    path.write_bytes(content())
    result = classify(path, picture(tmp_path / "x.png", (0, 0, 0)))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"bireal-classify: {path}: {message}\n"


@pytest.mark.parametrize(
    "args", [[], ["model.tflite"], ["--camera"], ["model.tflite", "x.png", "--camera"]]
)
def test_needs_a_model_and_images(args):
    result = classify(*args)
    assert result.returncode == 2
    assert "a model and images, or a model and --camera, are needed" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_model_that_gives_nan(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(brightness(bias=(np.nan, 0)))
    image = picture(tmp_path / "x.png", (0, 0, 0))
    result = classify(path, image)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"bireal-classify: {image}: the model gives NaN or infinity\n"


def start(model, *args, **options):
    return subprocess.Popen(
        [sys.executable, "-c", "from bireal_keras.commands import classify; classify.run()"]
        + [str(arg) for arg in (model, *args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_reader_that_leaves_early_is_no_error(model, tmp_path):
    image = picture(tmp_path / "x.png", (0, 0, 0))
    process = start(model, *[image] * 50)
    process.stdout.close()
    assert without_litert(process.stderr.read().decode()) == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_interrupt_has_no_traceback(model, tmp_path):
    """While it waits for an image on standard input."""
    image = picture(tmp_path / "x.png", (0, 0, 0))
    with start(model, image, "-", stdin=subprocess.PIPE) as process:
        process.stdout.readline()  # The command runs.
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        errors = without_litert(process.stderr.read().decode())
        assert errors == "bireal-classify: interrupted.\n"


CV2 = '''
"""Stands in for OpenCV: a camera that sees black, white, white, ..., and a window."""

import os

import numpy as np

CAP_PROP_BUFFERSIZE, FONT_HERSHEY_SIMPLEX = 38, 0
shown = []


class error(Exception):
    pass


class VideoCapture:
    def __init__(self, index):
        self.index, self.taken = index, 0

    def set(self, name, value):
        assert (name, value) == (CAP_PROP_BUFFERSIZE, 1)

    def isOpened(self):
        return self.index == 1

    def read(self):
        self.taken += 1
        if self.taken > int(os.environ["FRAMES"]):
            if os.environ["END"] == "interrupt":
                raise KeyboardInterrupt
            return False, None
        return True, np.full((30, 40, 3), 0 if self.taken == 1 else 255, np.uint8)

    def release(self):
        print("released")


def namedWindow(name):
    if os.environ["WINDOW"] == "none":
        raise error("The function is not implemented.")


def putText(frame, text, *_):
    shown.append(text)


def imshow(name, frame):
    assert frame.shape == (30, 40, 3)


def waitKey(milliseconds):
    return ord("q") if len(shown) == 2 * int(os.environ["FRAMES"]) else -1


def destroyAllWindows():
    print("shown:", *shown[::2], sep="|")
'''


def missing(module):
    """The text of a module that is not installed."""
    return f"raise ModuleNotFoundError(\"No module named '{module}'\", name='{module}')"


@pytest.fixture
def watch(model, tmp_path, monkeypatch):
    """Runs --camera with the stand-in, where there is no picamera2."""
    (tmp_path / "cv2.py").write_text(CV2)
    (tmp_path / "picamera2.py").write_text(missing("picamera2"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def run(*args, frames=3, end="", window="some", display=":0"):
        settings = {"FRAMES": str(frames), "END": end, "WINDOW": window, "DISPLAY": display}
        for name, value in settings.items():
            if value:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("END", end)
        return classify(model, *(args or ("--camera=1", "--top_k=1")))

    return run


def test_camera_with_a_window_until_q(watch):
    result = watch()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        *("camera 1", "  100.0%  dark", "camera 1", "  100.0%  bright"),
        *("camera 1", "  100.0%  bright", "shown:|100% dark|100% bright|100% bright", "released"),
    ]


@pytest.mark.parametrize("options", [{"window": "none"}, {"display": ""}])
def test_camera_without_a_screen_until_interrupted(watch, options):
    result = watch("--camera=1", "--output=csv", "--top_k=1", end="interrupt", **options)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "image,rank,index,label,probability",
        *(f"camera 1,1,{i},{name},1.000000" for i, name in [(0, "dark"), *[(1, "bright")] * 2]),
        "released",
    ]


def test_camera_that_vanishes(watch):
    result = watch(frames=1, window="none")
    assert result.returncode == 1
    assert result.stderr == "bireal-classify: camera 1 gives no picture any more.\n"
    assert result.stdout.endswith("dark\nreleased\n")


def test_no_such_camera(watch):
    for flag in ("--camera", "--camera=0", "--camera=7"):
        result = watch(flag)
        assert result.returncode == 1
        index = flag.partition("=")[2] or "0"
        assert result.stderr == (
            f"bireal-classify: camera {index} cannot be opened, or gives no picture.\n"
        )
    result = watch("--camera=front")
    assert result.returncode == 1
    assert result.stderr == (
        "bireal-classify: A camera is a number from 0, a video file or a device. Received: front, "
        "which is not a file.\n"
    )


def test_camera_without_opencv(watch, tmp_path):
    (tmp_path / "cv2.py").write_text(missing("cv2"))
    result = watch("--camera")
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("bireal-classify: OpenCV is not installed: pip install 'opencv-python-")


def test_the_pictures_of_a_video(model, tmp_path):
    """Black, then white, then black: as OpenCV itself reads them back."""
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for value in (0, 255, 0):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    result = classify(model, f"--camera={path}", "--output=csv", "--top_k=1")
    assert (result.returncode, result.stderr) == (0, "")
    assert [row.split(",")[3] for row in result.stdout.splitlines()[1:]] == [
        *("dark", "bright", "dark")
    ]


@pytest.mark.parametrize("content", [b"", b"no video\n", b"\0\0\0\x1cftypisom" + bytes(500)])
def test_a_video_that_cannot_be_read_is_one_line(model, tmp_path, content):
    """Also of FFmpeg, which OpenCV reads it with."""
    pytest.importorskip("cv2", reason="needs opencv-python-headless")
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    result = classify(model, f"--camera={path}")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"bireal-classify: {path} is not a video that OpenCV reads.\n"


class TestTheModel:
    def test_is_the_example_by_its_name(self, tmp_path):
        image = picture(tmp_path / "x.png", (10, 200, 30))
        result = classify("cifar10", image, "--top_k=1", "--output=json")
        assert (result.returncode, result.stderr) == (0, "")
        [found] = json.loads(result.stdout)["classes"]
        assert found["label"] == runtime.classify(image, runtime.example_model())[0].label

    def test_may_be_mistyped(self):
        result = classify("cifar", "x.png")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            "bireal-classify: There is no file or folder cifar. Near: cifar10. The model that "
            "comes with the package is called cifar10.\n"
        )
