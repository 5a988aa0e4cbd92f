"""Says what is in a picture.

Usage: bireal-classify [flags] MODEL IMAGE [IMAGE ...]
       bireal-classify [flags] MODEL --camera[=1]
       bireal-classify [flags] MODEL --camera=FILE.mp4

MODEL is a .tflite file, a folder of bireal-train with the file that bireal-export put into it, or
cifar10, the model that comes with the package.

Prints the most probable classes of each image: a file (AVIF, BMP, GIF, JPEG, JPEG 2000, PGM, PNG,
PPM, TIFF or WebP), a folder, which stands for all images in it and in the folders below, or - for
standard input.

The image is turned upright, cropped, resized and normalized as the model's file says, which also
has the names of the classes. What is transparent becomes white. An image or a folder that cannot
be read is reported and the next one goes on; the exit status is then 1.
"""

import io
import os
import sys
import warnings

from absl import app, flags

from bireal_keras import _native_log
from bireal_keras.commands import _camera_flag, _cli, _model_argument
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.results import CsvWriter, JsonWriter, TextWriter, Writer, printable

_STDIN = "-"
# A photo has a few million bytes.
_MAX_STDIN_BYTES = 2**28


_TOP_K = flags.DEFINE_integer("top_k", 5, "How many classes to print.", lower_bound=1)
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads to compute with.", lower_bound=1, upper_bound=64
)
_OUTPUT = flags.DEFINE_enum(
    "output",
    "text",
    ["text", "csv", "json"],
    "csv: a row for each class. json: an object for each image, one a line.",
)
_CAMERA = _camera_flag.define(
    None,
    "Instead of images: what a camera sees, --camera=1 being the second one, until q is pressed "
    "in its window or Ctrl-C; or all pictures of a video, --camera=FILE.mp4. Takes picamera2 or "
    "OpenCV.",
)


def main(args: list[str]) -> int:
    camera = _CAMERA.value
    if not args or (len(args) == 1) != (camera is not None):
        raise app.UsageError("a model and images, or a model and --camera, are needed.")
    model, *arguments = _model_argument.resolve(args[0]), *args[1:]
    # Pillow warns of large images and odd tags; what matters becomes an error.
    warnings.simplefilter("ignore")
    # It is imported here because --help and a mistyped flag do not need Pillow.
    from bireal_keras.runtime import classifier

    with _native_log.quiet():  # LiteRT greets.
        interpreter = Interpreter(model, num_threads=_NUM_THREADS.value)
    classifier.check(interpreter)
    if camera is not None:
        _watch(camera, interpreter)
        return 0

    names: list[str] = []
    complaints = 0
    for argument in arguments:
        found, unread = _names(argument)
        names += found
        for name, error in unread:
            _complain(name, error)
        complaints += len(unread)
    writer = _writer()
    for name in names:
        try:
            guesses = classifier.classify(_source(name), interpreter, top_k=_TOP_K.value)
        except (OSError, ValueError) as error:
            _complain(name, error)
            complaints += 1
        else:
            writer.write(name, guesses)
    return _cli.FAILURE if complaints else 0


def _names(argument: str) -> tuple[list[str], list[tuple[str, Exception]]]:
    """The images that an argument stands for: itself, or those in a folder, sorted.

    And which folders cannot be read, or have none, and why.
    """
    from bireal_keras.image_file import SUFFIXES, is_named_like_one

    if not os.path.isdir(argument):
        return [argument], []
    names: list[str] = []
    unread: list[tuple[str, Exception]] = []
    walk = os.walk(argument, onerror=lambda error: unread.append((error.filename, error)))
    for folder, subfolders, files in walk:
        # Hidden entries are other programs' notes (.DS_Store, ._photo.jpg, .cache).
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        names += [
            os.path.join(folder, name)
            for name in files
            if not name.startswith(".") and is_named_like_one(os.path.join(folder, name))
        ]
    if not names and not unread:
        nothing = ValueError(f"there is no image in this folder ({', '.join(SUFFIXES)})")
        unread.append((argument, nothing))
    return sorted(names), sorted(unread, key=lambda complaint: complaint[0])


def _source(name: str) -> str | io.BytesIO:
    if name != _STDIN:
        return name
    content = sys.stdin.buffer.read(_MAX_STDIN_BYTES + 1)
    if not content:
        raise ValueError("there is nothing on standard input")
    if len(content) > _MAX_STDIN_BYTES:
        raise ValueError(f"an image must take at most {_MAX_STDIN_BYTES:,} bytes")
    return io.BytesIO(content)


def _watch(source: int | str, interpreter: Interpreter) -> None:
    from bireal_keras.runtime.camera import open_camera
    from bireal_keras.runtime.classifier import classify
    from bireal_keras.runtime.window import Window

    writer = _writer(in_place=True)
    try:
        with open_camera(source) as camera, Window("bireal-classify (q quits)") as window:
            for image in camera:
                guesses = classify(image, interpreter, top_k=_TOP_K.value)
                writer.write(camera.name, guesses)
                if not window.show(image, f"{guesses[0].probability:.0%} {guesses[0].name}"):
                    break
    except KeyboardInterrupt:
        pass  # This is the way to stop where there is no window.


def _writer(in_place: bool = False) -> Writer:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is not a reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    if _OUTPUT.value == "csv":
        return CsvWriter(sys.stdout)
    if _OUTPUT.value == "json":
        return JsonWriter(sys.stdout)
    return TextWriter(sys.stdout, in_place=in_place)


def _complain(name: str, error: Exception) -> None:
    # The text of an OSError from the system repeats the path.
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    print(f"bireal-classify: {printable(name)}: {reason}", file=sys.stderr)


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-classify", main, module=__name__, doc=__doc__)
